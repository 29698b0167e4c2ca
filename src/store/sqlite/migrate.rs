//! Creates and migrates the tables, and begins the ledger of a new file.

use std::path::PathBuf;

use sqlx::{Connection, SqliteConnection};
use uuid::Uuid;

use super::{
    error::{is_busy, store_error},
    source::PAGE_BYTES,
};
use crate::entry::Moment;
use crate::error::{AuditError, ErrorKind};
use crate::store::{Migrate, Migration, migration::not_migrated};

/// The schema, oldest first. The version of a database is the number of these that it has.
const MIGRATIONS: [&str; 4] = [
    include_str!("../../../migrations/sqlite/0001_ledger.sql"),
    include_str!("../../../migrations/sqlite/0002_reads.sql"),
    include_str!("../../../migrations/sqlite/0003_writers.sql"),
    include_str!("../../../migrations/sqlite/0004_tree.sql"),
];

/// The greatest version that this crate knows.
pub(super) fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Sets the journal mode of a file that we create: before the tables, while the file is empty.
pub(super) const MODE: &str = "PRAGMA journal_mode = WAL";

const CREATE_MIGRATIONS: &str = "CREATE TABLE tracing_audit_migrations \
                                 (version INTEGER PRIMARY KEY, applied_at INTEGER NOT NULL) STRICT";

/// An error while opening or migrating, and whether another try may succeed.
pub(super) struct OpenError {
    pub(super) busy: bool,
    pub(super) error: AuditError,
}

/// The migrations as scripts for the `sqlite3` shell.
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

/// Brings the tables up to date, if it may, and checks that they hold this ledger. The version is read first without a
/// lock, and again under one.
pub(super) async fn migrate(
    connection: &mut SqliteConnection,
    ledger: &str,
    may: Migrate,
) -> Result<(), OpenError> {
    // The path is only for messages. If it cannot be read, the next statement fails as well and reports why.
    let path = file_of(connection).await.unwrap_or_default();
    let open_error =
        |cause: sqlx::Error| OpenError { busy: is_busy(&cause), error: store_error(&path, cause) };
    let known = MIGRATIONS.len();
    let found = version(connection).await.map_err(open_error)?;
    if found < known && may == Migrate::Check {
        return Err(OpenError { busy: false, error: not_migrated(found, known) });
    }
    if found < known {
        apply(connection).await.map_err(open_error)?;
    }
    let schema_error =
        |message| OpenError { busy: false, error: AuditError::new(ErrorKind::Schema, message) };
    let version = version(connection).await.map_err(open_error)?;
    if version > known {
        return Err(schema_error(format!(
            "{} has schema version {version} and this version of tracing-audit knows {known}: upgrade tracing-audit",
            path.display()
        )));
    }
    let held = "SELECT ledger, log_id IS NOT NULL FROM tracing_audit_head";
    let held: Option<(String, bool)> =
        sqlx::query_as(held).fetch_optional(&mut *connection).await.map_err(open_error)?;
    let held = match held {
        Some((held, true)) => held,
        _ => begin_ledger(connection, ledger).await.map_err(open_error)?,
    };
    if held != ledger {
        return Err(schema_error(format!(
            "{} holds the ledger {held:?}, not {ledger:?}: a SQLite file holds one ledger, give this one a file of its own",
            path.display()
        )));
    }
    Ok(())
}

/// Runs the migrations that the tables lack, in one transaction.
async fn apply(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let version = version(&mut transaction).await?;
    if version == 0 {
        sqlx::raw_sql(CREATE_MIGRATIONS).execute(&mut *transaction).await?;
    }
    for (index, sql) in MIGRATIONS.into_iter().enumerate().skip(version) {
        sqlx::raw_sql(sql).execute(&mut *transaction).await?;
        sqlx::query("INSERT INTO tracing_audit_migrations VALUES (?, ?)")
            .bind(i64::try_from(index + 1).unwrap_or(i64::MAX))
            .bind(Moment::now().micros)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await
}

/// Adds the head of this ledger to a file that has none, unless another process is faster, and names the log that has no
/// name. Returns the ledger that the file holds then. If the file has entries, somebody has removed its head: the next
/// append finds where it was.
async fn begin_ledger(connection: &mut SqliteConnection, ledger: &str) -> sqlx::Result<String> {
    let begin = "INSERT INTO tracing_audit_head (ledger, next_seq)
                 SELECT ?, 0 WHERE NOT EXISTS (SELECT 1 FROM tracing_audit_head)";
    sqlx::query(begin).bind(ledger).execute(&mut *connection).await?;
    let name = "UPDATE tracing_audit_head SET log_id = ? WHERE log_id IS NULL";
    sqlx::query(name).bind(Uuid::new_v4()).execute(&mut *connection).await?;
    sqlx::query_scalar("SELECT ledger FROM tracing_audit_head").fetch_one(connection).await
}

/// The version of the tables; 0 if there are none.
async fn version(connection: &mut SqliteConnection) -> sqlx::Result<usize> {
    let exists: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'tracing_audit_migrations')",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !exists {
        return Ok(0);
    }
    let version: i64 = sqlx::query_scalar("SELECT ifnull(max(version), 0) FROM tracing_audit_migrations")
        .fetch_one(connection)
        .await?;
    Ok(usize::try_from(version).unwrap_or(0))
}

/// The file of a connection; empty for a database in memory.
pub(super) async fn file_of(connection: &mut SqliteConnection) -> sqlx::Result<PathBuf> {
    let file = sqlx::query_scalar::<_, String>("SELECT file FROM pragma_database_list WHERE name = 'main'")
        .fetch_one(connection)
        .await?;
    Ok(PathBuf::from(file))
}

/// A database in memory that has the tables of this version, or of the latest that is known, and no ledger.
pub(super) async fn tables_of_version(version: usize) -> sqlx::Result<SqliteConnection> {
    let mut connection = SqliteConnection::connect(":memory:").await?;
    sqlx::raw_sql(CREATE_MIGRATIONS).execute(&mut connection).await?;
    for sql in MIGRATIONS.into_iter().take(version) {
        sqlx::raw_sql(sql).execute(&mut connection).await?;
    }
    Ok(connection)
}

/// A database in memory that has the tables and no ledger.
#[cfg(test)]
pub(super) async fn migrated_in_memory() -> sqlx::Result<SqliteConnection> {
    let mut connection = SqliteConnection::connect(":memory:").await?;
    apply(&mut connection).await?;
    Ok(connection)
}
