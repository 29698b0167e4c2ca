//! Opening the writing connection: what file it is, its journal mode, its tables.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use sqlx::{
    Connection, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteConnection as Raw},
};

use super::{BUSY_TIMEOUT, PAGE_BYTES, Source, Sqlite, append::SqliteAppender, for_writing};
use crate::{
    AuditError,
    entry::Moment,
    error::Kind,
    platform::FileIdentity,
    store::migration::{Migrate, Migration, not_migrated},
};

/// The schema, oldest first; the version of a database is how many of these it has seen.
pub(super) const MIGRATIONS: [&str; 2] = [
    include_str!("../../../migrations/sqlite/0001_ledger.sql"),
    include_str!("../../../migrations/sqlite/0002_reads.sql"),
];

/// Several processes that open a fresh file at the same moment collide while switching it to WAL, where
/// SQLite does not wait by itself: this is the pause between two tries.
const OPEN_PAUSE: Duration = Duration::from_millis(20);

/// What an append works with.
pub(super) enum Connected {
    Own {
        connection: Raw,
        file: Option<FileIdentity>,
    },
    /// A database in memory lives in its pool: a connection is borrowed for each batch.
    Borrowed(SqlitePool),
}

/// Before the tables, while the file is empty.
const MODE: &str = "PRAGMA journal_mode = WAL";

const CREATE_MIGRATIONS: &str = "CREATE TABLE tracing_audit_migrations \
                                 (version INTEGER PRIMARY KEY, applied_at INTEGER NOT NULL) STRICT";

pub(super) fn migrations() -> Vec<Migration> {
    let script = |(version, sql): (u32, &&str)| {
        let (before, create) = match version {
            1 => (format!("PRAGMA page_size = {PAGE_BYTES};\n{MODE};\n"), format!("{CREATE_MIGRATIONS};\n")),
            _ => (String::new(), String::new()),
        };
        let reached = format!(
            "INSERT INTO tracing_audit_migrations VALUES ({version}, CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER))"
        );
        let sql = format!("{before}BEGIN IMMEDIATE;\n{create}{reached};\n\n{sql}\nCOMMIT;\n");
        Migration { version, sql }
    };
    (1..).zip(&MIGRATIONS).map(script).collect()
}

pub(super) async fn connect(
    sqlite: &Sqlite,
    ledger: &str,
    may: Migrate,
) -> Result<SqliteAppender, AuditError> {
    let (options, ours) = match &sqlite.source {
        Source::File { options, .. } => {
            let creates = may == Migrate::Auto;
            if !creates && sqlite.file.get().is_none() && !options.get_filename().exists() {
                let message = format!(
                    "{} does not exist: run what Store::migrations gives, or open with Migrate::Auto",
                    options.get_filename().display()
                );
                return Err(AuditError::new(Kind::Schema, message));
            }
            (options.as_ref().clone().create_if_missing(creates), creates)
        }
        Source::Pool { pool, in_memory } => {
            if is_in_memory(pool, in_memory).await? {
                let mut connection =
                    pool.acquire().await.map_err(|cause| opening(Path::new(":memory:"), cause))?;
                let mut tries = Tries::new();
                let migrated = loop {
                    match migrate(&mut connection, ledger, may).await {
                        Ok(()) => break Ok(()),
                        Err(failed) => {
                            if let Err(error) = tries.again(failed).await {
                                break Err(error);
                            }
                        }
                    }
                };
                // Not left to a task that this runtime may not live to run: with its last connection the
                // database would go.
                connection.return_to_pool().await;
                migrated?;
                return Ok(SqliteAppender::new(Connected::Borrowed(pool.clone())));
            }
            (pool.connect_options().as_ref().clone(), false)
        }
    };
    let path = options.get_filename().to_owned();
    let mut options = for_writing(options);
    if let Some(file) = sqlite.file.get() {
        // What was there and is gone is a fault to report, not a reason to begin a new ledger at 0.
        file.check()?;
        options = options.create_if_missing(false);
    }
    let mut tries = Tries::new();
    let connection = loop {
        match open(&options, ours, ledger, may).await {
            Ok(connection) => break connection,
            Err(failed) => tries.again(failed).await?,
        }
    };
    let file = match (sqlite.file.get(), FileIdentity::of(&path)) {
        (Some(first), _) => Some(first.clone()),
        (None, Some(opened)) => Some(sqlite.file.get_or_init(|| opened).clone()),
        (None, None) => None,
    };
    Ok(SqliteAppender::new(Connected::Own { connection, file }))
}

/// Since when opening is tried.
struct Tries(Instant);

impl Tries {
    fn new() -> Self {
        Self(Instant::now())
    }

    /// Pauses before another try if the database was busy; otherwise, or after too long, gives the error back.
    async fn again(&mut self, failed: OpenError) -> Result<(), AuditError> {
        if !failed.busy || self.0.elapsed() >= BUSY_TIMEOUT {
            return Err(failed.error);
        }
        tokio::time::sleep(OPEN_PAUSE).await;
        Ok(())
    }
}

struct OpenError {
    busy: bool,
    error: AuditError,
}

async fn open(
    options: &SqliteConnectOptions,
    ours: bool,
    ledger: &str,
    may: Migrate,
) -> Result<Raw, OpenError> {
    let path = options.get_filename();
    let failed = |cause: sqlx::Error| OpenError { busy: is_busy(&cause), error: opening(path, cause) };
    let mut connection = Raw::connect_with(options).await.map_err(failed)?;
    if ours {
        // A database that has tables already has a mode that somebody chose.
        let empty: bool = sqlx::query_scalar("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)")
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
        if empty {
            sqlx::query(MODE).execute(&mut connection).await.map_err(failed)?;
        }
    }
    migrate(&mut connection, ledger, may).await?;
    Ok(connection)
}

