//! Creates and migrates the tables.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};

use super::{
    error::{is_race, store_error},
    functions::stands_in,
    insert::BEGIN,
    place::MIGRATIONS as MIGRATIONS_TABLE,
    source::Postgres,
    sql::is_table,
};
use crate::error::{AuditError, ErrorKind};
use crate::store::{Migrate, Migration, migration::not_migrated};

/// The scripts of the migrations, oldest first. The version of a database is the number of migrations that it has had.
const MIGRATIONS: [&str; 5] = [
    include_str!("../../../migrations/postgres/0001_ledger.sql"),
    include_str!("../../../migrations/postgres/0002_reads.sql"),
    include_str!("../../../migrations/postgres/0003_writers.sql"),
    include_str!("../../../migrations/postgres/0004_tree.sql"),
    include_str!("../../../migrations/postgres/0005_functions.sql"),
];

const CREATE_MIGRATIONS: &str = "CREATE TABLE IF NOT EXISTS @tracing_audit_migrations \
                                 (version bigint PRIMARY KEY, applied_at timestamptz NOT NULL)";

/// The time for which a migration is retried while other processes migrate the tables at the same moment.
const MIGRATE_FOR: Duration = Duration::from_secs(30);
const MIGRATE_PAUSE: Duration = Duration::from_millis(20);

/// The migrations as scripts, for running them by hand.
pub(super) fn migrations(postgres: &Postgres) -> Vec<Migration> {
    let prefix = postgres.prefix();
    let schema = prefix.trim_end_matches('.');
    let script = |(version, sql): (u32, &&str)| {
        let path = if schema.is_empty() {
            String::new()
        } else {
            format!("SET LOCAL search_path TO {schema}, pg_temp;\n")
        };
        let first = match (version, schema) {
            (1, "") => format!("{};\n", postgres.sql(CREATE_MIGRATIONS).0),
            (1, schema) => {
                format!("CREATE SCHEMA IF NOT EXISTS {schema};\n{};\n", postgres.sql(CREATE_MIGRATIONS).0)
            }
            _ => String::new(),
        };
        let reached = postgres.sql("INSERT INTO @tracing_audit_migrations VALUES").0;
        let sql = format!("BEGIN;\n{first}{reached} ({version}, now());\n{path}\n{sql}\nCOMMIT;\n");
        Migration { version, sql }
    };
    (1..).zip(&MIGRATIONS).map(script).collect()
}

/// Brings the tables up to date, if it may. The version is read first, without a lock. The lock is the
/// row of the next version, which only one transaction can add.
pub(super) async fn migrate(
    postgres: &Postgres,
    connection: &mut PgConnection,
    may: Migrate,
) -> Result<(), AuditError> {
    let start = Instant::now();
    let known = MIGRATIONS.len();
    loop {
        let version = version(postgres, connection).await?;
        if version > known {
            let message = format!(
                "the database has schema version {version} and this version of tracing-audit knows {known}: upgrade tracing-audit"
            );
            return Err(AuditError::new(ErrorKind::Schema, message));
        }
        let Some(migration) = MIGRATIONS.get(version) else { return Ok(()) };
        if may == Migrate::Check {
            return Err(not_migrated(version, known));
        }
        match apply(postgres, connection, version + 1, migration).await {
            Ok(()) => {}
            // Another process has added the row or created the table first.
            Err(cause) if is_race(&cause) && start.elapsed() < MIGRATE_FOR => {
                tokio::time::sleep(MIGRATE_PAUSE).await;
            }
            Err(cause) => return Err(store_error(cause)),
        }
    }
}

/// The version of the tables, 0 if they do not exist.
async fn version(postgres: &Postgres, connection: &mut PgConnection) -> Result<usize, AuditError> {
    let mut transaction = connection.begin_with(BEGIN).await.map_err(store_error)?;
    if !is_table(postgres, &mut transaction, MIGRATIONS_TABLE).await.map_err(store_error)? {
        return Ok(0);
    }
    // A role without rights on the tables asks the function, which tables of an earlier version do not have.
    let asks = stands_in(postgres, &mut transaction, (MIGRATIONS_TABLE, "SELECT"), "tracing_audit_version");
    let version = postgres.statement(if asks.await? {
        "SELECT @tracing_audit_version()"
    } else {
        "SELECT coalesce(max(version), 0) FROM @tracing_audit_migrations"
    });
    let version: i64 = version.scalar().fetch_one(&mut *transaction).await.map_err(store_error)?;
    transaction.commit().await.map_err(store_error)?;
    Ok(usize::try_from(version).unwrap_or(0))
}

/// Migrates the tables to this version, and creates what records it if this is the first.
async fn apply(
    postgres: &Postgres,
    connection: &mut PgConnection,
    version: usize,
    migration: &'static str,
) -> sqlx::Result<()> {
    if version == 1 {
        let mut transaction = connection.begin_with(BEGIN).await?;
        if let Some(schema) = &postgres.schema {
            let exists = postgres.statement("SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)");
            if !exists.scalar::<bool>().bind(schema).fetch_one(&mut *transaction).await? {
                let create =
                    format!("CREATE SCHEMA IF NOT EXISTS {}", postgres.prefix().trim_end_matches('.'));
                sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut *transaction).await?;
            }
        }
        // The table is committed by itself, so that a second process waits for the row and not for the table.
        sqlx::raw_sql(postgres.sql(CREATE_MIGRATIONS)).execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    let mut transaction = connection.begin_with(BEGIN).await?;
    let add = postgres.statement("INSERT INTO @tracing_audit_migrations VALUES ($1, now())");
    add.query().bind(i64::try_from(version).unwrap_or(i64::MAX)).execute(&mut *transaction).await?;
    // A script creates its objects in the first schema of this path. The server's own names come before it all the
    // same. The setting ends with the transaction.
    let path = format!("SET LOCAL search_path = {}, pg_temp", postgres.prefix().trim_end_matches('.'));
    sqlx::raw_sql(sqlx::AssertSqlSafe(path)).execute(&mut *transaction).await?;
    sqlx::raw_sql(migration).execute(&mut *transaction).await?;
    transaction.commit().await
}
