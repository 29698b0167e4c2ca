//! Holds a file that nobody has open, so that nobody can write to it while what it holds is kept elsewhere, and removes it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sqlx::{
    ConnectOptions, Connection, Row as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteLockingMode},
};
use uuid::Uuid;

use super::{
    belongs::check_left_log,
    error::{is_busy, store_error},
    rollback::check_left_journal,
    wal::beside,
};
use crate::error::{AuditError, ErrorKind};
use crate::platform::{Origin, may_write};

/// How long others may take to close the file.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// A SQLite file of a log that is not in use, held so that no process can read it or write to it.
///
/// It is for a ledger that has ended, of which the entries are kept elsewhere, such as that of a month that is over. Make the
/// copy first, then hold the file, then [`remove`](Self::remove) it: what was committed after the copy is found by the end of the
/// ledger. The command `tracing-audit archive` does all of it. Dropping this gives the file back as it was, but for its
/// write-ahead log, which is in the file now.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("audit.db");
/// use tracing_audit::{AuditEntry, AuditLog, archive::UnusedFile};
///
/// let log = AuditLog::open(&path).await?;
/// log.writer().commit(AuditEntry::new(uuid::Uuid::nil(), "document.read", "document")).await?;
/// let _report = log.shutdown(std::time::Duration::from_secs(5)).await?;
/// drop(log);
///
/// UnusedFile::hold(&path, "main", 1).await?.remove().await?;
/// assert!(!path.exists());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct UnusedFile {
    file: PathBuf,
    /// It holds the file's lock for as long as it is open.
    connection: SqliteConnection,
}

impl UnusedFile {
    /// Holds this file, if all of this is so:
    ///
    /// - no process has it open, or the last one closes it within two seconds;
    /// - it has this ledger, whose next entry would have this `seq`;
    /// - each of the ledger's writers has ended, with nothing of it left to commit, and its journal is gone;
    /// - no entry is in quarantine.
    ///
    /// A writer that was killed has ended once another log of the ledger has settled what it left.
    ///
    /// # Errors
    /// [`is_store`](AuditError::is_store) if one of these is not so, or the file cannot be read: the message says which, and
    /// what to do. [`is_config`](AuditError::is_config) for a path that is a link.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the file as it was.
    pub async fn hold(path: impl AsRef<Path>, ledger: &str, next_seq: u64) -> Result<Self, AuditError> {
        let path = path.as_ref();
        if path.is_symlink() {
            let message = format!("{} is a link: give the path of the file itself", path.display());
            return Err(AuditError::new(ErrorKind::Config, message));
        }
        let file = std::fs::canonicalize(path).map_err(|cause| {
            let message = format!("{} cannot be found", path.display());
            AuditError::new(ErrorKind::Store, message).because(cause)
        })?;
        if !may_write(file.parent().unwrap_or(Path::new("/"))) {
            let why = "this process may not write to its directory, and so cannot remove it";
            return Err(refused(&file, why));
        }
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(false)
            .disable_statement_logging()
            .busy_timeout(PAUSE)
            .locking_mode(SqliteLockingMode::Exclusive);
        check_left_journal(&file).await?;
        check_left_log(&options, true).await?;
        let connection = alone(&file, &options).await?;
        let mut held = Self { file, connection };
        match held.check(ledger, next_seq).await {
            Ok(()) => Ok(held),
            Err(error) => {
                // Here, so that the file is free again. The first error says what is wrong.
                drop(held.connection.close().await);
                Err(error)
            }
        }
    }

