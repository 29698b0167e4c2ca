//! The identity of an open file: whether its path still names it, and whether anybody has changed it since a look.

use std::path::{Path, PathBuf};

use crate::error::{AuditError, ErrorKind};

/// The identity of the file that a path named when it was opened.
#[derive(Clone, Debug)]
pub(crate) struct FileIdentity {
    path: PathBuf,
    id: (u64, u64),
}

impl FileIdentity {
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let id = FileLook::at(path)?.id;
        Some(Self { path: path.to_owned(), id })
    }

    /// Checks that the path still names the open file.
    ///
    /// # Errors
    /// If it names another file or none: nobody would find entries that were written now.
    pub(crate) fn check(&self) -> Result<(), AuditError> {
        if FileLook::at(&self.path).is_some_and(|found| found.id == self.id) {
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

/// What a path named at one moment. It is found without opening the file: to close a file that SQLite has open would
/// give up the locks of every connection of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileLook {
    /// The device and the number of the file.
    pub(crate) id: (u64, u64),
    pub(crate) len: u64,
    /// The time of the last change of any kind, which nobody can set.
    changed: (i64, i64),
}

impl FileLook {
    /// `None`: the path names nothing, or nothing that can be looked at.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|found| Self::of(&found))
    }

    #[cfg(unix)]
    fn of(found: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self {
            id: (found.dev(), found.ino()),
            len: found.len(),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }

    /// Without an identity: on systems other than Unix an open file cannot be deleted.
    #[cfg(not(unix))]
    fn of(found: &std::fs::Metadata) -> Self {
        let changed = found.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let nanos = changed.map_or(0, |at| i64::try_from(at.as_nanos()).unwrap_or(i64::MAX));
        Self { id: (0, 0), len: found.len(), changed: (0, nanos) }
    }
}
