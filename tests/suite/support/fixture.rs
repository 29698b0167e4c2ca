//! A log on a fresh database, what it holds, and SQL beside it.

use std::{path::Path, sync::LazyLock, time::Instant};

use serde_json::Value;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tracing_audit::{
    AuditEntry, AuditFilter, AuditLog, AuditLogBuilder, AuditReader, AuditWriter, SequencedEntry, Store,
    migrate::Migrate, reader::Page,
};
use uuid::Uuid;

use super::process::PATIENCE;

/// Runs a future on one runtime for all tests, since the connections of a pool live in the runtime that opened them.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
    RUNTIME.block_on(future)
}

pub(crate) fn entry(action: impl Into<String>) -> AuditEntry {
    AuditEntry::new(Uuid::nil(), action, "document")
}

/// A builder whose commits may take as long as a slow machine needs.
pub(crate) fn builder(store: impl Into<Store>) -> AuditLogBuilder {
    AuditLog::builder().store(store).commit_timeout(PATIENCE)
}

/// A log on this SQLite file, whose commits may take as long as a slow machine needs.
pub(crate) fn open(file: &Path) -> AuditLog {
    builder(Store::sqlite(file).unwrap()).blocking().open().unwrap()
}

/// A log on a fresh database; a SQLite file is deleted with it.
pub(crate) struct Fixture {
    pub(crate) log: AuditLog,
    /// The path of a file, or a URL.
    pub(crate) db: String,
    pub(crate) directory: TempDir,
}

/// A log on a fresh SQLite file.
pub(crate) fn log() -> Fixture {
    log_with(|builder| builder)
}

pub(crate) fn log_with(configure: impl FnOnce(AuditLogBuilder) -> AuditLogBuilder) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("audit.db").to_str().unwrap().to_owned();
    let log = configure(builder(store(&db))).blocking().open().unwrap();
    Fixture { log, db, directory }
}

/// The store at this path or URL.
pub(crate) fn store(db: &str) -> Store {
    #[cfg(feature = "postgres")]
    if db.starts_with("postgres:") {
        return Store::postgres(db).unwrap().into();
    }
    Store::sqlite(db).unwrap()
}

impl Fixture {
    pub(crate) fn store(&self) -> Store {
        store(&self.db)
    }

    /// Runs statements on the database itself.
    pub(crate) fn run(&self, sql: &str) {
        run(&self.db, sql);
    }

    /// Waits until everything accepted so far is committed or quarantined, also while the log pauses between two
    /// attempts.
    pub(crate) fn settle(&self) {
        settle(&self.log.writer());
    }

    /// Everything that was accepted so far, in the order of `seq`.
    pub(crate) fn entries(&self) -> Vec<SequencedEntry> {
        self.settle();
        block_on(all(&self.log.reader()))
    }

    /// The only entry.
    pub(crate) fn entry(&self) -> SequencedEntry {
        let mut entries = self.entries();
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries.remove(0)
    }
}

/// Waits until everything that this writer's log accepted is committed or quarantined, however long one flush waits.
pub(crate) fn settle(writer: &AuditWriter) {
    let start = Instant::now();
    while let Err(error) = writer.blocking().flush() {
        assert!(start.elapsed() < PATIENCE, "{error:?}");
    }
}

/// Commits an entry, however long one commit waits, and returns its `seq`.
pub(crate) fn commit(log: &AuditLog, entry: AuditEntry) -> u64 {
    let (writer, id) = (log.writer(), entry.id);
    match writer.blocking().commit(entry) {
        Ok(seq) => seq,
        Err(error) => {
            assert!(error.is_pending(), "{error:?}");
            settle(&writer);
            let found = log.reader().blocking().get(id).unwrap();
            assert_eq!(found.len(), 1, "{found:?}");
            found[0].seq
        }
    }
}

