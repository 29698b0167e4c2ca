//! Reads pages, counts and the heads of ledgers.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    borrowed::within,
    conditions::{IndexNames, Scope},
    error::store_error,
    plan::{index_names, scope},
    rows::{LEDGER, ROW, decode_ledger},
    source::Postgres,
    sql::{ENTRIES, Statement, has_table, plain},
};
use crate::entry::LedgerRow;
use crate::error::AuditError;
use crate::query::{AuditQuery, Column, CountBy, spelled, steps};
use crate::store::{Group, Head, Span};

/// Plans a query and asks it, in one transaction. `None` if the tables do not exist.
async fn plan_and_ask<T>(
    postgres: &Postgres,
    query: &AuditQuery,
    ask: impl AsyncFnOnce(&Scope, &IndexNames, &mut PgConnection) -> Result<T, AuditError>,
) -> Result<Option<T>, AuditError> {
    within(postgres.readers().await?, async |connection| {
        let Some(indexes) = index_names(postgres, connection).await? else { return Ok(None) };
        let scope = scope(postgres, connection, query).await?;
        ask(&scope, &indexes, connection).await.map(Some)
    })
    .await
}

/// At most `size` entries of this part of a ledger.
pub(super) async fn page(
    postgres: &Postgres,
    query: &AuditQuery,
    span: Span,
    size: u32,
) -> Result<Vec<LedgerRow>, AuditError> {
    let rows = plan_and_ask(postgres, query, async |scope, indexes, connection| {
        let mut statement = Statement::new(postgres, ROW);
        statement.push(LEDGER);
        statement.filter(query, scope, indexes);
        let order = match span {
            Span::After(seq) => {
                statement.and("e.seq > ", seq.map(u64::cast_signed));
                " ORDER BY e.seq ASC LIMIT "
            }
            Span::Before(seq) => {
                statement.and("e.seq < ", seq.map(u64::cast_signed));
                " ORDER BY e.seq DESC LIMIT "
            }
        };
        statement.push(order).bind(i64::from(size));
        statement.into_query()?.fetch_all(connection).await.map_err(store_error)
    })
    .await?;
    rows.iter().flatten().map(decode_ledger).collect()
}

pub(super) async fn count(postgres: &Postgres, query: &AuditQuery) -> Result<u64, AuditError> {
    let row = plan_and_ask(postgres, query, async |scope, indexes, connection| {
        let mut statement = Statement::new(postgres, "SELECT count(*)");
        statement.filter(query, scope, indexes);
        statement.into_query()?.fetch_one(connection).await.map_err(store_error)
    })
    .await?;
    row.map_or(Ok(0), |row| row.try_get::<i64, _>(0).map(i64::cast_unsigned)).map_err(store_error)
}

pub(super) async fn count_by(
    postgres: &Postgres,
    query: &AuditQuery,
    by: &CountBy,
) -> Result<Vec<Group>, AuditError> {
    let rows = plan_and_ask(postgres, query, async |scope, indexes, connection| {
        let mut statement = Statement::new(postgres, "SELECT ");
        match by {
            CountBy::Hour => statement.push(&rounded_down("hour")),
            CountBy::Day => statement.push(&rounded_down("day")),
            CountBy::Ledger => statement.push("e.ledger"),
            CountBy::Column(column) => statement.push(&format!("e.{column}")),
            CountBy::Metadata(path) => statement.push(&plain(&steps(path))),
        };
        match by {
            // If the application gave a name instead of an id, the id was made from it, and the name is in the
            // metadata.
            CountBy::Column(column) if column.holds_ids() && *column != Column::Id => {
                statement.push(&format!(", max(e.metadata ->> '{column}' COLLATE \"C\")"));
            }
            _ => {
                statement.push(", NULL::text");
            }
        }
        statement.push(", count(*), min(e.ts), max(e.ts)");
        statement.filter(query, scope, indexes);
        statement.push(" GROUP BY 1 ORDER BY ").push(if by.is_time() { "1" } else { "3 DESC, 1 NULLS LAST" });
        if let Some(limit) = query.filter.limit {
            statement.push(" LIMIT ").bind(i64::from(limit));
        }
        statement.into_query()?.fetch_all(connection).await.map_err(store_error)
    })
    .await?;
    let group = |row: &PgRow| {
        let key = match by {
            CountBy::Hour | CountBy::Day => {
                Some(spelled(row.try_get::<DateTime<Utc>, _>(0)?.timestamp_micros()))
            }
            CountBy::Column(column) if column.holds_ids() => {
                row.try_get::<Option<Uuid>, _>(0)?.map(|id| id.to_string())
            }
            _ => row.try_get(0)?,
        };
        Ok(Group {
            key,
            name: row.try_get(1)?,
            entries: row.try_get::<i64, _>(2)?.cast_unsigned(),
            least_ts: row.try_get::<DateTime<Utc>, _>(3)?.timestamp_micros(),
            greatest_ts: row.try_get::<DateTime<Utc>, _>(4)?.timestamp_micros(),
        })
    };
    rows.iter().flatten().map(group).collect::<sqlx::Result<_>>().map_err(store_error)
}

/// The expression of an entry's time, rounded down in UTC, whatever the session's time zone is.
fn rounded_down(unit: &str) -> String {
    format!("date_trunc('{unit}', e.ts, 'UTC')")
}

pub(super) async fn heads(postgres: &Postgres, ledger: Option<&str>) -> Result<Vec<Head>, AuditError> {
    let heads = postgres.statement(
        "SELECT h.ledger, h.next_seq, (SELECT b.committed_at FROM @tracing_audit_batches b WHERE b.ledger = h.ledger
                                       ORDER BY b.first_seq DESC LIMIT 1)
         FROM @tracing_audit_heads h WHERE $1::text IS NULL OR h.ledger = $1 ORDER BY h.ledger",
    );
    let rows = within(postgres.readers().await?, async |connection| {
        if !has_table(postgres, &mut *connection, ENTRIES).await.map_err(store_error)? {
            return Ok(Vec::new());
        }
        heads.query().bind(ledger).fetch_all(connection).await.map_err(store_error)
    })
    .await?;
    let head = |row: &PgRow| {
        Ok(Head {
            ledger: row.try_get(0)?,
            next_seq: row.try_get::<i64, _>(1)?.cast_unsigned(),
            last_committed_at: row
                .try_get::<Option<DateTime<Utc>>, _>(2)?
                .map(|time| time.timestamp_micros()),
        })
    };
    rows.iter().map(head).collect::<sqlx::Result<_>>().map_err(store_error)
}