async fn is_in_memory(pool: &SqlitePool, known: &OnceLock<bool>) -> Result<bool, AuditError> {
    if let Some(known) = known.get() {
        return Ok(*known);
    }
    let failed = |cause| opening(pool.connect_options().get_filename(), cause);
    let mut connection = pool.acquire().await.map_err(failed)?;
    let file = file_of(&mut connection).await;
    connection.return_to_pool().await;
    let file = file.map_err(failed)?;
    Ok(*known.get_or_init(|| file.as_os_str().is_empty()))
}

/// Brings the tables up to date, if it may. The version is read first without a lock, and again under one.
async fn migrate(connection: &mut SqliteConnection, ledger: &str, may: Migrate) -> Result<(), OpenError> {
    // Only for messages; what is wrong shows with the next statement.
    let path = file_of(connection).await.unwrap_or_default();
    let failed = |cause: sqlx::Error| OpenError { busy: is_busy(&cause), error: opening(&path, cause) };
    let known = MIGRATIONS.len();
    let found = version(connection).await.map_err(failed)?;
    if found < known && may == Migrate::Check {
        return Err(OpenError { busy: false, error: not_migrated(found, known) });
    }
    if found < known {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let version = version(&mut transaction).await.map_err(failed)?;
        if version == 0 {
            sqlx::raw_sql(CREATE_MIGRATIONS).execute(&mut *transaction).await.map_err(failed)?;
        }
        for (index, sql) in MIGRATIONS.into_iter().enumerate().skip(version) {
            sqlx::raw_sql(sql).execute(&mut *transaction).await.map_err(failed)?;
            sqlx::query("INSERT INTO tracing_audit_migrations VALUES (?, ?)")
                .bind(i64::try_from(index + 1).unwrap_or(i64::MAX))
                .bind(Moment::now().micros)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)?;
    }
    let refused = |message| OpenError { busy: false, error: AuditError::new(Kind::Schema, message) };
    let version = version(connection).await.map_err(failed)?;
    if version > known {
        return Err(refused(format!(
            "{} has schema version {version} and this version of tracing-audit knows {known}: upgrade tracing-audit",
            path.display()
        )));
    }
    let held = "SELECT ledger FROM tracing_audit_head";
    let held: Option<String> =
        sqlx::query_scalar(held).fetch_optional(&mut *connection).await.map_err(failed)?;
    let held = match held {
        Some(held) => held,
        None => begin_ledger(connection, ledger).await.map_err(failed)?,
    };
    if held != ledger {
        return Err(refused(format!(
            "{} holds the ledger {held:?}, not {ledger:?}: a SQLite file holds one ledger, give this one a file of its own",
            path.display()
        )));
    }
    Ok(())
}

/// Makes the head of the ledger in a file that has none, unless another process is faster. Which one it is then.
async fn begin_ledger(connection: &mut SqliteConnection, ledger: &str) -> sqlx::Result<String> {
    let begin = "INSERT INTO tracing_audit_head SELECT ?, 0
                 WHERE NOT EXISTS (SELECT 1 FROM tracing_audit_head)
                   AND NOT EXISTS (SELECT 1 FROM tracing_audit_entries)";
    sqlx::query(begin).bind(ledger).execute(&mut *connection).await?;
    sqlx::query_scalar("SELECT ledger FROM tracing_audit_head").fetch_one(connection).await
}

async fn version(connection: &mut SqliteConnection) -> sqlx::Result<usize> {
    let there: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'tracing_audit_migrations')",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !there {
        return Ok(0);
    }
    let version: i64 = sqlx::query_scalar("SELECT ifnull(max(version), 0) FROM tracing_audit_migrations")
        .fetch_one(connection)
        .await?;
    Ok(usize::try_from(version).unwrap_or(0))
}

/// The file of a connection; empty for a database in memory.
async fn file_of(connection: &mut SqliteConnection) -> sqlx::Result<PathBuf> {
    let file = sqlx::query_scalar::<_, String>("SELECT file FROM pragma_database_list WHERE name = 'main'")
        .fetch_one(connection)
        .await?;
    Ok(PathBuf::from(file))
}

/// The primary result code of an error from SQLite itself.
pub(super) fn code_of(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

/// `SQLITE_BUSY` or `SQLITE_LOCKED` (which a shared cache in memory gives).
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    matches!(code_of(error), Some(5 | 6))
}

/// An error at opening, with what to do about it where that is known.
pub(super) fn opening(path: &Path, cause: sqlx::Error) -> AuditError {
    let shown = path.display();
    let message = match code_of(&cause) {
        Some(26) => format!("{shown} is not a SQLite database: choose another path or move that file away"),
        Some(14) if path.is_dir() => format!("{shown} is a directory: give the path of a file in it"),
        Some(14) => format!(
            "{shown} cannot be opened: its directory must exist and this process must be allowed to read and write it"
        ),
        Some(8) => format!(
            "{shown} is read-only: this process needs to write the file and its directory, and the file system must be mounted writable"
        ),
        Some(5 | 6) => {
            format!("{shown} stayed locked by another connection: end the transaction that holds it")
        }
        Some(11) => {
            format!("{shown} is damaged: restore it from a backup, or move it away to start a new ledger")
        }
        Some(13) => format!("no room for {shown}: free space on its file system"),
        _ => format!("{shown} cannot be opened, migrated, read or written"),
    };
    AuditError::new(Kind::Store, message).because(cause)
}
