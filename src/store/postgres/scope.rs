//! What is looked up before a query is asked: which parts of which ledgers its entries are in, and which indexes there are.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row as _, postgres::PgRow};

use super::{
    Postgres,
    open::failed,
    read::{ENTRIES, Statement},
};
use crate::{AuditError, AuditQuery, entry::from_micros, reader::Condition, store::index::name_of};

/// The names of those on the entries.
#[derive(Debug)]
pub(super) struct Indexes(Vec<String>);

/// The parts of ledgers outside of which nothing matches.
#[derive(Debug)]
pub(super) enum Windows {
    /// All of these ledgers. Every index begins with the ledger: to use it takes its name.
    Ledgers(Vec<String>),
    /// There is no index on `ts`, and batches tell which parts reach into a query's time.
    Timed(Vec<Part>),
}

impl Windows {
    /// Whether they are of one ledger, whose entries every index has in the order of `seq`.
    pub(super) fn are_one(&self) -> bool {
        match self {
            Self::Ledgers(ledgers) => ledgers.len() == 1,
            Self::Timed(parts) => parts.len() == 1,
        }
    }
}

#[derive(Debug)]
pub(super) struct Part {
    pub(super) ledger: String,
    pub(super) first_seq: i64,
    pub(super) after: i64,
}

impl Indexes {
    /// None if there are no tables.
    pub(super) async fn find(
        postgres: &Postgres,
        connection: &mut PgConnection,
    ) -> Result<Option<Self>, AuditError> {
        let find = postgres.statement(
            "SELECT to_regclass($1) IS NOT NULL,
                    ARRAY(SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                          WHERE i.indrelid = to_regclass($1) AND i.indisvalid)",
        );
        let table = format!("{}{ENTRIES}", postgres.prefix);
        let (exists, names) = find.row().bind(table).fetch_one(connection).await.map_err(failed)?;
        Ok(Some(Self(names)).filter(|_| exists))
    }

    /// Whether there is an index on request for this condition.
    pub(super) fn serve(&self, condition: &Condition) -> bool {
        condition.on_request().is_some_and(|on| self.0.contains(&name_of(&on)))
    }
}

/// Asked for by itself: a planner that does not see how little is left would read everything.
pub(super) async fn windows(
    postgres: &Postgres,
    connection: &mut PgConnection,
    query: &AuditQuery,
) -> Result<Windows, AuditError> {
    let (least, greatest) = times(query);
    if least.is_none() && greatest.is_none() {
        if let Some(ledger) = &query.ledger {
            return Ok(Windows::Ledgers(vec![ledger.clone()]));
        }
        let ledgers = postgres.statement("SELECT ledger FROM @tracing_audit_heads");
        return ledgers.scalar().fetch_all(connection).await.map(Windows::Ledgers).map_err(failed);
    }
    let mut statement = Statement::new(
        postgres,
        "SELECT ledger, min(first_seq), max(first_seq + entries) FROM @tracing_audit_batches WHERE TRUE",
    );
    statement.and("ledger = ", query.ledger.clone());
    statement.and("greatest_ts >= ", least);
    statement.and("least_ts <= ", greatest);
    statement.push(" GROUP BY ledger");
    let rows = statement.into_query()?.fetch_all(connection).await.map_err(failed)?;
    let window = |row: &PgRow| {
        Ok(Part { ledger: row.try_get(0)?, first_seq: row.try_get(1)?, after: row.try_get(2)? })
    };
    rows.iter().map(window).collect::<sqlx::Result<_>>().map(Windows::Timed).map_err(failed)
}

/// A query's bounds in time. One beyond what PostgreSQL can hold is beyond every entry too.
pub(super) fn times(query: &AuditQuery) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
    let (least, greatest) = query.bounds();
    (least.map(from_micros), greatest.map(from_micros))
}
