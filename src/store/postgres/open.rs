//! Opening the writing connection: what the server must be, its tables, the ledger's head.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection, Row as _};

use super::{
    Postgres,
    append::{PostgresAppender, can_copy},
};
use crate::{
    AuditError,
    error::Kind,
    store::migration::{Migrate, Migration, not_migrated},
};

/// The schema, oldest first; the version of a database is how many of these it has seen.
pub(super) const MIGRATIONS: [&str; 2] = [
    include_str!("../../../migrations/postgres/0001_ledger.sql"),
    include_str!("../../../migrations/postgres/0002_reads.sql"),
];

const CREATE_MIGRATIONS: &str = "CREATE TABLE IF NOT EXISTS @tracing_audit_migrations \
                                 (version bigint PRIMARY KEY, applied_at timestamptz NOT NULL)";

/// How long to try again when several processes create the tables at the same moment.
const MIGRATE_FOR: Duration = Duration::from_secs(30);
const MIGRATE_PAUSE: Duration = Duration::from_millis(20);

/// How long an answer may take. A server that vanishes without a word would otherwise be waited for for ever; whoever
/// gives up on a connection drops it.
const ANSWER: Duration = Duration::from_mins(1);

pub(super) async fn in_time<T>(answer: impl Future<Output = T>) -> Result<T, AuditError> {
    tokio::time::timeout(ANSWER, answer).await.map_err(|late| {
        let message = format!("the database server has not answered for {ANSWER:?}");
        AuditError::new(Kind::Store, message).because(late)
    })
}