/// All entries in the order of `seq`, page by page.
pub(crate) async fn all(reader: &AuditReader) -> Vec<SequencedEntry> {
    let (mut entries, mut cursor) = (Vec::new(), None);
    loop {
        let Page { entries: page, next, .. } =
            reader.page(AuditFilter::default(), cursor, 1000).await.unwrap();
        entries.extend(page);
        match next {
            Some(next) => cursor = Some(next),
            None => return entries,
        }
    }
}

/// All entries of the database at this path or URL, in the order of `seq`.
pub(crate) fn all_in(db: &str) -> Vec<SequencedEntry> {
    block_on(all(&AuditReader::new(store(db))))
}

pub(crate) fn metadata(entry: &AuditEntry) -> &serde_json::Map<String, Value> {
    entry.metadata.as_object().unwrap()
}

/// Connects to a SQLite file, which is created if it does not exist.
pub(crate) async fn connect(file: impl AsRef<Path>) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
    options.busy_timeout(PATIENCE).connect().await.unwrap()
}

/// Holds the write lock of a SQLite file.
pub(crate) async fn lock(file: impl AsRef<Path>) -> SqliteConnection {
    let mut blocker = connect(file).await;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut blocker).await.unwrap();
    blocker
}

pub(crate) async fn unlock(mut blocker: SqliteConnection) {
    sqlx::raw_sql("ROLLBACK").execute(&mut blocker).await.unwrap();
}

/// Runs statements on the database at this path or URL.
pub(crate) async fn execute(db: &str, sql: impl Into<String>) -> sqlx::Result<()> {
    let sql = sqlx::raw_sql(AssertSqlSafe(sql.into()));
    #[cfg(feature = "postgres")]
    if db.starts_with("postgres:") {
        let mut connection = sqlx::PgConnection::connect(db).await?;
        let done = sql.execute(&mut connection).await;
        connection.close().await?;
        return done.map(|_| ());
    }
    let mut connection = connect(db).await;
    let done = sql.execute(&mut connection).await;
    connection.close().await?;
    done.map(|_| ())
}

/// The texts that this statement gives, row by row.
pub(crate) fn texts(db: &str, sql: &'static str) -> Vec<String> {
    block_on(async {
        #[cfg(feature = "postgres")]
        if db.starts_with("postgres:") {
            let mut connection = sqlx::PgConnection::connect(db).await.unwrap();
            return sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap();
        }
        let mut connection = connect(db).await;
        let texts = sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap();
        // Dropped, it would be closed on another thread, some time later.
        connection.close().await.unwrap();
        texts
    })
}

/// Runs statements on the database at this path or URL, where no runtime is at hand.
pub(crate) fn run(db: &str, sql: impl Into<String>) {
    block_on(execute(db, sql)).unwrap();
}

/// Checks what a log does with a database that has the tables of version 1, and nothing in them.
pub(crate) fn an_older_version_is_brought_up_to_date(store: &dyn Fn() -> Store) {
    let needed = store().migrations().len();
    let reader = AuditReader::new(store());
    assert_eq!(reader.blocking().count(AuditFilter::default()).unwrap(), 0);
    assert_eq!(reader.blocking().reads(.., 1).unwrap(), []);
    let recorded = reader.clone().recorded_as("Ada");
    let error = recorded.blocking().count(AuditFilter::default()).unwrap_err();
    assert!(error.is_schema() && error.to_string().contains("is not answered"), "{error}");

    let open = |migrate| {
        builder(store().migrate(migrate))
            .in_memory_queue()
            .queue_max_entries(10)
            .queue_max_bytes(10_000)
            .blocking()
            .open()
    };
    let error = open(Migrate::Check).unwrap_err();
    let says = format!("version 1 and {needed} is needed");
    assert!(error.is_schema() && error.to_string().contains(&says), "{error}");
    let log = open(Migrate::Auto).unwrap();
    log.writer().blocking().commit(AuditEntry::new(Uuid::nil(), "a", "r")).unwrap();
    assert_eq!(recorded.blocking().count(AuditFilter::default()).unwrap(), 1);
    assert_eq!(reader.blocking().reads(.., 10).unwrap().len(), 1);
    open(Migrate::Check).unwrap();
}
