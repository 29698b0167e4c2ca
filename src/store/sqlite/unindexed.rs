//! Compares the indexes that can have served a query with the tables that they are on.

use sqlx::Row as _;

use super::{
    cancel::Cancellable,
    indexes,
    source::Sqlite,
    sql::{ENTRIES, Statement},
};
use crate::error::AuditError;
use crate::query::{AuditQuery, Condition};
use crate::store::index::name_of;

/// The index by which a question by time finds the batches that can hold matches.
const OF_TIMES: &str = "tracing_audit_batches_greatest";

const HAS_OF_TIMES: &str =
    "SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND name = 'tracing_audit_batches_greatest'";

/// The batches that this index does not have, or has in another place.
const NOT_IN_TIMES: &str = "SELECT count(*) FROM tracing_audit_batches b NOT INDEXED
     WHERE b.first_seq >= ? AND b.first_seq < ? AND NOT EXISTS (
         SELECT 1 FROM tracing_audit_batches i INDEXED BY tracing_audit_batches_greatest
         WHERE i.greatest_ts = b.greatest_ts AND i.first_seq = b.first_seq)";

/// The indexes that lack rows of this part of their table, or have others, in words.
pub(super) async fn found(
    sqlite: &Sqlite,
    query: &AuditQuery,
    entries: (i64, i64),
    batches: (i64, i64),
) -> Result<Vec<String>, AuditError> {
    sqlite.look_again().await?;
    let on_request: Vec<String> = query.served_on_request().map(|on| name_of(&on)).collect();
    let names = if on_request.is_empty() { Vec::new() } else { indexes::names(sqlite).await? };
    let has_index = |condition: &Condition| {
        condition.served().is_some() || condition.on_request().is_some_and(|on| names.contains(&name_of(&on)))
    };
    let served = query.all_conditions().enumerate().filter(|(_, condition)| has_index(condition));
    let served: Vec<usize> = served.map(|(at, _)| at).collect();
    let compare = async || {
        let mut connection = Cancellable::of(sqlite).await?;
        let mut told = Vec::new();
        if entries.0 < entries.1 {
            for at in served {
                let candidates = query.candidates(at);
                let by_index = counted(&mut connection, &candidates, Some(0), entries).await?;
                let in_table = counted(&mut connection, &candidates, None, entries).await?;
                if by_index != in_table {
                    let (from, last) = (entries.0, entries.1 - 1);
                    told.push(format!(
                        "an index finds {} entries from seq {from} to {last} where the table has {}, or others: the file is damaged",
                        by_index.0, in_table.0
                    ));
                }
            }
        }
        if batches.0 < batches.1 {
            let has_index = connection.fetch_one(sqlx::query(HAS_OF_TIMES)).await?;
            if has_index.try_get::<i64, _>(0)? > 0 {
                let lacking = sqlx::query(NOT_IN_TIMES).bind(batches.0).bind(batches.1);
                let lacking: i64 = connection.fetch_one(lacking).await?.try_get(0)?;
                if lacking > 0 {
                    told.push(format!("the index {OF_TIMES} lacks {lacking} batches: the file is damaged"));
                }
            }
        }
        Ok(told)
    };
    compare().await.map_err(|cause| sqlite.store_error(cause))
}

/// The number of entries that match, and the sum of their distances from the first one of the part: found by the index that serves
/// the condition at this place, or in the table.
async fn counted(
    connection: &mut Cancellable,
    query: &AuditQuery,
    by: Option<usize>,
    (from, before): (i64, i64),
) -> sqlx::Result<(i64, i64)> {
    let mut count = Statement::new("SELECT count(*), ifnull(sum(e.seq - ?), 0)");
    count.bind(from);
    count.push(ENTRIES);
    count.filter(query, by);
    count.and("e.seq >= ?", Some(from));
    count.and("e.seq < ?", Some(before));
    let row = connection.fetch_one(count.into_query()?).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}
