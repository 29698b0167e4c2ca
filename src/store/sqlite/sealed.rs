//! Decides how a database is read where this process may not write, or where locks are not seen by everybody.

use std::path::Path;

use super::wal::beside;
use crate::error::{AuditError, ErrorKind};
use crate::platform::{FileLook, may_write, may_write_in, shared_file_system};

/// The way in which the connections of readers open the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum How {
    /// The log is empty, or the writer of this process watches it.
    #[default]
    Plain,
    /// The log holds something, and stays as it is.
    BesideLog,
    /// Nobody writes the file, which looks like this. SQLite gets this as an option.
    Sealed(FileLook),
}

/// The look of the database, if SQLite must be given the option that nobody writes it. It is whole then without other
/// files, and beside it none can be made, or none that would be of use. Without the option SQLite would refuse a
/// database that had a write-ahead log, or leave files in which its writer cannot write.
///
/// `None`: SQLite itself can read it together with others.
///
/// # Errors
/// If part of it is in a write-ahead log on a file system where that cannot be read.
pub(super) fn sealed(database: &Path) -> Result<Option<FileLook>, AuditError> {
    let Ok(file) = std::fs::canonicalize(database) else { return Ok(None) };
    let Some(look) = FileLook::at(&file).filter(|_| file.is_file()) else { return Ok(None) };
    let holds = |suffix: &str| FileLook::at(&beside(&file, suffix)).is_some_and(|found| found.len > 0);
    // The index of the log exists as long as a program has the database open.
    let in_use = holds("-wal") || holds("-shm") || holds("-journal");
    if let Some(kind) = is_shared(&file) {
        if !in_use {
            return Ok(Some(look));
        }
        let shown = file.display();
        let message = format!(
            "{shown} is on {kind} and is in use, or part of it is in {shown}-wal, which cannot be read safely there: read it \
             on the machine that writes it, or copy {shown} and {shown}-wal to a local disk, and read the copy"
        );
        return Err(AuditError::new(ErrorKind::Store, message));
    }
    let may = may_write(&file) && file.parent().is_none_or(may_write_in);
    Ok((!in_use && !may).then_some(look))
}

/// The name of the file system of this file, or of the directory in which it will be, if it is one whose locks not
/// everybody sees.
pub(super) fn is_shared(main: &Path) -> Option<&'static str> {
    let places = [Some(main), main.parent()];
    places.into_iter().flatten().find_map(|place| shared_file_system(place).ok().flatten())
}
