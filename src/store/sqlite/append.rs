//! Committing a batch: position, head, rows and quarantine in one transaction.

use std::sync::{Arc, LazyLock};

use futures_util::future::BoxFuture;
use sqlx::{Arguments as _, AssertSqlSafe, Connection, Row as _, SqliteConnection, sqlite::SqliteArguments};
use uuid::Uuid;

use super::{
    open::{Connected, code_of, opening},
    quarantine,
};
use crate::{
    AuditError,
    entry::Moment,
    error::Kind,
    record::Row,
    store::{Append, AppendError, Appender, Applied, Fault, Readmitted},
};

const COLUMNS: &str = "seq, id, ts, workspace_id, session_id, agent_id, action, resource, resource_id, \
                       decision, reason, risk_score, metadata, problems";
const COLUMN_COUNT: usize = 14;

/// Rows per statement, widest first: a statement costs two hops between threads, so few and wide ones; few
/// shapes, so that all stay prepared. Parameters are bare `?`, since SQLite keeps numbered ones in a list
/// that is searched for every one of them. 256 rows are where wider ones stop being faster, and far below
/// SQLite's limit of 32766 parameters. `OR FAIL` because the transaction is rolled back anyway: the default
/// keeps a journal for undoing the one statement, which costs a tenth.
const SHAPES: [usize; 4] = [256, 32, 8, 1];

static STATEMENTS: LazyLock<[Arc<str>; SHAPES.len()]> = LazyLock::new(|| {
    SHAPES.map(|rows| {
        let row = format!("({})", vec!["?"; COLUMN_COUNT].join(","));
        format!("INSERT OR FAIL INTO tracing_audit_entries ({COLUMNS}) VALUES {}", vec![row; rows].join(","))
            .into()
    })
});

pub(super) struct SqliteAppender {
    connected: Connected,
}

impl SqliteAppender {
    pub(super) fn new(connected: Connected) -> Self {
        Self { connected }
    }
}

impl Appender for SqliteAppender {
    fn append<'a>(&'a mut self, batch: Append<'a>) -> BoxFuture<'a, Result<Applied, AppendError>> {
        Box::pin(async move {
            match &mut self.connected {
                Connected::Own { connection, file } => {
                    if let Some(file) = file {
                        file.check().map_err(|error| AppendError { fault: Fault::Store, error })?;
                    }
                    append(connection, batch).await
                }
                Connected::Borrowed(pool) => {
                    let mut connection = pool.acquire().await.map_err(failed)?;
                    let outcome = append(&mut connection, batch).await;
                    // Not left to a task that this runtime may not live to run.
                    connection.return_to_pool().await;
                    outcome
                }
            }
        })
    }

    fn position(&mut self, writer: Uuid) -> BoxFuture<'_, Result<u64, AuditError>> {
        Box::pin(async move {
            let position =
                sqlx::query_scalar("SELECT position FROM tracing_audit_positions WHERE writer = ?");
            let position = position.bind(writer);
            let found: sqlx::Result<Option<i64>> = match &mut self.connected {
                Connected::Own { connection, .. } => position.fetch_optional(connection).await,
                Connected::Borrowed(pool) => position.fetch_optional(&*pool).await,
            };
            found.map(|found| found.map_or(0, i64::cast_unsigned)).map_err(|cause| failed(cause).error)
        })
    }

    fn readmit(&mut self) -> BoxFuture<'_, Result<Readmitted, AuditError>> {
        Box::pin(async move {
            match &mut self.connected {
                Connected::Own { connection, file } => {
                    if let Some(file) = file {
                        file.check()?;
                    }
                    quarantine::readmit(connection).await
                }
                Connected::Borrowed(pool) => {
                    let mut connection = pool.acquire().await.map_err(|cause| failed(cause).error)?;
                    let outcome = quarantine::readmit(&mut connection).await;
                    connection.return_to_pool().await;
                    outcome
                }
            }
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Connected::Own { connection, .. } = self.connected {
                // Everything is committed: what fails now is only the tidying up of the write-ahead log.
                drop(connection.close().await);
            }
        })
    }
}

async fn append(connection: &mut SqliteConnection, batch: Append<'_>) -> Result<Applied, AppendError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let head = sqlx::query(
        "SELECT next_seq, (SELECT position FROM tracing_audit_positions WHERE writer = ?) FROM tracing_audit_head",
    )
    .bind(batch.writer)
    .fetch_one(&mut *transaction)
    .await
    .map_err(failed)?;
    let first_seq: i64 = head.try_get(0).map_err(failed)?;
    let position = head.try_get::<Option<i64>, _>(1).map_err(failed)?.map_or(0, i64::cast_unsigned);
    if let Some(error) = batch.impossible(position) {
        return Err(error);
    }
    if position > batch.from {
        let found: Option<(i64, i64)> = sqlx::query_as(
            "SELECT first_seq, entries FROM tracing_audit_batches WHERE writer = ? AND position = ?",
        )
        .bind(batch.writer)
        .bind(position.cast_signed())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed)?;
        return Ok(Applied {
            until: position,
            rows: found.map_or(0, |(_, entries)| entries.cast_unsigned()),
            first_seq: found.map(|(first_seq, _)| first_seq.cast_unsigned()),
        });
    }
    let until = batch.until();
    add(&mut transaction, first_seq, batch.rows, batch.writer, until).await?;
    let now = Moment::now().micros;
    for (position, entry) in (batch.from + 1..).zip(batch.quarantined) {
        sqlx::query("INSERT INTO tracing_audit_quarantine VALUES (?, ?, ?, ?, ?, ?)")
            .bind(batch.writer)
            .bind(position.cast_signed())
            .bind(entry.id)
            .bind(&entry.error)
            .bind(&entry.record)
            .bind(now)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
    }
    sqlx::query("INSERT INTO tracing_audit_positions VALUES (?, ?) ON CONFLICT DO UPDATE SET position = excluded.position")
        .bind(batch.writer)
        .bind(until.cast_signed())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    Ok(Applied {
        until,
        rows: batch.rows.len() as u64,
        first_seq: (!batch.rows.is_empty()).then_some(first_seq.cast_unsigned()),
    })
}

