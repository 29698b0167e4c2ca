//! Writes files that appear only when they are complete. A file that exists keeps its mode, and must be this user's
//! own.

use std::{
    ffi::OsStr,
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::temporary::Temporary;
use crate::failure::Failure;

/// The most links that lead from one to another, as for the system.
const LINKS: usize = 40;

/// The first bytes of a SQLite database.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// The ends of the names of the files beside a SQLite database.
const BESIDE_SQLITE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// A file that is being written.
pub(crate) enum NewFile {
    /// It gets the name `path` when it is complete.
    Beside { file: Temporary, path: PathBuf },
    /// A device or a pipe, into which everything is written as it comes.
    Stream { file: File, path: PathBuf },
}

impl NewFile {
    /// Begins to write the file that this path names, at the end of its links.
    ///
    /// # Errors
    /// Also if others have put it there, or may write it, or if it is a SQLite database.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let named = |error: io::Error| with_path(path, &error);
        refuse_of_others(path)?;
        if is_stream(path) {
            // A descriptor of the caller's may be a file that has contents already.
            let file = OpenOptions::new().append(true).open(path).map_err(named)?;
            return Ok(Self::Stream { file, path: path.to_owned() });
        }
        let path = at_end_of_links(path);
        if path.is_dir() {
            return Err(named(io::ErrorKind::IsADirectory.into()).into());
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

    /// Syncs the file, and gives it its name, which must not be taken, and which also survives a loss of power.
    pub(crate) fn finish_new(self) -> io::Result<()> {
        match self {
            Self::Stream { .. } => Ok(()),
            Self::Beside { file, path } => {
                let named = file.file().sync_all().and_then(|()| name_new(file.path(), &path));
                let done = named.and_then(|()| sync_directory(&path));
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
    is_of_caller(path) || fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Whether the path names a descriptor that the caller has opened.
fn is_of_caller(path: &Path) -> bool {
    ["/dev/fd", "/proc/self/fd", "/dev/stdout", "/dev/stderr"].iter().any(|those| path.starts_with(those))
}

/// The path at the end of the links, also if nothing exists there yet.
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
    // It is at the end of all links, and what has become a link since is replaced.
    match fs::symlink_metadata(path).ok().filter(Metadata::is_file) {
        Some(old) if !is_only_name(&old) || take_over(file, &old).is_err() => {
            let mut into = no_link(OpenOptions::new().write(true).truncate(true)).open(path)?;
            file.rewind()?;
            io::copy(&mut file, &mut into)?;
            into.sync_all()?;
            fs::remove_file(new)
        }
        _ => fs::rename(new, path),
    }
}

/// Gives a complete file this name, unless another one has it, also one that has come since anybody looked.
fn name_new(new: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(new, path) {
        // Not every file system gives a file two names.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists && fs::symlink_metadata(path).is_err() => {
            fs::rename(new, path)
        }
        named => named,
    }
}

/// Brings the name of a file to stable storage, where the file system knows such a thing.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match File::open(directory.unwrap_or(Path::new("."))).and_then(|directory| directory.sync_all()) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

#[cfg(not(unix))]
fn sync_directory(_path: &Path) -> io::Result<()> {
    Ok(())
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

/// Lets a file be opened only if the last part of its path is no link.
fn no_link(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    {
        let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        std::os::unix::fs::OpenOptionsExt::custom_flags(options, flags);
    }
    options
}

/// Opens a file for reading and writing, or makes it for this user alone.
///
/// # Errors
/// Also if others have put it there, or may write it, or if it is a SQLite database.
pub(crate) fn open_or_create(path: &Path) -> Result<File, Failure> {
    refuse_of_others(path)?;
    let path = &at_end_of_links(path);
    let mut options = OpenOptions::new();
    no_link(options.read(true).write(true));
    let mut create = options.clone();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut create, 0o600);
    let opened = match create.create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        made => made,
    };
    let file = opened.map_err(|error| with_path(path, &error))?;
    // The path may have come to name another file since.
    refuse(path, fault_of(&file.metadata()?))?;
    Ok(file)
}

/// Refuses what others may have put there, or may write: a link that another user has made, wherever it leads, and a file
/// that belongs to another user or that others may write. What is written is for this user, and what is continued must be
/// what this user has begun. A SQLite database, and a file that belongs to one, is refused too: it may be an audit log. A
/// device, a pipe, or what the caller has opened is the caller's choice.
pub(crate) fn refuse_of_others(path: &Path) -> Result<(), Failure> {
    let mut end = path.to_owned();
    for _ in 0..LINKS {
        if is_of_caller(&end) {
            return Ok(());
        }
        let Ok(found) = fs::symlink_metadata(&end) else { return refuse_databases(&end) };
        if !found.is_symlink() {
            refuse(&end, fault_of(&found))?;
            return refuse_databases(&end);
        }
        if is_of_another(&found) && !is_of_root(&found) {
            return refuse(&end, Some("is a link that another user has made"));
        }
        let Ok(next) = fs::read_link(&end) else { return Ok(()) };
        end = end.parent().unwrap_or(Path::new("")).join(next);
    }
    Ok(())
}

/// Refuses a SQLite database, a file beside one, and a name beside which a write-ahead log is: what is written there would
/// destroy the database, or be taken for a part of it. The databases of `--db` are refused before, by their names: to look
/// into a file that SQLite has open would give up the locks of this process on it.
fn refuse_databases(path: &Path) -> Result<(), Failure> {
    let refused = |what: String| {
        let path = path.display();
        Err(Failure::Usage(format!("{path} {what}, which the output would destroy: name another file")))
    };
    if is_sqlite(path)? {
        return refused("is a SQLite database".to_owned());
    }
    let wal = with_suffix(path, "-wal");
    if wal.is_file() {
        return refused(format!("has the write-ahead log of a SQLite database beside it, {}", wal.display()));
    }
    let of = |suffix: &str| Some(PathBuf::from(path.to_str()?.strip_suffix(suffix)?));
    for database in BESIDE_SQLITE.into_iter().filter_map(of) {
        if is_sqlite(&database)? {
            return refused(format!("belongs to the SQLite database {}", database.display()));
        }
    }
    Ok(())
}

/// Whether this is a SQLite database. Only files are opened: opening anything else might wait.
fn is_sqlite(path: &Path) -> Result<bool, Failure> {
    if !fs::metadata(path).is_ok_and(|found| found.is_file()) {
        return Ok(false);
    }
    let mut begin = Vec::new();
    let read = File::open(path).and_then(|file| file.take(SQLITE.len() as u64).read_to_end(&mut begin));
    match read {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(with_path(path, &error).into()),
        _ => Ok(begin == SQLITE),
    }
}

/// Refuses a link, a pipe, a device or a directory.
pub(crate) fn refuse_all_but_files(path: &Path) -> Result<(), Failure> {
    let is_other = fs::symlink_metadata(path).is_ok_and(|found| !found.is_file());
    refuse(path, is_other.then_some("is not a file"))
}

fn fault_of(found: &Metadata) -> Option<&'static str> {
    if !found.is_file() {
        None
    } else if is_of_another(found) {
        Some("belongs to another user")
    } else if others_may_change(found) {
        Some("may be changed by others")
    } else {
        None
    }
}

fn refuse(path: &Path, fault: Option<&str>) -> Result<(), Failure> {
    let Some(fault) = fault else { return Ok(()) };
    Err(Failure::Usage(format!(
        "{} {fault}, so it is neither continued nor replaced: remove it, or name another file",
        path.display()
    )))
}

#[cfg(unix)]
fn is_of_another(found: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(found) != rustix::process::geteuid().as_raw()
}

#[cfg(unix)]
fn is_of_root(found: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(found) == 0
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
fn is_of_root(_found: &Metadata) -> bool {
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
    Ok(json_file(path, value)?.finish()?)
}

/// Writes the value as JSON to a file that must not be there yet.
pub(crate) fn save_new_json(path: &Path, value: &impl Serialize) -> Result<(), Failure> {
    Ok(json_file(path, value)?.finish_new()?)
}

fn json_file(path: &Path, value: &impl Serialize) -> Result<NewFile, Failure> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(io::Error::from)?;
    bytes.push(b'\n');
    let mut file = NewFile::create(path)?;
    file.write_all(&bytes)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_takes_no_name_that_came_meanwhile() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new");
        let written = |text: &str| {
            let mut file = NewFile::create(&path).ok().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file
        };
        // Both began before there was one.
        let (first, second) = (written("first"), written("second"));
        first.finish_new().unwrap();
        assert_eq!(second.finish_new().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        let names: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|found| found.unwrap().file_name()).collect();
        assert_eq!(names, ["new"]);
    }
}
