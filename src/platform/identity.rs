//! The identity of a file: whether a path still names it, whether two paths do, whether anybody has changed it since a look.

use std::path::{Path, PathBuf};

use crate::error::{AuditError, ErrorKind};

/// The path without links and other detours. If it names nothing yet, the path of the file that would be made there.
#[cfg(unix)]
pub(crate) fn real_path(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    // Linux follows this many links.
    for _ in 0..40 {
        if let Ok(real) = std::fs::canonicalize(&path) {
            return real;
        }
        // A link to something that does not exist yet.
        let Ok(target) = std::fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    match (path.parent().map(std::fs::canonicalize), path.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => path,
    }
}

/// The same path: elsewhere the spelling without links is one that other programs do not understand.
#[cfg(not(unix))]
pub(crate) fn real_path(path: &Path) -> PathBuf {
    path.to_owned()
}

/// Whether both paths name the same file. `None`: one of them names none.
#[cfg(unix)]
pub(crate) fn is_same_file(one: &Path, other: &Path) -> Option<bool> {
    Some(FileLook::at(one)?.id == FileLook::at(other)?.id)
}

/// Whether both paths name the same file. `None`: one of them names none.
#[cfg(not(unix))]
pub(crate) fn is_same_file(one: &Path, other: &Path) -> Option<bool> {
    let real = |path| std::fs::canonicalize(path).ok();
    Some(real(one)? == real(other)?)
}

/// The identity of the file that a path named when it was opened.
#[derive(Clone, Debug)]
pub(crate) struct FileIdentity {
    path: PathBuf,
    id: (u64, u64),
    /// The target of the path, if it is a link: files beside the database have their names from there.
    leads_to: Option<PathBuf>,
}

impl FileIdentity {
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let id = FileLook::at(path)?.id;
        let leads_to = path.is_symlink().then(|| std::fs::canonicalize(path).ok()).flatten();
        Some(Self { path: path.to_owned(), id, leads_to })
    }

    /// Checks that the path still names the open file.
    ///
    /// # Errors
    /// If it names another file or none: nobody would find entries that were written now.
    pub(crate) fn check(&self) -> Result<(), AuditError> {
        let found = match &self.leads_to {
            None => FileLook::of_name(&self.path),
            Some(path) => FileLook::at(&self.path)
                .filter(|_| std::fs::canonicalize(&self.path).is_ok_and(|now| now == *path)),
        };
        if found.is_some_and(|found| found.id == self.id) {
            return Ok(());
        }
        Err(AuditError::new(
            ErrorKind::Store,
            format!(
                "{} was deleted or replaced while it was open: put it back, or restart to begin a new ledger",
                self.path.display()
            ),
        ))
    }
}

/// The look of the file that a path named at one moment. It is taken without opening the file: to close a file that
/// SQLite has open would give up the locks of every connection of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileLook {
    /// The device and the number of the file.
    pub(crate) id: (u64, u64),
    pub(crate) len: u64,
    /// The time of the last change of any kind, which nobody can set.
    changed: (i64, i64),
    /// The time of the last write.
    written: (i64, i64),
}

impl FileLook {
    /// `None`: the path names nothing, or nothing that can be looked at.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|found| Self::of(&found))
    }

    /// Whether this is the same file as at an earlier moment, and was written since.
    pub(crate) fn is_written_since(&self, then: &Self) -> bool {
        self.id == then.id && (self.len, self.written) != (then.len, then.written)
    }

    /// The same of the path itself, of which a link is not followed.
    pub(crate) fn of_name(path: &Path) -> Option<Self> {
        std::fs::symlink_metadata(path).ok().map(|found| Self::of(&found))
    }

    #[cfg(unix)]
    fn of(found: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self {
            id: (found.dev(), found.ino()),
            len: found.len(),
            changed: (found.ctime(), found.ctime_nsec()),
            written: (found.mtime(), found.mtime_nsec()),
        }
    }

    /// Without an identity: on systems other than Unix an open file cannot be deleted.
    #[cfg(not(unix))]
    fn of(found: &std::fs::Metadata) -> Self {
        let changed = found.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let nanos = changed.map_or(0, |at| i64::try_from(at.as_nanos()).unwrap_or(i64::MAX));
        Self { id: (0, 0), len: found.len(), changed: (0, nanos), written: (0, nanos) }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn one_file_has_one_real_path_however_it_is_spelled_and_before_it_exists() {
        let directory = tempfile::tempdir().unwrap();
        let directory = fs::canonicalize(directory.path()).unwrap();
        let at = |name: &str| directory.join(name);
        fs::create_dir(at("data")).unwrap();
        symlink("data", at("link")).unwrap();
        symlink("link/audit.db", at("file")).unwrap();
        symlink(at("file"), at("again")).unwrap();
        symlink("loop", at("loop")).unwrap();
        let spellings = ["data/audit.db", "link/audit.db", "file", "again", "data/../link/audit.db"].map(at);
        for exists in [false, true] {
            for spelling in &spellings {
                assert_eq!(real_path(spelling), at("data/audit.db"), "{spelling:?}");
                assert_eq!(is_same_file(spelling, &at("data/audit.db")), exists.then_some(true));
            }
            fs::write(at("data/audit.db"), "").unwrap();
        }
        fs::write(at("other"), "").unwrap();
        assert_eq!(is_same_file(&at("other"), &at("file")), Some(false));
        assert_eq!(
            (real_path(&at("none/audit.db")), real_path(&at("loop"))),
            (at("none/audit.db"), at("loop"))
        );
    }
}
