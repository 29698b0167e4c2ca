//! SQLite: one file, one ledger, one writing connection per process.

mod append;
mod index;
mod open;
mod quarantine;
mod read;
mod reads;
mod waited;

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    sync::OnceLock,
    time::Duration,
};

use futures_util::{future::BoxFuture, stream::BoxStream};
use sqlx::{
    ConnectOptions, SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    Appender, Backend, Group, Head, Index, IndexOn, Indexes, LedgerRow, Migrate, Migration, QuarantinedRow,
    QueueByDefault, Reads, RecordedReadRow, Span, Store,
};
use crate::{AuditError, AuditQuery, CountBy, error::Kind, platform::FileIdentity, record::Row};

/// How long a connection of ours waits for another process's lock before it reports a failed attempt.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections for reading one file: enough for a few exports and pages at once.
const READERS: u32 = 4;

/// Page cache of the writing connection, in KiB (SQLite's `cache_size` takes it negative). The hot end of each
/// index fits with a few thousand workspaces.
const CACHE_KIB: i32 = 16 * 1024;

/// Page size of files that we create: a tenth faster to fill than SQLite's own 4096, measured at 200 000 rows.
const PAGE_BYTES: u32 = 8192;

/// Pages in the write-ahead log before they are moved into the database. SQLite's own 1000 would be reached by
/// every full batch, and the hot pages moved each time; this is 32 MiB.
const CHECKPOINT_PAGES: u32 = 4000;

#[derive(Debug)]
pub(super) struct Sqlite {
    source: Source,
    /// The file that was first opened for writing, which is the only one ever written.
    file: OnceLock<FileIdentity>,
}

#[derive(Debug)]
enum Source {
    /// A file of ours. The pools for reading, and for recording reads, are made at the first read, since making one
    /// takes a runtime.
    File {
        options: Box<SqliteConnectOptions>,
        readers: OnceLock<SqlitePool>,
        recorders: OnceLock<SqlitePool>,
    },
    /// The application's. Whether it is on a database in memory is found out at the first write.
    Pool { pool: SqlitePool, in_memory: OnceLock<bool> },
}

impl Store {
    /// The SQLite file at `path`, created and migrated when a writer first opens it. A `sqlite:` URL is taken
    /// too; its `mode`, `cache` and `immutable` count.
    ///
    /// # Errors
    /// A malformed URL, or a database in memory: each connection would see its own. Give an `SqlitePool`
    /// instead, which keeps one alive and shares it.
    pub fn sqlite(path: impl AsRef<Path>) -> Result<Self, AuditError> {
        let path = path.as_ref();
        let options = match path.to_str() {
            Some(url) if url.starts_with("sqlite:") => {
                SqliteConnectOptions::from_str(url).map_err(|cause| {
                    AuditError::new(Kind::Config, format!("{url} is not a valid SQLite URL")).because(cause)
                })?
            }
            // Absolute, since the process may change its directory before it reconnects.
            _ => SqliteConnectOptions::new()
                .filename(std::path::absolute(path).unwrap_or_else(|_| path.to_owned())),
        };
        let name = options.get_filename().to_string_lossy();
        let in_memory = |text: &str| text.contains(":memory:") || text.contains("mode=memory");
        if name.is_empty() || in_memory(&name) || path.to_str().is_some_and(in_memory) {
            return Err(AuditError::new(
                Kind::Config,
                "a database in memory cannot be shared by path: give Store::from an SqlitePool",
            ));
        }
        let options = options.disable_statement_logging().busy_timeout(BUSY_TIMEOUT);
        let (readers, recorders) = Default::default();
        let source = Source::File { options: Box::new(options), readers, recorders };
        Ok(Self::of(Sqlite { source, file: OnceLock::new() }))
    }
}

impl From<SqlitePool> for Store {
    fn from(pool: SqlitePool) -> Self {
        let source = Source::Pool { pool, in_memory: OnceLock::new() };
        Self::of(Sqlite { source, file: OnceLock::new() })
    }
}

impl Sqlite {
    fn readers(&self) -> &SqlitePool {
        match &self.source {
            Source::Pool { pool, .. } => pool,
            Source::File { options, readers, .. } => readers.get_or_init(|| {
                let options = options.as_ref().clone().create_if_missing(false).pragma("query_only", "1");
                SqlitePoolOptions::new().max_connections(READERS).connect_lazy_with(options)
            }),
        }
    }

    /// For adding to the record of reads.
    fn recorders(&self) -> &SqlitePool {
        match &self.source {
            Source::Pool { pool, .. } => pool,
            Source::File { options, recorders, .. } => recorders.get_or_init(|| {
                let options = for_writing(options.as_ref().clone().create_if_missing(false));
                SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options)
            }),
        }
    }

    /// None for a pool on a database in memory, or one whose file is hidden in a URI.
    fn file_path(&self) -> Option<PathBuf> {
        let path = self.path();
        let text = path.to_str()?;
        let named = !text.is_empty() && !text.starts_with("file:") && !text.contains(":memory:");
        named.then(|| std::path::absolute(&path).unwrap_or(path))
    }

    fn path(&self) -> PathBuf {
        match &self.source {
            Source::File { options, .. } => options.get_filename().to_owned(),
            Source::Pool { pool, .. } => pool.connect_options().get_filename().to_owned(),
        }
    }
}

