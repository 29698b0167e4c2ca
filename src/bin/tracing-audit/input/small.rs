//! Reads the small files that options name, or that lie beside others: checkpoints, states, plans and manifests.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// The most bytes of such a file, in MiB. The largest that the command writes have a fraction of it.
const MOST_MIB: u64 = 16;

/// The bytes at the end of a file that grows: some thousand lines of a notary.
const END: u64 = 1 << 20;

/// The directories of the descriptors that the caller has opened.
const OF_CALLER: [&str; 3] = ["/dev/stdin", "/dev/fd", "/proc/self/fd"];

/// Reads a file that somebody else may have put there: waits for no pipe, reads no device, and holds no more than 16 MiB.
///
/// # Errors
/// The kind is `NotFound` if there is no such file, and `InvalidData` if it is not a small file.
pub(crate) fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    if file.metadata()?.len() > MOST_MIB << 20 { Err(too_large()) } else { at_most(file) }
}

/// The same of a file that an option names, which may also be a pipe that the caller has opened: standard input, or
/// `<(..)` of a shell.
pub(crate) fn read_small_or_pipe(path: &Path) -> io::Result<Vec<u8>> {
    if is_pipe_of_caller(path)? { at_most(File::open(path)?) } else { read_small(path) }
}

/// Opens a file of any length that an option names, or a pipe that the caller has opened. Waits for no other pipe, and reads no
/// device.
pub(crate) fn open_or_pipe(path: &Path) -> io::Result<File> {
    if is_pipe_of_caller(path)? { File::open(path) } else { open(path) }
}

fn is_pipe_of_caller(path: &Path) -> io::Result<bool> {
    let is_file = fs::metadata(path)?.is_file();
    Ok(!is_file && OF_CALLER.iter().any(|those| path.starts_with(those)))
}

/// An error if a pipe, a device or a directory is in the place of a file that may exist or not.
pub(crate) fn refuse_no_file(path: &Path) -> io::Result<()> {
    fs::metadata(path).map_or(Ok(()), |found| check(&found))
}

/// The last lines of a file to which others append, however long it is, if it begins with this byte, and whether these are all.
/// `None` if it begins otherwise, or is no file.
pub(crate) fn read_end(path: &Path, begin: u8) -> io::Result<Option<(Vec<u8>, bool)>> {
    let Ok(mut file) = open(path) else { return Ok(None) };
    let mut first = [0];
    if file.read(&mut first)? == 0 || first != [begin] {
        return Ok(None);
    }
    let start = file.metadata()?.len().saturating_sub(END);
    file.seek(SeekFrom::Start(start))?;
    let mut end = at_most(file)?;
    if start > 0 {
        // The rest of a line.
        let rest = end.iter().position(|byte| *byte == b'\n').map_or(end.len(), |at| at + 1);
        end.drain(..rest);
    }
    Ok(Some((end, start == 0)))
}

/// The bytes as text.
pub(crate) fn text_of(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| refused("it is no text".to_owned()))
}

fn open(path: &Path) -> io::Result<File> {
    // Looked at before it is opened: to open a device may have effects.
    check(&fs::metadata(path)?)?;
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.bits().cast_signed());
    }
    let file = options.open(path)?;
    check(&file.metadata()?)?;
    Ok(file)
}

fn check(found: &Metadata) -> io::Result<()> {
    if found.is_dir() {
        return Err(refused("it is a directory, not a file".to_owned()));
    }
    if !found.is_file() {
        return Err(refused("it is a pipe or a device, not a file".to_owned()));
    }
    Ok(())
}

fn at_most(file: File) -> io::Result<Vec<u8>> {
    let (mut bytes, most) = (Vec::new(), MOST_MIB << 20);
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_large()) } else { Ok(bytes) }
}

fn too_large() -> io::Error {
    refused(format!("it has more than {MOST_MIB} MiB, and no such file has"))
}

fn refused(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
