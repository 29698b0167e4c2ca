//! A database of this process alone, for entries that are read from elsewhere. Its file has no name once it is open.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use sqlx::{
    ConnectOptions, Connection, QueryBuilder, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use uuid::Uuid;

use super::{
    error::{code_of, may_lack_room, no_temporary_directory, store_error},
    insert::insert_rows,
    migrate::migrate,
    source::{PAGE_BYTES, READERS},
};
use crate::entry::Row;
use crate::error::{AuditError, ErrorKind};
use crate::platform::{Access, largest_file, random, temporary_directory};
use crate::store::{Migrate, Store};

/// Page cache of the connection that loads, in KiB, and of each that reads.
const CACHE_KIB: i32 = 16 * 1024;

/// Batches in one statement, far below SQLite's limit of 32 766 parameters.
const BATCHES: usize = 512;

/// A directory of this user alone, which is removed when this is dropped.
///
/// It stays while the database is open, although the file in it has lost its name: SQLite looks beside each database for the
/// journal of an unfinished transaction, and nobody else may put one there.
#[derive(Debug)]
struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    fn create_in(place: Option<&Path>) -> Result<Self, AuditError> {
        let Some(place) = place.map(Path::to_owned).or_else(temporary_directory) else {
            let message = no_temporary_directory(Path::new("an exported file"));
            return Err(AuditError::new(ErrorKind::Store, message));
        };
        let directory = place.join(format!(".tracing-audit-{:016x}", random()));
        Access::default().create_directory(&directory).map_err(|cause| {
            let message = format!("cannot make a directory for a temporary database in {}", place.display());
            AuditError::new(ErrorKind::Store, message).because(cause)
        })?;
        Ok(Self(directory))
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // Empty, unless the system does not remove files that are open.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A batch of entries without a gap between them, which were committed at the same time.
struct Batch {
    first_seq: i64,
    entries: i64,
    committed_at: i64,
    least_ts: i64,
    greatest_ts: i64,
}

/// A database of one ledger that is being loaded. Nobody else can open its file: it loses its name as soon as it is open, so
/// that nothing is left of it however the process ends.
pub(crate) struct PrivateDatabase {
    loader: SqliteConnection,
    readers: SqlitePool,
    directory: PrivateDirectory,
    /// The batch to which the next row may belong, and those before it that are not stored yet.
    batches: Vec<Batch>,
    next_seq: i64,
}

impl fmt::Debug for PrivateDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateDatabase").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// The reason why rows could not be added.
pub(crate) enum NotAdded {
    /// The row of this place among them has the id of the entry with this `seq`.
    Duplicate(usize, i64),
    Failed(AuditError),
}

impl PrivateDatabase {
    /// Creates the database in this directory, by default in the one for SQLite's temporary files.
    pub(crate) async fn create(ledger: &str, place: Option<&Path>) -> Result<Self, AuditError> {
        // From now on a write beyond a limit on the size of files is an error, and does not end the process.
        largest_file();
        let directory = PrivateDirectory::create_in(place)?;
        let file = directory.0.join("entries.db");
        let error = |cause| directory.error(cause);
        Access::default().create(&file).map_err(|cause| error(cause.into()))?;
        // Without a journal: if loading fails, the whole database is given up.
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(false)
            .disable_statement_logging()
            .journal_mode(SqliteJournalMode::Off)
            .synchronous(SqliteSynchronous::Off)
            .page_size(PAGE_BYTES)
            .pragma("cache_size", format!("-{CACHE_KIB}"));
        let mut loader = SqliteConnection::connect_with(&options).await.map_err(error)?;
        let reading = options.pragma("query_only", "1").row_buffer_size(8);
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(reading);
        // These are all connections that there will ever be.
        let mut open = Vec::new();
        for _ in 0..READERS {
            open.push(readers.acquire().await.map_err(error)?);
        }
        for mut connection in open {
            connection.return_to_pool().await;
        }
        // If the file cannot be removed while it is open, it goes with its directory.
        drop(std::fs::remove_file(&file));
        migrate(&mut loader, ledger, Migrate::Auto).await.map_err(|failed| failed.error)?;
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut loader).await.map_err(error)?;
        Ok(Self { loader, readers, directory, batches: Vec::new(), next_seq: 0 })
    }

    /// Adds rows, each with its `seq` and the time of its commit, in ascending order after all that were added before.
    pub(crate) async fn add(&mut self, rows: &[(i64, Row, i64)]) -> Result<(), NotAdded> {
        let seqs = rows.iter().map(|(seq, ..)| *seq);
        let only_rows: Vec<&Row> = rows.iter().map(|(_, row, _)| row).collect();
        if let Err(cause) = insert_rows(&mut self.loader, seqs, &only_rows, None).await {
            // SQLITE_CONSTRAINT: two entries have the same id.
            if code_of(&cause) == Some(19)
                && let Some(twice) = self.duplicate(rows).await
            {
                return Err(twice);
            }
            return Err(NotAdded::Failed(self.directory.error(cause)));
        }
        for (seq, row, committed_at) in rows {
            match self.batches.last_mut() {
                Some(batch) if self.next_seq == *seq && batch.committed_at == *committed_at => {
                    batch.entries += 1;
                    batch.least_ts = batch.least_ts.min(row.ts);
                    batch.greatest_ts = batch.greatest_ts.max(row.ts);
                }
                _ => self.batches.push(Batch {
                    first_seq: *seq,
                    entries: 1,
                    committed_at: *committed_at,
                    least_ts: row.ts,
                    greatest_ts: row.ts,
                }),
            }
            self.next_seq = seq.saturating_add(1);
        }
        if self.batches.len() > BATCHES {
            let last = self.batches.pop();
            self.store_batches().await.map_err(NotAdded::Failed)?;
            self.batches.extend(last);
        }
        Ok(())
    }

    /// The first of these rows whose id another entry has. The rows before it were stored.
    async fn duplicate(&mut self, rows: &[(i64, Row, i64)]) -> Option<NotAdded> {
        for (place, (seq, row, _)) in rows.iter().enumerate() {
            let held = sqlx::query_scalar("SELECT seq FROM tracing_audit_entries WHERE id = ?").bind(row.id);
            let held: Option<i64> = held.fetch_optional(&mut self.loader).await.ok()?;
            match held {
                Some(held) if held == *seq => {}
                held => return held.map(|held| NotAdded::Duplicate(place, held)),
            }
        }
        None
    }

    async fn store_batches(&mut self) -> Result<(), AuditError> {
        let batches = std::mem::take(&mut self.batches);
        for some in batches.chunks(BATCHES) {
            let mut insert = QueryBuilder::new(
                "INSERT INTO tracing_audit_batches \
                 (first_seq, entries, writer, position, committed_at, least_ts, greatest_ts) ",
            );
            insert.push_values(some, |mut values, batch| {
                values.push_bind(batch.first_seq).push_bind(batch.entries).push_bind(Uuid::nil());
                values.push_bind(0_i64).push_bind(batch.committed_at);
                values.push_bind(batch.least_ts).push_bind(batch.greatest_ts);
            });
            let done = insert.build().execute(&mut self.loader).await;
            done.map_err(|cause| self.directory.error(cause))?;
        }
        Ok(())
    }

    /// Ends loading. The database exists until the store is dropped.
    pub(crate) async fn finish(mut self) -> Result<Store, AuditError> {
        self.store_batches().await?;
        let Self { mut loader, readers, directory, next_seq, .. } = self;
        let finish = async |loader: &mut SqliteConnection| {
            let head = "UPDATE tracing_audit_head SET next_seq = ?1, given = ?1";
            sqlx::query(head).bind(next_seq).execute(&mut *loader).await?;
            sqlx::raw_sql("COMMIT").execute(loader).await
        };
        finish(&mut loader).await.map_err(|cause| directory.error(cause))?;
        loader.close().await.map_err(|cause| directory.error(cause))?;
        Ok(Store::from(readers).kept_with(directory))
    }
}

impl PrivateDirectory {
    fn error(&self, cause: sqlx::Error) -> AuditError {
        let place = self.0.parent().unwrap_or(&self.0);
        if may_lack_room(&cause) {
            let message = format!(
                "no room for a temporary database in {}, which needs about as much as the file without compression: free \
                 space there, or name another directory by the variable SQLITE_TMPDIR (a quota, or a limit on \
                 the size of files, has the same effect)",
                place.display()
            );
            return AuditError::new(ErrorKind::Store, message).because(cause);
        }
        store_error(&self.0, cause)
    }
}