/// Settings of every connection that writes. FULL makes a commit durable when it returns: one sync per batch,
/// not per entry.
fn for_writing(options: SqliteConnectOptions) -> SqliteConnectOptions {
    options
        .disable_statement_logging()
        .synchronous(SqliteSynchronous::Full)
        .page_size(PAGE_BYTES)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string())
        .pragma("cache_size", format!("-{CACHE_KIB}"))
        .thread_name(|id| format!("tracing-audit-sqlite-{id}"))
}

#[cfg(test)]
impl Sqlite {
    fn of_file(file: PathBuf) -> Self {
        let (readers, recorders) = Default::default();
        let options = Box::new(SqliteConnectOptions::new().filename(file));
        Self { source: Source::File { options, readers, recorders }, file: OnceLock::new() }
    }
}

impl Backend for Sqlite {
    /// Its file as seen from beside the journals, so that both can be moved, or mounted elsewhere, together.
    fn name(&self, directory: &Path) -> Option<String> {
        let file = self.file_path()?;
        let beside = directory.parent().and_then(|parent| file.strip_prefix(parent).ok());
        Some(format!("sqlite:{}", beside.unwrap_or(&file).to_str()?))
    }

    fn queue_by_default(&self) -> QueueByDefault {
        match (&self.source, self.file_path()) {
            (Source::File { .. }, Some(path)) => {
                let mut path = path.into_os_string();
                path.push(".queue");
                QueueByDefault::Journal(path.into())
            }
            _ => QueueByDefault::Memory,
        }
    }

    fn connect<'a>(
        &'a self,
        ledger: &'a str,
        migrate: Migrate,
    ) -> BoxFuture<'a, Result<Box<dyn Appender>, AuditError>> {
        Box::pin(async move {
            let appender: Box<dyn Appender> = Box::new(open::connect(self, ledger, migrate).await?);
            Ok(appender)
        })
    }

    fn migrations(&self) -> Vec<Migration> {
        open::migrations()
    }

    fn reads(&self) -> Result<&dyn Reads, AuditError> {
        Ok(self)
    }

    fn indexes(&self) -> Result<&dyn Indexes, AuditError> {
        Ok(self)
    }
}

impl Reads for Sqlite {
    fn rows<'a>(&'a self, query: &'a AuditQuery) -> BoxStream<'a, Result<Row, AuditError>> {
        read::rows(self, query)
    }

    fn page<'a>(
        &'a self,
        query: &'a AuditQuery,
        span: Span,
        size: u32,
    ) -> BoxFuture<'a, Result<Vec<LedgerRow>, AuditError>> {
        Box::pin(read::page(self, query, span, size))
    }

    fn count<'a>(&'a self, query: &'a AuditQuery) -> BoxFuture<'a, Result<u64, AuditError>> {
        Box::pin(read::count(self, query))
    }

    fn count_by<'a>(
        &'a self,
        query: &'a AuditQuery,
        by: &'a CountBy,
    ) -> BoxFuture<'a, Result<Vec<Group>, AuditError>> {
        Box::pin(read::count_by(self, query, by))
    }

    fn heads<'a>(&'a self, ledger: Option<&'a str>) -> BoxFuture<'a, Result<Vec<Head>, AuditError>> {
        Box::pin(read::heads(self, ledger))
    }

    fn record<'a>(&'a self, read: &'a RecordedReadRow) -> BoxFuture<'a, Result<(), AuditError>> {
        Box::pin(reads::record(self, read))
    }

    fn recorded<'a>(
        &'a self,
        query: &'a AuditQuery,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<RecordedReadRow>, AuditError>> {
        Box::pin(reads::rows(self, query, limit))
    }

    fn quarantined(&self) -> BoxStream<'_, Result<QuarantinedRow, AuditError>> {
        quarantine::rows(self)
    }

    fn is_served<'a>(&'a self, query: &'a AuditQuery) -> BoxFuture<'a, Result<bool, AuditError>> {
        Box::pin(read::is_served(self, query))
    }
}

impl Indexes for Sqlite {
    fn sql(&self, on: &IndexOn) -> String {
        index::sql(on)
    }

    fn ensure<'a>(&'a self, on: &'a IndexOn, migrate: Migrate) -> BoxFuture<'a, Result<bool, AuditError>> {
        Box::pin(index::ensure(self, on, migrate))
    }

    fn drop<'a>(&'a self, on: &'a IndexOn) -> BoxFuture<'a, Result<(), AuditError>> {
        Box::pin(index::drop(self, on))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Index>, AuditError>> {
        Box::pin(index::list(self))
    }
}
