//! The SQLite database as it was given: its options, its pools, and the connections for readers.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use sqlx::{
    ConnectOptions, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};

use super::{
    error::{is_of_files, no_temporary_directory, store_error},
    kept::Kept,
    opened::Opened,
    sealed::How,
};
use crate::error::{AuditError, ErrorKind};
use crate::platform::{FileIdentity, Turn, Turns, largest_file, lock, temporary_directory};
use crate::store::Store;

/// The time that a connection of ours waits for another process's lock before it reports a failed attempt.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The time that a writer waits for its turn at the file before it continues without one. Seven other processes commit
/// several full batches each in this time.
const TURN_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections for reading one file: enough for a few exports and pages at once.
pub(super) const READERS: u32 = 4;

/// The rows that SQLite reads ahead of a reader, each of which may have a megabyte. More make an export no faster.
const ROWS_AHEAD: usize = 8;

/// Page cache of the writing connection, in KiB (SQLite's `cache_size` takes it negative). The hot end of each
/// index fits with a few thousand workspaces.
const CACHE_KIB: i32 = 16 * 1024;

/// Page size of files that we create. Such a file fills in a tenth less time than with SQLite's own 4096, measured at
/// 200 000 rows.
pub(super) const PAGE_BYTES: u32 = 8192;

/// Pages in the write-ahead log before they are moved into the database: 32 MiB. Every full batch would reach SQLite's
/// own limit of 1000, and move the hot pages each time.
const CHECKPOINT_PAGES: u32 = 4000;

/// The most entries that are sorted in memory, where SQLite can make no temporary file. Each takes 50 bytes and what it is
/// sorted by: 120 MiB with 200 bytes each. More could cost the application its life.
pub(super) const SORTED_IN_MEMORY: i64 = 500_000;

/// A SQLite database.
pub(super) struct Sqlite {
    pub(super) source: Source,
    /// The file that was first opened for writing. No other file is ever written.
    pub(super) file: OnceLock<FileIdentity>,
    /// A connection that must not be closed.
    pub(super) kept: Arc<Kept>,
    /// The files that the readers' connections have open.
    pub(super) opened: Opened,
}

impl fmt::Debug for Sqlite {
    /// Shows the path alone: the options of a pool may hold the key of an encrypted database.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// The way in which the application has given the database.
pub(super) enum Source {
    /// A path or URL. The pools, one for reading and one for recording reads, are made at the first read, because making
    /// a pool takes a runtime.
    File {
        options: Box<SqliteConnectOptions>,
        readers: Arc<OnceLock<SqlitePool>>,
        /// The way in which the readers' connections open the file.
        how: Mutex<How>,
        recorders: Arc<OnceLock<SqlitePool>>,
    },
    /// A pool of the application. The first write finds out whether it is on a database in memory.
    Pool { pool: SqlitePool, in_memory: OnceLock<bool> },
}

impl Store {
    /// The SQLite file at `path`, which is created and migrated when a writer first opens it. The path may be a `sqlite:`
    /// URL, whose `mode`, `cache` and `immutable` count.
    ///
    /// Several processes may write one file. On Linux they take turns, a batch each, in the order in which they ask. The
    /// turns are kept with locks on a small file beside the database, whose name ends with `.turn` after the name of the
    /// database: `audit.db.turn`. It is created with the owner and the mode of the database, and stays; do not delete it
    /// while a log is open. If it cannot be created or opened, or if a turn does not come within 2 s (a stopped process may
    /// hold it), the writer continues without turns and waits for SQLite's own lock, as other programs do.
    ///
    /// A `-wal` or a rollback `-journal` that lies beside the file and does not belong to it, because the file was restored
    /// from a backup, is an error when a log is opened and whenever entries are read: SQLite would play it over the file.
    /// Reading leaves a `-wal` that holds something where it is; the next log moves it into the file. Of one that is damaged,
    /// SQLite reads only what is before the damage: the coverage of each answer says so, and the next log keeps a copy of it.
    ///
    /// The file is the log's own. [`open`](crate::AuditLogBuilder::open) refuses a database that has tables of another
    /// program and none of a log; a program that keeps its log in its own database gives a pool on it, by `Store::from`. It
    /// also refuses a file on a network, FUSE or virtiofs file system: a log there can be read, not written.
    ///
    /// # Errors
    /// [`is_config`](AuditError::is_config) for a malformed URL, or for a database in memory: each connection would see
    /// its own. Give an `SqlitePool` instead, which keeps one database alive and shares it.
    pub fn sqlite(path: impl AsRef<Path>) -> Result<Self, AuditError> {
        let path = path.as_ref();
        let options = match path.to_str() {
            Some(url) if url.starts_with("sqlite:") => {
                SqliteConnectOptions::from_str(url).map_err(|cause| {
                    let message =
                        "not a valid SQLite URL: sqlite:audit.db, or sqlite:///var/lib/app/audit.db";
                    AuditError::new(ErrorKind::Config, message).because(cause)
                })?
            }
            // The message does not repeat the URL, which may hold a password.
            Some(url) if is_url(url) => {
                return Err(AuditError::new(
                    ErrorKind::Config,
                    "a SQLite file is given by its path or a sqlite: URL, and this is another URL: for PostgreSQL, give \
                     builder().store(Store::postgres(url)?)",
                ));
            }
            _ => SqliteConnectOptions::new().filename(path),
        };
        // Absolute, because the process may change its directory before it connects again.
        let options = match options.get_filename() {
            name if name.as_os_str().is_empty() || name.starts_with("file:") => options,
            name => {
                let absolute = std::path::absolute(name).unwrap_or_else(|_| name.to_owned());
                options.filename(absolute)
            }
        };
        let name = options.get_filename().to_string_lossy();
        let in_memory = |text: &str| text.contains(":memory:") || text.contains("mode=memory");
        if name.is_empty() || in_memory(&name) || path.to_str().is_some_and(in_memory) {
            return Err(AuditError::new(
                ErrorKind::Config,
                "a database in memory cannot be shared by path: give Store::from an SqlitePool",
            ));
        }
        let options = options.disable_statement_logging().busy_timeout(BUSY_TIMEOUT);
        Ok(Self::of(Sqlite::with_options(options)))
    }
}

/// Whether the text begins like a URL with a host: `postgres://`.
fn is_url(text: &str) -> bool {
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    text.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme))
}

