//! Committing a batch: position, head, rows and quarantine in one transaction.

use chrono::Utc;
use futures_util::future::BoxFuture;
use sqlx::{Connection, PgConnection, Postgres as Database, Transaction};
use uuid::Uuid;

use super::{
    Postgres, Sql,
    copy::copy,
    open::{code_of, failed as store_failed, in_time},
    quarantine,
};
use crate::{
    AuditError,
    entry::from_micros,
    error::Kind,
    record::Row,
    store::{Append, AppendError, Appender, Applied, Fault, Readmitted},
};

/// The statements of one connection.
pub(super) struct Statements {
    begin: &'static str,
    head: Sql,
    position: Sql,
    batch: Sql,
    rows: Rows,
    add_batch: Sql,
    move_head: Sql,
    quarantine: Sql,
    reach: Sql,
    pub(super) next_quarantined: Sql,
    pub(super) readmitted: Sql,
}

/// How rows are added.
enum Rows {
    Copy(String),
    /// Where that is not to be had: under row-level security, for instance.
    Insert(Sql),
}

/// Without a session's settings: as strict as the promise that a commit is durable asks for.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
const BEGIN_DURABLE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = on";

const COPY: &str = "COPY @tracing_audit_entries
         (ledger, seq, id, ts, workspace_id, session_id, agent_id, action, resource, resource_id, decision, reason,
          risk_score, metadata, problems)
     FROM STDIN (FORMAT binary)";

/// One parameter per column, whatever the number of rows.
const INSERT: &str = "INSERT INTO @tracing_audit_entries
         (ledger, seq, id, ts, workspace_id, session_id, agent_id, action, resource, resource_id, decision, reason,
          risk_score, metadata, problems)
     SELECT $1, seq, id, ts, workspace_id, session_id, agent_id, action, resource, resource_id, decision, reason,
            risk_score, metadata::json, problems::json
     FROM unnest($2::bigint[], $3::uuid[], $4::timestamptz[], $5::uuid[], $6::uuid[], $7::uuid[], $8::text[],
                 $9::text[], $10::text[], $11::text[], $12::text[], $13::float8[], $14::text[], $15::text[])
         AS new (seq, id, ts, workspace_id, session_id, agent_id, action, resource, resource_id, decision, reason,
                 risk_score, metadata, problems)";

/// Whether the server lets this role copy into the table of entries.
pub(super) async fn can_copy(postgres: &Postgres, connection: &mut PgConnection) -> sqlx::Result<bool> {
    let mut transaction = connection.begin().await?;
    let tried = copy(&mut transaction, &postgres.sql(COPY).0, ("", 0), &[]).await;
    transaction.rollback().await?;
    match tried {
        // feature_not_supported, syntax_error
        Err(cause) if matches!(&*code_of(&cause), "0A000" | "42601") => Ok(false),
        tried => tried.map(|()| true),
    }
}

impl Statements {
    fn new(postgres: &Postgres, commits_are_not_durable: bool, can_copy: bool) -> Self {
        let sql = |statement| postgres.statement(statement);
        let rows = if can_copy { Rows::Copy(postgres.sql(COPY).0) } else { Rows::Insert(sql(INSERT)) };
        Self {
            begin: if commits_are_not_durable { BEGIN_DURABLE } else { BEGIN },
            head: sql("SELECT next_seq FROM @tracing_audit_heads WHERE ledger = $1 FOR UPDATE"),
            position: sql("SELECT position FROM @tracing_audit_positions WHERE ledger = $1 AND writer = $2"),
            batch: sql("SELECT first_seq, entries FROM @tracing_audit_batches
                 WHERE ledger = $1 AND writer = $2 AND position = $3"),
            rows,
            add_batch: sql("INSERT INTO @tracing_audit_batches VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"),
            move_head: sql("UPDATE @tracing_audit_heads SET next_seq = $2 WHERE ledger = $1"),
            quarantine: sql("INSERT INTO @tracing_audit_quarantine VALUES ($1, $2, $3, $4, $5, $6, $7)"),
            reach: sql("INSERT INTO @tracing_audit_positions VALUES ($1, $2, $3)
                 ON CONFLICT (ledger, writer) DO UPDATE SET position = excluded.position"),
            next_quarantined: sql(
                "SELECT quarantined_at, writer, position, record FROM @tracing_audit_quarantine
                 WHERE ledger = $1 AND (quarantined_at, writer, position) > ($2, $3, $4)
                 ORDER BY quarantined_at, writer, position LIMIT 1",
            ),
            readmitted: sql(
                "DELETE FROM @tracing_audit_quarantine WHERE ledger = $1 AND writer = $2 AND position = $3",
            ),
        }
    }

    pub(super) async fn begin<'c>(
        &self,
        connection: &'c mut PgConnection,
    ) -> sqlx::Result<Transaction<'c, Database>> {
        connection.begin_with(self.begin).await
    }

