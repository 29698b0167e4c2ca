//! Plans a query before it is asked: which parts of which ledgers can hold matches, and which indexes exist.

use sqlx::{PgConnection, Row as _, postgres::PgRow};

use super::{
    borrowed::within,
    conditions::{IndexNames, LedgerPart, Scope},
    error::store_error,
    source::Postgres,
    sql::{ENTRIES, Statement, has_table},
};
use crate::error::AuditError;
use crate::query::AuditQuery;
use crate::store::walk::Candidates;

/// The indexes of the entries. None are looked for if those that every log has serve all that an index could. `None` if the
/// tables do not exist.
pub(super) async fn index_names(
    postgres: &Postgres,
    connection: &mut PgConnection,
    query: &AuditQuery,
) -> Result<Option<IndexNames>, AuditError> {
    if !has_table(postgres, &mut *connection, ENTRIES).await.map_err(store_error)? {
        return Ok(None);
    }
    let looks = query.all_conditions().any(|one| one.served().is_none() && one.on_request().is_some());
    if !looks {
        return Ok(Some(IndexNames(Vec::new())));
    }
    let find = postgres.statement(
        "SELECT ARRAY(SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                      WHERE i.indrelid = to_regclass($1) AND i.indisvalid)",
    );
    let names = find.scalar().bind(postgres.table(ENTRIES)).fetch_one(connection).await;
    Ok(Some(IndexNames(names.map_err(store_error)?)))
}

/// The parts of the ledgers that can hold matches.
///
/// A query of its own asks for them: as part of the query itself, the planner would not see how small they are, and
/// would read everything.
pub(super) async fn scope(
    postgres: &Postgres,
    connection: &mut PgConnection,
    query: &AuditQuery,
) -> Result<Scope, AuditError> {
    if !query.needs_pruning() {
        if let Some(ledger) = &query.ledger {
            return Ok(Scope::Ledgers(vec![ledger.clone()]));
        }
        let ledgers = postgres.statement("SELECT ledger FROM @tracing_audit_heads");
        return ledgers.scalar().fetch_all(connection).await.map(Scope::Ledgers).map_err(store_error);
    }
    let mut statement = Statement::new(
        postgres,
        "SELECT ledger, min(first_seq), max(first_seq + least(greatest(entries, 0), 9223372036854775807 - greatest(first_seq, 0))) FROM @tracing_audit_batches WHERE TRUE",
    );
    statement.and("ledger = ", query.ledger.clone());
    statement.batches_in_range(query);
    statement.batches_in_time(query);
    statement.push(" GROUP BY ledger");
    let rows = statement.into_query()?.fetch_all(connection).await.map_err(store_error)?;
    let part = |row: &PgRow| {
        Ok(LedgerPart { ledger: row.try_get(0)?, first_seq: row.try_get(1)?, end_seq: row.try_get(2)? })
    };
    rows.iter().map(part).collect::<sqlx::Result<_>>().map(Scope::Parts).map_err(store_error)
}

/// Whether an index on request serves a query that no built-in index serves.
pub(super) async fn is_served(postgres: &Postgres, query: &AuditQuery) -> Result<bool, AuditError> {
    if query.served_on_request().next().is_none() {
        return Ok(false);
    }
    let find = async |connection: &mut PgConnection| index_names(postgres, connection, query).await;
    let indexes = within(postgres, find).await?;
    let served = |indexes: IndexNames| query.all_conditions().any(|condition| indexes.serve(&condition));
    Ok(indexes.is_some_and(served))
}

/// Counts the entries, at most [`Candidates::MOST`], that the index of the condition `at` finds in the parts of the
/// ledgers that the query's times reach into.
pub(super) async fn candidates(
    postgres: &Postgres,
    connection: &mut PgConnection,
    query: &AuditQuery,
    at: usize,
    indexes: &IndexNames,
) -> Result<Candidates, AuditError> {
    let candidates = query.candidates(at);
    let scope = scope(postgres, connection, query).await?;
    let newest = scope.is_one_range() && candidates.has_single_values();
    let mut count = Statement::new(postgres, "SELECT count(*), min(seq), max(seq) FROM (SELECT e.seq");
    count.filter(&candidates, &scope, indexes);
    count.push(if newest { " ORDER BY e.seq DESC LIMIT " } else { " LIMIT " });
    count.bind(Candidates::MOST).push(") candidates");
    let row = count.into_query()?.fetch_one(connection).await.map_err(store_error)?;
    let read = || {
        let (count, least_seq, greatest_seq) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(Candidates { count, least_seq, greatest_seq, newest })
    };
    read().map_err(store_error)
}