/// Adds rows at the head of the ledger, which the transaction holds.
pub(super) async fn add(
    connection: &mut SqliteConnection,
    first_seq: i64,
    rows: &[&Row],
    writer: Uuid,
    until: u64,
) -> Result<(), AppendError> {
    insert_rows(connection, first_seq, rows).await.map_err(refused)?;
    let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    if let (Some(least), Some(greatest)) =
        (rows.iter().map(|row| row.ts).min(), rows.iter().map(|row| row.ts).max())
    {
        sqlx::query("INSERT INTO tracing_audit_batches VALUES (?, ?, ?, ?, ?, ?, ?)")
            .bind(first_seq)
            .bind(count)
            .bind(writer)
            .bind(until.cast_signed())
            .bind(Moment::now().micros)
            .bind(least)
            .bind(greatest)
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
        sqlx::query("UPDATE tracing_audit_head SET next_seq = ?")
            .bind(first_seq.saturating_add(count))
            .execute(connection)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

/// While SQLite's thread works on one statement, the parameters of the next are put together.
async fn insert_rows(connection: &mut SqliteConnection, first_seq: i64, rows: &[&Row]) -> sqlx::Result<()> {
    let mut chunks = chunks(rows);
    let mut seq = first_seq;
    let mut prepare = || {
        let (sql, rows) = chunks.next()?;
        let arguments = bind(seq, rows);
        seq = seq.saturating_add(i64::try_from(rows.len()).unwrap_or(i64::MAX));
        Some((sql, arguments))
    };
    let mut next = prepare();
    while let Some((sql, arguments)) = next {
        let execute = sqlx::query_with(AssertSqlSafe(sql), arguments?).execute(&mut *connection);
        let (done, prepared) = tokio::join!(biased; execute, async { prepare() });
        done?;
        next = prepared;
    }
    Ok(())
}

/// Cuts rows into the widest shapes that fit.
fn chunks<'a>(mut rows: &'a [&'a Row]) -> impl Iterator<Item = (Arc<str>, &'a [&'a Row])> {
    std::iter::from_fn(move || {
        let (shape, sql) = SHAPES.iter().zip(&*STATEMENTS).find(|(shape, _)| **shape <= rows.len())?;
        let (chunk, rest) = rows.split_at_checked(*shape)?;
        rows = rest;
        Some((Arc::clone(sql), chunk))
    })
}

fn bind(first_seq: i64, rows: &[&Row]) -> sqlx::Result<SqliteArguments> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(rows.len() * COLUMN_COUNT, 0);
    (first_seq..)
        .zip(rows)
        .try_for_each(|(seq, row)| bind_row(&mut arguments, seq, row))
        .map_err(sqlx::Error::Encode)?;
    Ok(arguments)
}

fn bind_row(arguments: &mut SqliteArguments, seq: i64, row: &Row) -> Result<(), sqlx::error::BoxDynError> {
    arguments.add(seq)?;
    arguments.add(row.id)?;
    arguments.add(row.ts)?;
    arguments.add(row.workspace_id)?;
    arguments.add::<Option<Uuid>>(row.session_id)?;
    arguments.add::<Option<Uuid>>(row.agent_id)?;
    arguments.add(Arc::clone(&row.action))?;
    arguments.add(Arc::clone(&row.resource))?;
    arguments.add(row.resource_id.clone())?;
    arguments.add(Arc::clone(&row.decision))?;
    arguments.add(row.reason.clone())?;
    arguments.add(row.risk_score)?;
    arguments.add(Arc::clone(&row.metadata))?;
    arguments.add(row.problems.clone())
}

/// What inserting rows says. Only what says that a row can never be stored blames the row.
fn refused(cause: sqlx::Error) -> AppendError {
    let (fault, error) = match code_of(&cause) {
        // SQLITE_CONSTRAINT, of which the one on `id` means a duplicate.
        Some(19) if cause.to_string().contains("tracing_audit_entries.id") => (
            Fault::Duplicate,
            AuditError::new(Kind::Duplicate, "the ledger holds an entry with this id already"),
        ),
        // SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH.
        Some(18..=20) => {
            (Fault::Entry, AuditError::new(Kind::Quarantined, "the database refuses this entry"))
        }
        _ => return failed(cause),
    };
    AppendError { fault, error: error.because(cause) }
}

/// What any other statement says is the database's fault.
pub(super) fn failed(cause: sqlx::Error) -> AppendError {
    AppendError { fault: Fault::Store, error: opening(std::path::Path::new("the audit database"), cause) }
}