    /// Holds the ledger until the end of the transaction, and says which `seq` is next.
    pub(super) async fn hold(
        &self,
        transaction: &mut PgConnection,
        ledger: &str,
    ) -> Result<i64, AppendError> {
        let head = self.head.scalar().bind(ledger);
        let head: Option<i64> = head.fetch_optional(transaction).await.map_err(failed)?;
        head.ok_or_else(|| {
            let error =
                AuditError::new(Kind::Store, "the ledger's head is not there: somebody has removed it");
            AppendError { fault: Fault::Store, error }
        })
    }

    /// Adds rows at the head of the ledger, which the transaction holds.
    pub(super) async fn add(
        &self,
        connection: &mut PgConnection,
        (ledger, first_seq): (&str, i64),
        rows: &[&Row],
        (writer, until): (Uuid, u64),
    ) -> Result<(), AppendError> {
        let (Some(least), Some(greatest)) =
            (rows.iter().map(|row| row.ts).min(), rows.iter().map(|row| row.ts).max())
        else {
            return Ok(());
        };
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        self.insert(connection, (ledger, first_seq), rows).await.map_err(refused)?;
        self.add_batch
            .query()
            .bind(ledger)
            .bind(first_seq)
            .bind(count)
            .bind(writer)
            .bind(until.cast_signed())
            .bind(Utc::now())
            .bind(from_micros(least))
            .bind(from_micros(greatest))
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
        self.move_head
            .query()
            .bind(ledger)
            .bind(first_seq.saturating_add(count))
            .execute(connection)
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn insert(
        &self,
        connection: &mut PgConnection,
        (ledger, first_seq): (&str, i64),
        rows: &[&Row],
    ) -> sqlx::Result<()> {
        fn column<'a, T>(rows: &'a [&'a Row], value: impl Fn(&'a Row) -> T) -> Vec<T> {
            rows.iter().map(|row| value(row)).collect()
        }
        let insert = match &self.rows {
            Rows::Copy(statement) => return copy(connection, statement, (ledger, first_seq), rows).await,
            Rows::Insert(insert) => insert,
        };
        let seqs: Vec<i64> = (first_seq..).take(rows.len()).collect();
        insert
            .query()
            .bind(ledger)
            .bind(seqs)
            .bind(column(rows, |row| row.id))
            .bind(column(rows, |row| from_micros(row.ts)))
            .bind(column(rows, |row| row.workspace_id))
            .bind(column(rows, |row| row.session_id))
            .bind(column(rows, |row| row.agent_id))
            .bind(column(rows, |row| &*row.action))
            .bind(column(rows, |row| &*row.resource))
            .bind(column(rows, |row| row.resource_id.as_deref()))
            .bind(column(rows, |row| &*row.decision))
            .bind(column(rows, |row| row.reason.as_deref()))
            .bind(column(rows, |row| row.risk_score))
            .bind(column(rows, |row| &*row.metadata))
            .bind(column(rows, |row| row.problems.as_deref()))
            .execute(connection)
            .await?;
        Ok(())
    }
}

pub(super) struct PostgresAppender {
    connection: PgConnection,
    statements: Statements,
    ledger: String,
}

impl PostgresAppender {
    pub(super) fn new(
        connection: PgConnection,
        postgres: &Postgres,
        ledger: &str,
        commits_are_not_durable: bool,
        can_copy: bool,
    ) -> Self {
        let statements = Statements::new(postgres, commits_are_not_durable, can_copy);
        Self { connection, statements, ledger: ledger.to_owned() }
    }
}

impl Appender for PostgresAppender {
    fn append<'a>(&'a mut self, batch: Append<'a>) -> BoxFuture<'a, Result<Applied, AppendError>> {
        Box::pin(async move {
            let answer = append(&mut self.connection, &self.statements, &self.ledger, batch);
            in_time(answer).await.unwrap_or_else(|late| Err(AppendError { fault: Fault::Store, error: late }))
        })
    }