/// For whoever makes the tables by hand.
pub(super) fn migrations(postgres: &Postgres) -> Vec<Migration> {
    let schema = postgres.prefix.trim_end_matches('.');
    let script = |(version, sql): (u32, &&str)| {
        let path =
            if schema.is_empty() { String::new() } else { format!("SET LOCAL search_path TO {schema};\n") };
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

pub(super) async fn connect(
    postgres: &Postgres,
    ledger: &str,
    may: Migrate,
) -> Result<PostgresAppender, AuditError> {
    in_time(open(postgres, ledger, may)).await?
}

async fn open(postgres: &Postgres, ledger: &str, may: Migrate) -> Result<PostgresAppender, AuditError> {
    let mut connection = PgConnection::connect_with(&postgres.options_now().await?).await.map_err(failed)?;
    let settings = "SELECT current_setting('server_encoding'), current_setting('synchronous_commit')";
    let settings = sqlx::raw_sql(settings).fetch_one(&mut connection).await.map_err(failed)?;
    let encoding: String = settings.try_get(0).map_err(failed)?;
    if encoding != "UTF8" {
        let message =
            format!("the database's encoding is {encoding}: an audit log needs one that is made with UTF8");
        return Err(AuditError::new(Kind::Config, message));
    }
    let synchronous_commit: String = settings.try_get(1).map_err(failed)?;
    migrate(postgres, &mut connection, may).await?;
    // The row that whoever appends will hold.
    let mut transaction = connection.begin().await.map_err(failed)?;
    let head = postgres.statement("SELECT 1 FROM @tracing_audit_heads WHERE ledger = $1");
    let there = head.query().bind(ledger).fetch_optional(&mut *transaction).await.map_err(failed)?;
    if there.is_none() {
        let add =
            postgres.statement("INSERT INTO @tracing_audit_heads VALUES ($1, 0) ON CONFLICT DO NOTHING");
        add.query().bind(ledger).execute(&mut *transaction).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    let can_copy = can_copy(postgres, &mut connection).await.map_err(failed)?;
    let commits_are_not_durable = !matches!(&*synchronous_commit, "on" | "remote_apply");
    Ok(PostgresAppender::new(connection, postgres, ledger, commits_are_not_durable, can_copy))
}

/// Brings the tables up to date, if it may. The version is read first, without a lock; the lock is the row of the
/// version that is about to be reached, which only one transaction can add.
async fn migrate(postgres: &Postgres, connection: &mut PgConnection, may: Migrate) -> Result<(), AuditError> {
    let start = Instant::now();
    let known = MIGRATIONS.len();
    loop {
        let version = version(postgres, connection).await.map_err(failed)?;
        if version > known {
            let message = format!(
                "the database has schema version {version} and this version of tracing-audit knows {known}: upgrade tracing-audit"
            );
            return Err(AuditError::new(Kind::Schema, message));
        }
        let Some(migration) = MIGRATIONS.get(version) else { return Ok(()) };
        if may == Migrate::Check {
            return Err(not_migrated(version, known));
        }
        match apply(postgres, connection, version + 1, migration).await {
            Ok(()) => {}
            // Another process was faster, by a row or by a whole table.
            Err(cause) if is_race(&cause) && start.elapsed() < MIGRATE_FOR => {
                tokio::time::sleep(MIGRATE_PAUSE).await;
            }
            Err(cause) => return Err(failed(cause)),
        }
    }
}

async fn version(postgres: &Postgres, connection: &mut PgConnection) -> sqlx::Result<usize> {
    let mut transaction = connection.begin().await?;
    if !exists(postgres, &mut transaction, "tracing_audit_migrations").await? {
        return Ok(0);
    }
    let version = postgres.statement("SELECT coalesce(max(version), 0) FROM @tracing_audit_migrations");
    let version: i64 = version.scalar().fetch_one(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(usize::try_from(version).unwrap_or(0))
}

/// Whether there is a table of this name where ours are.
pub(super) async fn exists(
    postgres: &Postgres,
    connection: &mut PgConnection,
    table: &str,
) -> sqlx::Result<bool> {
    let name = format!("{}{table}", postgres.prefix);
    postgres.statement("SELECT to_regclass($1) IS NOT NULL").scalar().bind(name).fetch_one(connection).await
}

async fn apply(
    postgres: &Postgres,
    connection: &mut PgConnection,
    version: usize,
    migration: &'static str,
) -> sqlx::Result<()> {
    if version == 1 {
        let mut transaction = connection.begin().await?;
        if let Some(schema) = &postgres.schema {
            let there = postgres.statement("SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)");
            if !there.scalar::<bool>().bind(schema).fetch_one(&mut *transaction).await? {
                let create = format!("CREATE SCHEMA IF NOT EXISTS {}", postgres.prefix.trim_end_matches('.'));
                sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut *transaction).await?;
            }
        }
        // Committed by itself, so that whoever comes second waits for the row and not for the table.
        sqlx::raw_sql(postgres.sql(CREATE_MIGRATIONS)).execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    let mut transaction = connection.begin().await?;
    let add = postgres.statement("INSERT INTO @tracing_audit_migrations VALUES ($1, now())");
    add.query().bind(i64::try_from(version).unwrap_or(i64::MAX)).execute(&mut *transaction).await?;
    if let Some(schema) = &postgres.schema {
        // Until the end of the transaction.
        let path = postgres.statement("SELECT set_config('search_path', quote_ident($1), true)");
        path.query().bind(schema).execute(&mut *transaction).await?;
    }
    sqlx::raw_sql(migration).execute(&mut *transaction).await?;
    transaction.commit().await
}

/// The five characters that say what went wrong: SQLSTATE.
pub(super) fn code_of(cause: &sqlx::Error) -> String {
    cause.as_database_error().and_then(sqlx::error::DatabaseError::code).unwrap_or_default().into_owned()
}

/// Whether the server refuses the role or its password.
pub(super) fn is_refused(cause: &sqlx::Error) -> bool {
    matches!(&*code_of(cause), "28P01" | "28000")
}

pub(super) fn is_race(cause: &sqlx::Error) -> bool {
    // unique_violation, duplicate_table, duplicate_schema, duplicate_object (a table is a type too),
    // serialization_failure, deadlock_detected, and what concurrent changes of the catalogue give.
    matches!(code_of(cause).as_str(), "23505" | "42P07" | "42P06" | "42710" | "40001" | "40P01" | "XX000")
}

/// An error of the database, with what to do about it where that is known.
const NO_TLS: &str =
    "the database server has no TLS, or a certificate that is not trusted: look at sslmode and sslrootcert";

pub(super) fn failed(cause: sqlx::Error) -> AuditError {
    let code = code_of(&cause);
    let message = match code.as_str() {
        "28P01" | "28000" => "the database server refuses the role or its password",
        "3D000" => "there is no such database on the server: create it, or name another",
        "42501" => "the role lacks a grant on the audit tables, or the right to create them",
        "42P01" => "the audit tables are not there, or not in the role's search_path",
        "42P05" | "26000" => {
            "a pooler in transaction mode stands between: end the URL with ?statement-cache-capacity=0"
        }
        "53300" => "the database server has no connection left: raise max_connections, or use a pooler",
        "53100" => "the database server's disk is full",
        "25006" => "the database server is read-only: a standby, or default_transaction_read_only",
        "57014" => "the database server cancelled the statement: raise statement_timeout for this role",
        code if code.starts_with("57P") => "the database server is shutting down or starting",
        code if code.starts_with("40") => "the transaction collided with another",
        _ => match &cause {
            sqlx::Error::Tls(_) if cfg!(not(any(feature = "tls-rustls", feature = "tls-native-tls"))) => {
                "sslmode asks for TLS: enable the feature tls-rustls or tls-native-tls"
            }
            sqlx::Error::Tls(_) => NO_TLS,
            // How rustls tells of a certificate that it does not trust.
            sqlx::Error::Io(cause) if cause.kind() == std::io::ErrorKind::InvalidData => NO_TLS,
            sqlx::Error::Io(_) => "the database server cannot be reached, or the connection to it was lost",
            sqlx::Error::PoolTimedOut => "no connection of the pool became free in time",
            _ => "the audit tables cannot be read or written",
        },
    };
    AuditError::new(Kind::Store, message).because(cause)
}
