//! Reading: a query's conditions as SQL, and rows back from it.

use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use sqlx::{
    Arguments as _, AssertSqlSafe, Row as _, SqlSafeStr,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::{Sqlite, open::opening};
use crate::{
    AuditError, AuditQuery,
    error::Kind,
    record::Row,
    store::{LedgerRow, Span},
};

const ROW: &str = "SELECT e.seq, e.id, e.ts, e.workspace_id, e.session_id, e.agent_id, e.action, e.resource, \
                   e.resource_id, e.decision, e.reason, e.risk_score, e.metadata, e.problems";

const LEDGER: &str = ", (SELECT ledger FROM tracing_audit_head), (SELECT b.committed_at FROM tracing_audit_batches b \
                      WHERE b.first_seq <= e.seq ORDER BY b.first_seq DESC LIMIT 1)";

/// A statement and its parameters, grown side by side.
struct Statement {
    sql: String,
    arguments: SqliteArguments,
    error: Option<sqlx::Error>,
}

impl Statement {
    fn new(start: &str) -> Self {
        Self { sql: start.to_owned(), arguments: SqliteArguments::default(), error: None }
    }

    fn push(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    fn bind<'q, T: sqlx::Encode<'q, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(
        &mut self,
        value: T,
    ) -> &mut Self {
        if let Err(cause) = self.arguments.add(value) {
            self.error = Some(sqlx::Error::Encode(cause));
        }
        self
    }

    fn and<'q, T: sqlx::Encode<'q, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(
        &mut self,
        condition: &str,
        value: Option<T>,
    ) {
        if let Some(value) = value {
            self.push(" AND ").push(condition).bind(value);
        }
    }

    /// Adds the query's conditions; without any, adds one that always holds.
    fn filter(&mut self, query: &AuditQuery) {
        let filter = &query.filter;
        self.push(" FROM tracing_audit_entries e WHERE TRUE");
        self.and("e.workspace_id = ?", filter.workspace_id);
        self.and("e.session_id = ?", filter.session_id);
        self.and("e.agent_id = ?", query.agent_id);
        self.and("e.action = ?", query.action.clone());
        self.and("e.resource = ?", filter.resource.clone());
        self.and("e.resource_id = ?", query.resource_id.clone());
        self.and("e.risk_score >= ?", query.risk_at_least);
        if query.risk_at_least.is_some_and(|least| least >= 0.8) {
            // Says what the planner cannot see in a parameter: that the partial index will do.
            self.push(" AND e.risk_score >= 0.8");
        }
        self.and("e.decision = ?", filter.decision.clone());
        if matches!(filter.decision.as_deref(), Some("Deny" | "Mask")) {
            self.push(" AND e.decision IN ('Deny', 'Mask')");
        }
        // Times are stored in whole microseconds: round a bound into the range it includes.
        let least = filter
            .start_time
            .map(|start| start.timestamp_micros() + i64::from(start.timestamp_subsec_nanos() % 1000 > 0));
        let greatest = filter.end_time.map(|end| end.timestamp_micros());
        self.and("e.ts >= ?", least);
        self.and("e.ts <= ?", greatest);
        if least.is_some() || greatest.is_some() {
            // There is no index on ts, but each batch knows its least and greatest.
            for bound in
                [" AND e.seq >= (SELECT min(first_seq)", " AND e.seq < (SELECT max(first_seq + entries)"]
            {
                self.push(bound).push(" FROM tracing_audit_batches WHERE TRUE");
                self.and("greatest_ts >= ?", least);
                self.and("least_ts <= ?", greatest);
                self.push(")");
            }
        }
    }

    fn into_query(self) -> sqlx::Result<sqlx::query::Query<'static, sqlx::Sqlite, SqliteArguments>> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(sqlx::query_with(AssertSqlSafe(self.sql).into_sql_str(), self.arguments)),
        }
    }
}