impl From<SqlitePool> for Store {
    fn from(pool: SqlitePool) -> Self {
        let source = Source::Pool { pool, in_memory: OnceLock::new() };
        let opened = Opened::new(Path::new(""));
        Self::of(Sqlite { source, file: OnceLock::new(), kept: Arc::default(), opened })
    }
}

impl Sqlite {
    pub(super) fn with_options(options: SqliteConnectOptions) -> Self {
        let (readers, recorders) = Default::default();
        let opened = Opened::new(options.get_filename());
        let source = Source::File { options: Box::new(options), readers, how: Mutex::default(), recorders };
        Self { source, file: OnceLock::new(), kept: Arc::default(), opened }
    }

    /// The pool that queries are read with. `reading.rs` looks at the files before each operation.
    pub(super) fn readers(&self) -> &SqlitePool {
        match &self.source {
            Source::Pool { pool, .. } => pool,
            Source::File { options, readers, how, .. } => readers.get_or_init(|| {
                let options = for_reading(options.as_ref().clone(), *lock(how));
                self.opened.watched().max_connections(READERS).connect_lazy_with(options)
            }),
        }
    }

    /// The pools that were made for readers, and not by the application.
    pub(super) fn own_pools(&self) -> Vec<Arc<OnceLock<SqlitePool>>> {
        match &self.source {
            Source::Pool { .. } => Vec::new(),
            Source::File { readers, recorders, .. } => vec![Arc::clone(readers), Arc::clone(recorders)],
        }
    }

    /// The pool that adds to the record of reads.
    pub(super) fn recorders(&self) -> &SqlitePool {
        match &self.source {
            Source::Pool { pool, .. } => pool,
            Source::File { options, recorders, .. } => recorders.get_or_init(|| {
                let options = for_writing(options.as_ref().clone().create_if_missing(false));
                self.opened.watched().max_connections(1).connect_lazy_with(options)
            }),
        }
    }

    /// The absolute path of the file. `None` for a pool on a database in memory, or if the file is hidden in a URI.
    pub(super) fn file_path(&self) -> Option<PathBuf> {
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

    /// Turns an error of SQLite into one that names this database, and the remedy where there is one.
    pub(super) fn store_error(&self, cause: sqlx::Error) -> AuditError {
        if is_of_files(&cause) {
            self.opened.distrust();
        }
        store_error(&self.path(), cause)
    }

    /// Refuses what has to sort all entries, if they are too many for memory and SQLite can make no temporary file.
    pub(super) async fn check_sorting(&self) -> Result<(), AuditError> {
        if temporary_directory().is_some() || matches!(self.source, Source::Pool { .. }) {
            return Ok(());
        }
        let entries = "SELECT ifnull(max(next_seq), 0) FROM tracing_audit_head";
        let entries: i64 = sqlx::query_scalar(entries)
            .fetch_one(self.readers())
            .await
            .map_err(|cause| self.store_error(cause))?;
        if entries <= SORTED_IN_MEMORY {
            return Ok(());
        }
        Err(AuditError::new(ErrorKind::Store, no_temporary_directory(&self.path())))
    }
}

/// The settings of every connection that reads.
pub(super) fn for_reading(options: SqliteConnectOptions, how: How) -> SqliteConnectOptions {
    let options = options.create_if_missing(false).pragma("query_only", "1").row_buffer_size(ROWS_AHEAD);
    let options = temporary_in_memory(options);
    match how {
        How::Plain => options,
        How::BesideLog => options.read_only(true),
        How::Sealed(_) => options.read_only(true).immutable(true),
    }
}

/// Keeps temporary tables and sorting in memory where SQLite can make no temporary file.
fn temporary_in_memory(options: SqliteConnectOptions) -> SqliteConnectOptions {
    if temporary_directory().is_some() { options } else { options.pragma("temp_store", "MEMORY") }
}

/// The settings of every connection that writes. With FULL a commit is durable when it returns: one sync per batch, not
/// per entry.
pub(super) fn for_writing(options: SqliteConnectOptions) -> SqliteConnectOptions {
    // From now on a write beyond a limit on the size of files is an error, and does not end the process.
    largest_file();
    temporary_in_memory(options)
        .disable_statement_logging()
        .synchronous(SqliteSynchronous::Full)
        .page_size(PAGE_BYTES)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string())
        .pragma("cache_size", format!("-{CACHE_KIB}"))
        // On macOS, `fsync` alone does not reach the disk. SQLite ignores both elsewhere.
        .pragma("fullfsync", "1")
        .pragma("checkpoint_fullfsync", "1")
        .thread_name(|id| format!("tracing-audit-sqlite-{id}"))
}

/// Waits for a turn at the file. Turns make SQLite's own lock fair, for which several writers poll, so that one can starve.
pub(super) async fn turn(turns: &mut Option<Turns>) -> Option<Turn> {
    turns.as_mut()?.wait(TURN_TIMEOUT).await
}