    /// How many reads are recorded in the file, which go with it: see [`AuditReader::reads`](crate::AuditReader::reads).
    ///
    /// # Errors
    /// [`is_store`](AuditError::is_store) if the file cannot be read.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn reads(&mut self) -> Result<u64, AuditError> {
        let count = "SELECT count(*) FROM tracing_audit_reads WHERE ends IS NULL";
        let found: i64 = sqlx::query_scalar(count)
            .fetch_one(&mut self.connection)
            .await
            .map_err(|cause| store_error(&self.file, cause))?;
        Ok(found.cast_unsigned())
    }

    /// Removes the file, and what SQLite and this crate keep beside it. The queue's directory stays.
    ///
    /// # Errors
    /// [`is_store`](AuditError::is_store) if a file cannot be removed: the message names it. If it is the database itself, that is as
    /// it was.
    ///
    /// # Cancel safety
    /// If the future is dropped, the file is there whole or is gone.
    pub async fn remove(mut self) -> Result<(), AuditError> {
        self.run("ROLLBACK").await?;
        // Without a write-ahead log: to close one removes its file by name, which may be that of a new database by then. The
        // file stays locked, for this connection never gives a lock back.
        let mode = sqlx::query_scalar("PRAGMA journal_mode = DELETE").fetch_one(&mut self.connection).await;
        let mode: String = mode.map_err(|cause| store_error(&self.file, cause))?;
        self.run("BEGIN EXCLUSIVE").await?;
        if mode != "delete" {
            return Err(self.refused("its write-ahead log cannot be ended"));
        }
        let removed = self.unlink();
        // It has no other use, and nothing to write.
        drop(self.connection.close().await);
        removed
    }

    async fn run(&mut self, statements: &'static str) -> Result<(), AuditError> {
        let done = sqlx::raw_sql(statements).execute(&mut self.connection).await;
        done.map(drop).map_err(|cause| store_error(&self.file, cause))
    }

    fn unlink(&self) -> Result<(), AuditError> {
        let failed = |path: &Path, cause: std::io::Error| {
            let message = format!("{} cannot be removed", path.display());
            AuditError::new(ErrorKind::Store, message).because(cause)
        };
        std::fs::remove_file(&self.file).map_err(|cause| failed(&self.file, cause))?;
        for suffix in ["-wal", "-shm", "-journal", ".turn"] {
            let path = beside(&self.file, suffix);
            match std::fs::remove_file(&path) {
                Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed(&path, cause));
                }
                _ => {}
            }
        }
        let directory = self.file.parent().unwrap_or(Path::new("/"));
        let synced = std::fs::File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(|cause| failed(&self.file, cause))
    }

    fn refused(&self, why: &str) -> AuditError {
        refused(&self.file, why)
    }

    async fn check(&mut self, ledger: &str, expected: u64) -> Result<(), AuditError> {
        let file = self.file.clone();
        let error = |cause: sqlx::Error| store_error(&file, cause);
        let heads: Vec<(String, i64)> =
            sqlx::query_as("SELECT ledger, max(next_seq, given) FROM tracing_audit_head")
                .fetch_all(&mut self.connection)
                .await
                .map_err(error)?;
        let [(name, next_seq)] = heads.as_slice() else {
            return Err(self.refused("it has not one ledger"));
        };
        if name != ledger {
            return Err(self.refused(&format!("its ledger is {name:?}, and not {ledger:?}")));
        }
        if u64::try_from(*next_seq).ok() != Some(expected) {
            return Err(self.refused(&format!(
                "its ledger {ledger:?} ends at seq {next_seq}, and not at {expected}: entries were committed meanwhile; make \
                 another copy"
            )));
        }
        let quarantined: i64 = sqlx::query_scalar("SELECT count(*) FROM tracing_audit_quarantine")
            .fetch_one(&mut self.connection)
            .await
            .map_err(error)?;
        if quarantined > 0 {
            return Err(self.refused(&format!(
                "its quarantine holds {quarantined}, which no copy has: retry them, or export them with `tracing-audit quarantine \
                 export` and delete them"
            )));
        }
        let writers =
            sqlx::query("SELECT writer, ended_at IS NOT NULL, process, home FROM tracing_audit_writers")
                .fetch_all(&mut self.connection)
                .await
                .map_err(error)?;
        for row in writers {
            let writer: Uuid = row.try_get(0).map_err(error)?;
            let (has_ended, process, home): (bool, Option<String>, Option<String>) = (
                row.try_get(1).map_err(error)?,
                row.try_get(2).map_err(error)?,
                row.try_get(3).map_err(error)?,
            );
            let journal = home.filter(|home| home != Origin::MEMORY);
            let journal = journal.map(|home| Path::new(&home).join(writer.to_string()));
            if let Some(journal) = journal.filter(|journal| journal.symlink_metadata().is_ok()) {
                return Err(self.refused(&format!(
                    "the journal {} may hold entries for it: open the log once more, which settles it",
                    journal.display()
                )));
            }
            if !has_ended {
                let process = process.and_then(|process| Some(process.split_once(':')?.0.to_owned()));
                return Err(self.refused(&format!(
                    "its writer {writer} (process {}) has not ended, and entries of it may still come: end it; if it was \
                     killed, open the log once more, which settles what it left",
                    process.as_deref().unwrap_or("unknown")
                )));
            }
        }
        Ok(())
    }
}

fn refused(file: &Path, why: &str) -> AuditError {
    AuditError::new(ErrorKind::Store, format!("{} stays: {why}", file.display()))
}

/// Opens the file alone: with its write-ahead log moved into it, which SQLite does for its last user only, and locked.
async fn alone(file: &Path, options: &SqliteConnectOptions) -> Result<SqliteConnection, AuditError> {
    let start = Instant::now();
    loop {
        let cause = match try_alone(options).await {
            Ok(connection) => return Ok(connection),
            Err(cause) if is_busy(&cause) => cause,
            Err(cause) => return Err(store_error(file, cause)),
        };
        if start.elapsed() >= CLOSED_WITHIN {
            let message = format!(
                "{} is in use: end the programs that read it or write to it, and try again",
                file.display()
            );
            return Err(AuditError::new(ErrorKind::Store, message).because(cause));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn try_alone(options: &SqliteConnectOptions) -> sqlx::Result<SqliteConnection> {
    let mut connection = SqliteConnection::connect_with(options).await?;
    // In the exclusive locking mode the first look at the file takes a lock that leaves it to nobody else, and keeps it. An
    // empty write-ahead log belongs to no database, should this process end before its file is removed.
    let alone = async {
        sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await?;
        sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut connection).await
    };
    match alone.await {
        Ok(_) => Ok(connection),
        Err(cause) => {
            drop(connection.close().await);
            Err(cause)
        }
    }
}
