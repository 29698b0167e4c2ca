//! Positioned reads and writes, and preallocation.

use std::{fs::File, io};

/// Allocates the space of a file now, so that no later write runs out of it. Bytes that are not written read as zeros.
pub(crate) fn allocate(file: &File, size: usize) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    loop {
        match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, size as u64) {
            Ok(()) => return Ok(()),
            // A signal has come.
            Err(rustix::io::Errno::INTR) => {}
            // This file system cannot preallocate: write zeros instead.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => break,
            Err(cause) => return Err(cause.into()),
        }
    }
    let zeros = vec![0; 64 * 1024];
    let mut at = 0;
    while at < size {
        let piece = zeros.get(..zeros.len().min(size - at)).unwrap_or(&zeros);
        write_all_at(file, piece, at as u64)?;
        at += piece.len();
    }
    Ok(())
}

#[cfg(unix)]
pub(crate) fn write_all_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, at)
}

#[cfg(windows)]
pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, bytes, at)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(written..).unwrap_or(&[]);
        at += written as u64;
    }
    Ok(())
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, at)
}

/// Fills the buffer, or as much of it as the file has bytes for from this offset on. Returns the number of bytes read.
pub(crate) fn read_up_to(file: &File, buffer: &mut [u8], offset: usize) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match read_at(file, rest, (offset + read) as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(read)
}

/// Whether the disk cannot read this part of a file.
pub(crate) fn is_unreadable(cause: &io::Error) -> bool {
    #[cfg(unix)]
    return cause.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
    #[cfg(not(unix))]
    {
        let _ = cause;
        false
    }
}

/// Like [`read_up_to`], but goes on behind pages that the disk cannot read: their bytes are all ones. Returns the number of
/// bytes, and how many of them could not be read.
pub(crate) fn read_past_errors(file: &File, buffer: &mut [u8], offset: usize) -> io::Result<(usize, usize)> {
    const PAGE: usize = 4096;
    match read_up_to(file, buffer, offset) {
        Err(cause) if is_unreadable(&cause) => {}
        read => return read.map(|read| (read, 0)),
    }
    let (mut read, mut unread) = (0, 0);
    while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
        let piece = rest.len().min(PAGE - (offset + read) % PAGE);
        let (page, _) = rest.split_at_mut(piece);
        match read_up_to(file, page, offset + read) {
            Ok(whole) if whole == piece => {}
            Ok(last) => return Ok((read + last, unread)),
            Err(cause) if is_unreadable(&cause) => {
                page.fill(0xff);
                unread += piece;
            }
            Err(cause) => return Err(cause),
        }
        read += piece;
    }
    Ok((read, unread))
}

/// Opens a file for reading that somebody else may have put there: waits for no pipe, and reads no device.
pub(crate) fn open_regular(path: &std::path::Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK | libc::O_NOCTTY);
    // Looked at before it is opened: to open a device may have effects.
    if std::fs::metadata(path)?.is_file() {
        let file = options.open(path)?;
        if file.metadata()?.is_file() {
            return Ok(file);
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "a pipe, a device or a directory, not a file"))
}

/// Opens a file to append to it, or makes one that only this user may write. Waits for no pipe, and writes to no device.
pub(crate) fn append_to(path: &std::path::Path) -> io::Result<File> {
    // Looked at before it is opened: to open a device may have effects.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a pipe, a device or a directory, not a file",
        ));
    }
    let mut options = File::options();
    options.create(true).append(true).read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o644);
    options.open(path)
}

/// A file that is open for reading until the process ends, once however often it is asked for. To close a file in which
/// connections of this process hold locks would give them up, whichever descriptor it is that is closed.
#[cfg(all(unix, feature = "_sqlite"))]
pub(crate) fn kept_open(path: &std::path::Path) -> io::Result<std::sync::Arc<File>> {
    use std::{
        collections::{BTreeMap, btree_map::Entry},
        fs::Metadata,
        os::unix::fs::MetadataExt,
        sync::{Arc, Mutex},
    };
    static KEPT: Mutex<BTreeMap<(u64, u64), Arc<File>>> = Mutex::new(BTreeMap::new());
    let id = |found: &Metadata| (found.dev(), found.ino());
    let mut kept = super::sync::lock(&KEPT);
    if let Some(file) = kept.get(&id(&std::fs::metadata(path)?)) {
        return Ok(Arc::clone(file));
    }
    let file = Arc::new(open_regular(path)?);
    match kept.entry(id(&file.metadata()?)) {
        Entry::Vacant(place) => Ok(Arc::clone(place.insert(file))),
        // The path has come to name a file that is kept already: there are two descriptors of it now.
        Entry::Occupied(place) => {
            std::mem::forget(file);
            Ok(Arc::clone(place.get()))
        }
    }
}

/// Elsewhere locks belong to what was opened, and closing something else costs none.
#[cfg(all(not(unix), feature = "_sqlite"))]
pub(crate) fn kept_open(path: &std::path::Path) -> io::Result<std::sync::Arc<File>> {
    open_regular(path).map(std::sync::Arc::new)
}

/// Whether this process may make files in a directory. False also if the file system is mounted read-only.
#[cfg(all(unix, feature = "_sqlite"))]
pub(crate) fn may_write_in(directory: &std::path::Path) -> bool {
    use rustix::fs::Access;
    rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// Unknown on this system until it is tried.
#[cfg(all(not(unix), feature = "_sqlite"))]
pub(crate) fn may_write_in(_directory: &std::path::Path) -> bool {
    true
}

/// Writes zeros over the start of a file in which locks may be held by this process. The file stays open until the
/// process ends, because closing it would give them up.
#[cfg(feature = "_sqlite")]
pub(crate) fn blank(path: &std::path::Path, len: usize) -> io::Result<()> {
    let file = std::mem::ManuallyDrop::new(File::options().write(true).open(path)?);
    write_all_at(&file, &vec![0; len], 0)
}

/// The directory in which SQLite makes its temporary files: the first of these that this process may write to. `None`: it
/// can make none, and says "disk I/O error".
#[cfg(all(unix, feature = "_sqlite"))]
pub(crate) fn temporary_directory() -> Option<std::path::PathBuf> {
    let set = ["SQLITE_TMPDIR", "TMPDIR"].into_iter().filter_map(std::env::var_os);
    let known = ["/var/tmp", "/usr/tmp", "/tmp", "."].map(Into::into);
    set.chain(known).map(std::path::PathBuf::from).find(|place| place.is_dir() && may_write_in(place))
}

/// Other systems name the directory themselves, and always name one.
#[cfg(all(not(unix), feature = "_sqlite"))]
pub(crate) fn temporary_directory() -> Option<std::path::PathBuf> {
    Some(std::env::temp_dir())
}
