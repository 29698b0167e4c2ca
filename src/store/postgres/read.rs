//! Reads pages, the heads of ledgers, and entries by their ids.

use futures_util::TryStreamExt;
use sqlx::{
    PgConnection, Postgres as Database, Row as _,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use uuid::Uuid;

use super::{
    borrowed::{Borrowed, within},
    conditions::{IndexNames, Scope},
    error::{in_time, store_error},
    plan::{index_names, scope},
    rows::{LEDGER, ROW, decode_ledger, micros_or_none},
    source::Postgres,
    sql::{ENTRIES, Statement, has_table},
};
use crate::entry::LedgerRow;
use crate::error::AuditError;
use crate::query::AuditQuery;
use crate::store::{Found, Head, Span};

/// Plans a query and asks it, in one transaction. `None` if the tables do not exist.
pub(super) async fn plan_and_ask<T>(
    postgres: &Postgres,
    query: &AuditQuery,
    ask: impl AsyncFnOnce(&Scope, &IndexNames, &mut PgConnection) -> Result<T, AuditError>,
) -> Result<Option<T>, AuditError> {
    within(postgres, async |connection| {
        let Some(indexes) = index_names(postgres, connection, query).await? else { return Ok(None) };
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
) -> Result<Found, AuditError> {
    let query = &span.of(query);
    let mut found = Found::default();
    let mut connection = Borrowed::of(postgres).await?;
    connection.begin().await?;
    if let Some(indexes) = index_names(postgres, &mut connection, query).await? {
        let scope = scope(postgres, &mut connection, query).await?;
        let mut statement = Statement::new(postgres, ROW);
        statement.push(LEDGER);
        statement.filter(query, &scope, &indexes);
        statement.push(match span {
            Span::After(_) => " ORDER BY e.seq ASC LIMIT ",
            Span::Before(_) => " ORDER BY e.seq DESC LIMIT ",
        });
        statement.bind(i64::from(size));
        found = self::found(&mut connection, statement.into_query()?).await?;
        if found.cut {
            // The server is sending the others too. Give up the connection, which is within a transaction, rather than
            // take them in. A caller that reads on asks for fewer next time.
            return Ok(found);
        }
    }
    connection.commit().await?;
    Ok(found)
}

/// The rows of this statement, which are in the ledger, as long as there is room for them.
pub(super) async fn found(
    connection: &mut PgConnection,
    statement: Query<'static, Database, PgArguments>,
) -> Result<Found, AuditError> {
    let mut found = Found::default();
    let mut rows = statement.fetch(connection);
    while let Some(row) = rows.try_next().await.map_err(store_error)? {
        if found.add(decode_ledger(&row)?).is_break() {
            break;
        }
    }
    Ok(found)
}

/// The range of `seq` that can hold matches, by the batches of the query's ranges of time.
pub(super) async fn seqs_in_time(
    postgres: &Postgres,
    query: &AuditQuery,
) -> Result<Option<(u64, u64)>, AuditError> {
    let range = async |connection: &mut PgConnection| {
        if !has_table(postgres, &mut *connection, ENTRIES).await.map_err(store_error)? {
            return Ok((None, None));
        }
        let mut statement = Statement::new(
            postgres,
            "SELECT min(first_seq), max(first_seq + least(greatest(entries, 0), 9223372036854775807 - greatest(first_seq, 0))) FROM @tracing_audit_batches WHERE TRUE",
        );
        statement.and("ledger = ", query.ledger.clone());
        statement.batches_in_range(query);
        statement.batches_in_time(query);
        let row = statement.into_query()?.fetch_one(connection).await.map_err(store_error)?;
        let range = || Ok((row.try_get(0)?, row.try_get(1)?));
        range().map_err(store_error)
    };
    let range = within(postgres, range).await?;
    Ok(query.narrowed(range))
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

/// The rows whose ids are in this range.
pub(super) async fn with_ids(
    postgres: &Postgres,
    first: Uuid,
    last: Uuid,
    most: u32,
) -> Result<Vec<LedgerRow>, AuditError> {
    let rows = within(postgres, async |connection| {
        if !has_table(postgres, &mut *connection, ENTRIES).await.map_err(store_error)? {
            return Ok(Vec::new());
        }
        let mut statement = Statement::new(postgres, ROW);
        statement.push(LEDGER).push(" FROM @tracing_audit_entries e WHERE e.id BETWEEN ").bind(first);
        statement.push(" AND ").bind(last).push(" ORDER BY e.id, e.ledger LIMIT ").bind(i64::from(most));
        statement.into_query()?.fetch_all(connection).await.map_err(store_error)
    })
    .await?;
    rows.iter().map(decode_ledger).collect()
}

pub(super) async fn heads(postgres: &Postgres, ledger: Option<&str>) -> Result<Vec<Head>, AuditError> {
    let heads = postgres.statement(
        "SELECT h.ledger, h.next_seq, (SELECT b.committed_at FROM @tracing_audit_batches b WHERE b.ledger = h.ledger
                                       ORDER BY b.first_seq DESC LIMIT 1)
         FROM @tracing_audit_heads h WHERE $1::text IS NULL OR h.ledger = $1 ORDER BY h.ledger",
    );
    let rows = within(postgres, async |connection| {
        if !has_table(postgres, &mut *connection, ENTRIES).await.map_err(store_error)? {
            return Ok(Vec::new());
        }
        heads.query().bind(ledger).fetch_all(connection).await.map_err(store_error)
    });
    // A follower asks this first, and learns by it that the server has vanished.
    let rows = in_time(Box::pin(rows)).await??;
    let head = |row: &PgRow| {
        Ok(Head {
            ledger: row.try_get(0)?,
            next_seq: row.try_get::<i64, _>(1)?.cast_unsigned(),
            last_committed_at: micros_or_none(row, 2)?,
        })
    };
    rows.iter().map(head).collect::<sqlx::Result<_>>().map_err(store_error)
}
