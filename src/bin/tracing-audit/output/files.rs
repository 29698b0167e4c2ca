//! Writes files that appear only when they are complete. What exists keeps its owner and its mode.

use std::{
    ffi::OsStr,
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Seek, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::temporary::Temporary;
use crate::failure::Failure;

/// The most links that lead from one to another, as for the system.
const LINKS: usize = 40;

/// A file that is being written.
pub(crate) enum NewFile {
    /// It gets the name `path` when it is complete.
    Beside { file: Temporary, path: PathBuf },
    /// A device or a pipe, into which everything is written as it comes.
    Stream { file: File, path: PathBuf },
}

impl NewFile {
    /// Begins to write the file that this path names, at the end of its links.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let named = |error: io::Error| with_path(path, &error);
        if is_stream(path) {
            // A descriptor of the caller's may be a file that has contents already.
            let file = OpenOptions::new().append(true).open(path).map_err(named)?;
            return Ok(Self::Stream { file, path: path.to_owned() });
        }
        let path = at_end_of_links(path);
        if path.is_dir() {
            return Err(named(io::ErrorKind::IsADirectory.into()));
        }
        let file = Temporary::beside(&path).map_err(named)?;
        Ok(Self::Beside { file, path })
    }

    /// Syncs the file and gives it its name.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self {
            Self::Stream { .. } => Ok(()),
            Self::Beside { file, path } => {
                let done = file.file().sync_all().and_then(|()| replace(file.path(), file.file(), &path));
                done.map_err(|error| with_path(&path, &error))
            }
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (mut file, path) = match self {
            Self::Beside { file, path } => (file.file(), path),
            Self::Stream { file, path } => (&*file, path),
        };
        file.write(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => with_path(path, &error),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether the path names a device, a pipe or a descriptor of the caller's, which can only be written to.
pub(crate) fn is_stream(path: &Path) -> bool {
    let of_descriptors = ["/dev/fd", "/proc/self/fd", "/dev/stdout", "/dev/stderr"];
    of_descriptors.iter().any(|those| path.starts_with(those))
        || fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Where the links lead, also if there is nothing yet.
pub(crate) fn at_end_of_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let Ok(next) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("")).join(next);
    }
    path
}

/// Gives a complete file this name. A file that has the name already keeps its owner and its mode: the new one takes them
/// over, or, if that is not allowed or the file has other names too, its contents are copied into the old one.
pub(crate) fn replace(new: &Path, mut file: &File, path: &Path) -> io::Result<()> {
    match fs::metadata(path).ok().filter(Metadata::is_file) {
        Some(old) if !is_only_name(&old) || take_over(file, &old).is_err() => {
            let mut into = OpenOptions::new().write(true).truncate(true).open(path)?;
            file.rewind()?;
            io::copy(&mut file, &mut into)?;
            into.sync_all()?;
            fs::remove_file(new)
        }
        _ => fs::rename(new, path),
    }
}

#[cfg(unix)]
fn is_only_name(found: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(found) == 1
}

#[cfg(not(unix))]
fn is_only_name(_found: &Metadata) -> bool {
    true
}

/// Gives a file the owner and the mode of another.
fn take_over(file: &File, old: &Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
            fchown(file, Some(old.uid()), Some(old.gid()))?;
        }
    }
    file.set_permissions(old.permissions())
}

/// Opens a file for reading and writing, or makes it for this user alone.
pub(crate) fn open_or_create(path: &Path) -> io::Result<File> {
    let path = &at_end_of_links(path);
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let mut create = options.clone();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut create, 0o600);
    match create.create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        made => made,
    }
    .map_err(|error| with_path(path, &error))
}

/// Refuses a file that this command may not have made: one that belongs to another user or that others may change, a link,
/// a pipe.
pub(crate) fn refuse_of_others(path: &Path) -> Result<(), Failure> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    let fault = if !found.is_file() {
        "is not a file"
    } else if is_of_another(&found) {
        "belongs to another user"
    } else if others_may_change(&found) {
        "may be changed by others"
    } else {
        return Ok(());
    };
    let path = path.display();
    Err(Failure::Usage(format!(
        "{path} {fault}, so nothing is continued from it: remove it, or name another file"
    )))
}

#[cfg(unix)]
fn is_of_another(found: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(found) != rustix::process::geteuid().as_raw()
}

#[cfg(unix)]
fn others_may_change(found: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::mode(found) & 0o022 != 0
}

#[cfg(not(unix))]
fn is_of_another(_found: &Metadata) -> bool {
    false
}

#[cfg(not(unix))]
fn others_may_change(_found: &Metadata) -> bool {
    false
}

/// The error, with the name of the file in its message.
pub(crate) fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The path with `suffix` appended to its last component.
pub(crate) fn with_suffix(path: &Path, suffix: impl AsRef<OsStr>) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Writes the value as JSON. The file is replaced in one step, once its new content is synced.
pub(crate) fn save_json(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(io::Error::from)?;
    bytes.push(b'\n');
    let mut file = NewFile::create(path)?;
    file.write_all(&bytes)?;
    Ok(file.finish()?)
}
