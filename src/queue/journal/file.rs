//! Positioned reads and writes, taking space, and syncing: the only part of the journal that knows the operating
//! system.

use std::{fs::File, io, path::Path};

/// Takes the space now, so that no later write can find none. What is not written reads as zeros.
pub(super) fn allocate(file: &File, size: usize) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, size as u64) {
        Ok(()) => return Ok(()),
        // A file system that cannot: by writing, then.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        Err(cause) => return Err(cause.into()),
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
pub(super) fn write_all_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, at)
}

#[cfg(windows)]
pub(super) fn write_all_at(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
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

/// Fills the buffer as far as the file goes.
pub(super) fn read_up_to(file: &File, buffer: &mut [u8], offset: usize) -> io::Result<usize> {
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

/// Makes the names in a directory durable.
#[cfg(unix)]
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// NTFS journals names by itself, and has no call for it.
#[cfg(windows)]
pub(super) fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}
