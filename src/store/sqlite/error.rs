//! Errors of SQLite: whether a row or the database is at fault, and the remedy.

use std::path::Path;

use super::wal::beside;
use crate::error::{AuditError, ErrorKind};
use crate::platform::{may_read, temporary_directory};
use crate::store::{AppendError, Fault};

/// The primary result code of an error from SQLite itself.
pub(super) fn code_of(error: &sqlx::Error) -> Option<i32> {
    extended(error).map(|code| code & 0xff)
}

/// The extended result code of an error from SQLite itself.
fn extended(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

/// SQLite has found no directory for its temporary files (`SQLITE_IOERR_GETTEMPPATH`).
const NO_TEMPORARY_DIRECTORY: i32 = 6410;
/// The file ends before a page that it should have (`SQLITE_IOERR_SHORT_READ`).
const SHORT_READ: i32 = 522;

/// Whether the error is `SQLITE_BUSY`, or `SQLITE_LOCKED`, which a shared cache in memory gives.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    matches!(code_of(error), Some(5 | 6))
}

/// Whether there was no room: `SQLITE_FULL`, or `SQLITE_IOERR_SHMSIZE`, if the index of the write-ahead log cannot be made.
fn lacks_room(error: &sqlx::Error) -> bool {
    code_of(error) == Some(13) || extended(error) == Some(4874)
}

/// Whether there may have been no room: SQLite has the same code, `SQLITE_IOERR_WRITE`, for a quota, a limit on the size of
/// files, and a disk that has failed.
pub(super) fn may_lack_room(error: &sqlx::Error) -> bool {
    lacks_room(error) || extended(error) == Some(778)
}

/// Whether the error is `SQLITE_CORRUPT` or `SQLITE_NOTADB`, or the file ends too soon.
pub(super) fn is_damaged(error: &sqlx::Error) -> bool {
    matches!(code_of(error), Some(11 | 26)) || extended(error) == Some(SHORT_READ)
}

/// The remedy where SQLite can make no temporary file.
pub(super) fn no_temporary_directory(path: &Path) -> String {
    let shown = path.display();
    format!(
        "SQLite needs a directory for temporary files to work on {shown}, and finds none that this process may write: name \
         one by the variable SQLITE_TMPDIR, for instance the one in which {shown} is"
    )
}

/// The error of a database that is damaged.
pub(super) fn damaged(path: &Path, what: &str) -> AuditError {
    let message = format!(
        "{} is damaged{what}: restore it from a backup, or move it away to start a new ledger",
        path.display()
    );
    AuditError::new(ErrorKind::Store, message)
}

/// Whether the error may come from files that are not those any more that the connection has open: `SQLITE_IOERR`,
/// `SQLITE_CORRUPT`, `SQLITE_PROTOCOL` or `SQLITE_NOTADB`.
pub(super) fn is_of_files(error: &sqlx::Error) -> bool {
    matches!(code_of(error), Some(10 | 11 | 15 | 26))
}

/// The first of the directories on the way to this file that does not exist, if there is one.
fn missing_directory(path: &Path) -> Option<&Path> {
    let is_missing = |directory: &&Path| {
        !directory.as_os_str().is_empty()
            && directory.metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    };
    path.ancestors().skip(1).filter(is_missing).last()
}

/// Whether the database exists, and something is in its write-ahead log.
fn is_partly_in_log(path: &Path) -> bool {
    let log = std::fs::metadata(beside(path, "-wal"));
    path.exists() && log.is_ok_and(|log| log.is_file() && log.len() > 0)
}

/// Which of the files this process may not read, as a part of a sentence.
fn unread(path: &Path) -> String {
    let files = ["", "-wal", "-shm"].map(|suffix| beside(path, suffix));
    let unread = files.into_iter().find(|file| file.exists() && !may_read(file));
    unread.map(|file| format!(", because this process may not read {}", file.display())).unwrap_or_default()
}

/// Turns an error of SQLite on the database at `path` into one that names the remedy, where there is one.
pub(super) fn store_error(path: &Path, cause: sqlx::Error) -> AuditError {
    let shown = path.display();
    match extended(&cause) {
        Some(code) if code & 0xff == 11 => return damaged(path, "").because(cause),
        Some(SHORT_READ) => return damaged(path, ", it ends too soon").because(cause),
        Some(NO_TEMPORARY_DIRECTORY) => {
            return AuditError::new(ErrorKind::Store, no_temporary_directory(path)).because(cause);
        }
        _ => {}
    }
    let missing = missing_directory(path);
    let message = match code_of(&cause) {
        Some(26) => format!("{shown} is not a SQLite database: choose another path or move that file away"),
        Some(14) if path.is_dir() => format!("{shown} is a directory: give the path of a file in it"),
        Some(8 | 14) if is_partly_in_log(path) => format!(
            "{shown} cannot be opened{}, and part of it is in {shown}-wal: copy both files to a directory that this process \
             may write, and open the copy; or open it once where it can be written",
            unread(path)
        ),
        Some(14) if missing.is_some() => format!(
            "{shown} cannot be opened: there is no directory {}",
            missing.map_or(String::new(), |directory| directory.display().to_string())
        ),
        Some(14)
            if path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) =>
        {
            format!(
                "{shown} cannot be opened: there is no such file; a log that is opened there makes it, if it may write the directory"
            )
        }
        Some(14) => format!(
            "{shown} cannot be opened: its directory must exist and this process must be allowed to read and write it"
        ),
        Some(8) => format!(
            "{shown} is read-only: this process needs to write the file and its directory, and the file system must be mounted writable"
        ),
        Some(5 | 6) => {
            format!("{shown} stayed locked by another connection: end the transaction that holds it")
        }
        _ if lacks_room(&cause) => match temporary_directory() {
            Some(temporary) => format!(
                "no room for {shown}, or for temporary files in {}: free space on its file system, or name another \
                 directory for them by the variable SQLITE_TMPDIR",
                temporary.display()
            ),
            None => format!("no room for {shown}: free space on its file system"),
        },
        _ if may_lack_room(&cause) => format!(
            "{shown} cannot be written: a quota or a limit on the size of files (ulimit -f) is reached, or its disk has failed"
        ),
        _ => format!("{shown} cannot be opened, migrated, read or written"),
    };
    AuditError::new(ErrorKind::Store, message).for_lack_of_room(lacks_room(&cause)).because(cause)
}

/// Turns an error of a statement that inserts rows into an error of an append. It blames a row if the row can never be
/// stored, or else the database.
pub(super) fn insert_error(cause: sqlx::Error) -> AppendError {
    let (fault, error) = match code_of(&cause) {
        // SQLITE_CONSTRAINT. The constraint on `id` means a duplicate.
        Some(19) if cause.to_string().contains("tracing_audit_entries.id") => (
            Fault::Duplicate,
            AuditError::new(ErrorKind::Duplicate, "the ledger holds an entry with this id already"),
        ),
        // SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH.
        Some(18..=20) => {
            (Fault::Entry, AuditError::new(ErrorKind::Quarantined, "the database refuses this entry"))
        }
        _ => return append_error(cause),
    };
    AppendError { fault, error: error.because(cause) }
}

/// Turns an error of any other statement of an append into one that blames the database.
pub(super) fn append_error(cause: sqlx::Error) -> AppendError {
    let fault = if may_lack_room(&cause) { Fault::Room { tried: true } } else { Fault::Store };
    AppendError { fault, error: store_error(Path::new("the audit database"), cause) }
}