pub(super) fn rows<'a>(sqlite: &'a Sqlite, query: &'a AuditQuery) -> BoxStream<'a, Result<Row, AuditError>> {
    let mut statement = Statement::new(ROW);
    statement.filter(query);
    statement.push(" ORDER BY e.ts DESC, e.seq DESC");
    if let Some(limit) = query.filter.limit {
        statement.push(" LIMIT ?").bind(i64::from(limit));
    }
    let rows = async move {
        let empty = futures_util::stream::empty().boxed();
        if !has_tables(sqlite).await? {
            return Ok(empty);
        }
        let statement = statement.into_query().map_err(|cause| failed(sqlite, cause))?;
        Ok::<_, AuditError>(statement.fetch(sqlite.readers()).map_err(|cause| failed(sqlite, cause)).boxed())
    };
    futures_util::stream::once(rows).try_flatten().and_then(|row| std::future::ready(decode(&row))).boxed()
}

pub(super) async fn page(
    sqlite: &Sqlite,
    query: &AuditQuery,
    span: Span,
    size: u32,
) -> Result<Vec<LedgerRow>, AuditError> {
    if !has_tables(sqlite).await? {
        return Ok(Vec::new());
    }
    let mut statement = Statement::new(ROW);
    statement.push(LEDGER);
    statement.filter(query);
    let order = match span {
        Span::After(seq) => {
            statement.and("e.seq > ?", seq.map(u64::cast_signed));
            " ORDER BY e.seq ASC LIMIT ?"
        }
        Span::Before(seq) => {
            statement.and("e.seq < ?", seq.map(u64::cast_signed));
            " ORDER BY e.seq DESC LIMIT ?"
        }
    };
    statement.push(order).bind(i64::from(size));
    let statement = statement.into_query().map_err(|cause| failed(sqlite, cause))?;
    let rows = statement.fetch_all(sqlite.readers()).await.map_err(|cause| failed(sqlite, cause))?;
    rows.iter().map(decode_ledger).collect()
}

pub(super) async fn count(sqlite: &Sqlite, query: &AuditQuery) -> Result<u64, AuditError> {
    if !has_tables(sqlite).await? {
        return Ok(0);
    }
    let mut statement = Statement::new("SELECT count(*)");
    statement.filter(query);
    let statement = statement.into_query().map_err(|cause| failed(sqlite, cause))?;
    let row = statement.fetch_one(sqlite.readers()).await.map_err(|cause| failed(sqlite, cause))?;
    row.try_get::<i64, _>(0).map(i64::cast_unsigned).map_err(|cause| failed(sqlite, cause))
}

async fn has_tables(sqlite: &Sqlite) -> Result<bool, AuditError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'tracing_audit_entries')")
        .fetch_one(sqlite.readers())
        .await
        .map_err(|cause| failed(sqlite, cause))
}

fn failed(sqlite: &Sqlite, cause: sqlx::Error) -> AuditError {
    opening(&sqlite.path(), cause)
}

fn decode(row: &SqliteRow) -> Result<Row, AuditError> {
    let read = || {
        Ok(Row {
            id: row.try_get(1)?,
            ts: row.try_get(2)?,
            workspace_id: row.try_get(3)?,
            session_id: row.try_get(4)?,
            agent_id: row.try_get(5)?,
            action: row.try_get::<&str, _>(6)?.into(),
            resource: row.try_get::<&str, _>(7)?.into(),
            resource_id: row.try_get::<Option<&str>, _>(8)?.map(Into::into),
            decision: row.try_get::<&str, _>(9)?.into(),
            reason: row.try_get::<Option<&str>, _>(10)?.map(Into::into),
            risk_score: row.try_get(11)?,
            metadata: row.try_get::<&str, _>(12)?.into(),
            problems: row.try_get::<Option<&str>, _>(13)?.map(Into::into),
        })
    };
    read().map_err(|cause: sqlx::Error| {
        let seq = row.try_get::<i64, _>(0).unwrap_or(-1);
        AuditError::new(Kind::Store, format!("the entry with seq {seq} is not as this crate wrote it"))
            .because(cause)
    })
}

fn decode_ledger(found: &SqliteRow) -> Result<LedgerRow, AuditError> {
    let row = decode(found)?;
    let read = || {
        Ok(LedgerRow {
            ledger: found.try_get(14)?,
            seq: found.try_get::<i64, _>(0)?.cast_unsigned(),
            row,
            committed_at: found.try_get(15)?,
        })
    };
    read().map_err(|cause: sqlx::Error| {
        AuditError::new(Kind::Store, "the ledger's head or batches are not as this crate wrote them")
            .because(cause)
    })
}
