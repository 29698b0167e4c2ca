//! The identity of an open file: whether its path still names it.

use std::path::{Path, PathBuf};

use crate::error::{AuditError, ErrorKind};

/// The identity of the file that a path named when it was opened.
#[derive(Clone, Debug)]
pub(crate) struct FileIdentity {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl FileIdentity {
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let device_and_inode = device_and_inode(path)?;
        Some(Self { path: path.to_owned(), device_and_inode })
    }

    /// Checks that the path still names the open file.
    ///
    /// # Errors
    /// If it names another file or none: nobody would find entries that were written now.
    pub(crate) fn check(&self) -> Result<(), AuditError> {
        if device_and_inode(&self.path) == Some(self.device_and_inode) {
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

#[cfg(unix)]
fn device_and_inode(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Returns `None`: on systems other than Unix an open file cannot be deleted.
#[cfg(not(unix))]
fn device_and_inode(_: &Path) -> Option<(u64, u64)> {
    None
}