    fn position(&mut self, writer: Uuid) -> BoxFuture<'_, Result<u64, AuditError>> {
        Box::pin(async move {
            let answer = async {
                let mut transaction = self.statements.begin(&mut self.connection).await.map_err(failed)?;
                let position = position(&mut transaction, &self.statements, &self.ledger, writer).await?;
                transaction.commit().await.map_err(failed)?;
                Ok::<_, AppendError>(position)
            };
            in_time(answer).await?.map_err(|failed| failed.error)
        })
    }

    fn readmit(&mut self) -> BoxFuture<'_, Result<Readmitted, AuditError>> {
        Box::pin(quarantine::readmit(&mut self.connection, &self.statements, &self.ledger))
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // Everything is committed: what fails now is only the goodbye.
            drop(self.connection.close().await);
        })
    }
}

async fn position(
    connection: &mut PgConnection,
    statements: &Statements,
    ledger: &str,
    writer: Uuid,
) -> Result<u64, AppendError> {
    let position = statements.position.scalar().bind(ledger).bind(writer);
    let position: Option<i64> = position.fetch_optional(connection).await.map_err(failed)?;
    Ok(position.map_or(0, i64::cast_unsigned))
}

async fn append(
    connection: &mut PgConnection,
    statements: &Statements,
    ledger: &str,
    batch: Append<'_>,
) -> Result<Applied, AppendError> {
    let mut transaction = statements.begin(connection).await.map_err(failed)?;
    let first_seq = statements.hold(&mut transaction, ledger).await?;
    // In a statement of its own: only what begins after the ledger is held sees what its last holder committed,
    // which may be our own earlier attempt.
    let position = position(&mut transaction, statements, ledger, batch.writer).await?;
    if let Some(error) = batch.impossible(position) {
        return Err(error);
    }
    if position > batch.from {
        let found = statements.batch.row().bind(ledger).bind(batch.writer);
        let found: Option<(i64, i64)> =
            found.bind(position.cast_signed()).fetch_optional(&mut *transaction).await.map_err(failed)?;
        // At once: otherwise the ledger is held until something else is sent.
        transaction.rollback().await.map_err(failed)?;
        return Ok(Applied {
            until: position,
            rows: found.map_or(0, |(_, entries)| entries.cast_unsigned()),
            first_seq: found.map(|(first_seq, _)| first_seq.cast_unsigned()),
        });
    }
    let until = batch.until();
    statements.add(&mut transaction, (ledger, first_seq), batch.rows, (batch.writer, until)).await?;
    for (position, entry) in (batch.from + 1..).zip(batch.quarantined) {
        statements
            .quarantine
            .query()
            .bind(ledger)
            .bind(batch.writer)
            .bind(position.cast_signed())
            .bind(entry.id)
            // It may quote what it refuses.
            .bind(entry.error.replace('\0', "\u{2400}"))
            .bind(&entry.record)
            .bind(Utc::now())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
    }
    statements
        .reach
        .query()
        .bind(ledger)
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

/// What inserting rows says. Only what says that a row can never be stored blames the row.
fn refused(cause: sqlx::Error) -> AppendError {
    let constraint = cause.as_database_error().and_then(|error| error.constraint());
    let (fault, error) = match code_of(&cause).as_str() {
        "23505" if constraint == Some("tracing_audit_entries_id") => (
            Fault::Duplicate,
            AuditError::new(Kind::Duplicate, "the ledger holds an entry with this id already"),
        ),
        // Somebody else has written at the head that we hold: the ledger is not as this crate wrote it.
        // Nor what says how the rows were sent: a column is of another type than ours.
        "23505" | "22P03" | "22P04" => return failed(cause),
        // Data exceptions, constraint violations, and what is too large for an index.
        code if code.starts_with("22") || code.starts_with("23") || code == "54000" => {
            (Fault::Entry, AuditError::new(Kind::Quarantined, "the database refuses this entry"))
        }
        _ => return failed(cause),
    };
    AppendError { fault, error: error.because(cause) }
}

/// What any other statement says is the database's fault.
pub(super) fn failed(cause: sqlx::Error) -> AppendError {
    AppendError { fault: Fault::Store, error: store_failed(cause) }
}
