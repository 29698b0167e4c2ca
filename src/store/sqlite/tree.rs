//! Reads what the database holds of the tree over the entries.

use std::ops::Range;

use sqlx::{
    AssertSqlSafe, Row as _, SqlSafeStr as _,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};
use uuid::Uuid;

use super::{
    cancel::fetch_all,
    rows::{ROW, decode},
    source::Sqlite,
};
use crate::entry::Row;
use crate::error::AuditError;
use crate::store::tree::{BatchRow, LeavesRow, NodeRow, TreeHead, bounds};

type Select = Query<'static, sqlx::Sqlite, SqliteArguments>;

/// The statements, each for a range of `seq` or of indexes, and what their rows are.
pub(super) fn select_batches(range: &Range<u64>) -> Select {
    let (from, before) = bounds(range);
    sqlx::query(
        "SELECT first_seq, entries, writer, position, committed_at, least_ts, greatest_ts FROM tracing_audit_batches
         WHERE first_seq >= ? AND first_seq < ? ORDER BY first_seq",
    )
    .bind(from)
    .bind(before)
}

pub(super) fn batch(row: &SqliteRow) -> sqlx::Result<BatchRow> {
    Ok(BatchRow {
        first_seq: row.try_get(0)?,
        entries: row.try_get(1)?,
        writer: id(row, 2)?,
        position: row.try_get(3)?,
        committed_at: row.try_get(4)?,
        least_ts: row.try_get(5)?,
        greatest_ts: row.try_get(6)?,
    })
}

pub(super) fn select_leaves(range: &Range<u64>) -> Select {
    let (from, before) = bounds(range);
    sqlx::query(
        "SELECT first_seq, seeds, substr(leaves, 1, ?) FROM tracing_audit_leaves
         WHERE first_seq >= ? AND first_seq < ? ORDER BY first_seq",
    )
    .bind(LeavesRow::MOST_BYTES)
    .bind(from)
    .bind(before)
}

pub(super) fn leaves(row: &SqliteRow) -> sqlx::Result<LeavesRow> {
    Ok(LeavesRow { first_seq: row.try_get(0)?, seeds: row.try_get(1)?, leaves: row.try_get(2)? })
}

pub(super) fn select_nodes(level: u8, range: &Range<u64>) -> Select {
    let (from, before) = bounds(range);
    sqlx::query(
        "SELECT level, idx, hash FROM tracing_audit_nodes WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx",
    )
    .bind(i64::from(level))
    .bind(from)
    .bind(before)
}

pub(super) fn node(row: &SqliteRow) -> sqlx::Result<NodeRow> {
    Ok(NodeRow { level: row.try_get(0)?, index: row.try_get(1)?, hash: row.try_get(2)? })
}

pub(super) fn select_entries(range: &Range<u64>) -> Select {
    let (from, before) = bounds(range);
    let sql = format!("{ROW} FROM tracing_audit_entries e WHERE e.seq >= ? AND e.seq < ? ORDER BY e.seq");
    sqlx::query(AssertSqlSafe(sql).into_sql_str()).bind(from).bind(before)
}

pub(super) fn entry(row: &SqliteRow) -> sqlx::Result<(i64, Row)> {
    Ok((row.try_get(0)?, decode(row)))
}

fn id(row: &SqliteRow, index: usize) -> sqlx::Result<Option<Uuid>> {
    Ok(row.try_get::<Option<Vec<u8>>, _>(index)?.and_then(|bytes| Uuid::from_slice(&bytes).ok()))
}

/// What the head of this ledger says of its tree. `None` if there is no such ledger, or if its tables are of a version that
/// knew no tree.
pub(super) async fn head(sqlite: &Sqlite, ledger: &str) -> Result<Option<TreeHead>, AuditError> {
    let select =
        sqlx::query("SELECT log_id, next_seq, tree_size, frontier FROM tracing_audit_head WHERE ledger = ?");
    let head = |row: &SqliteRow| {
        Ok(TreeHead {
            log_id: id(row, 0)?,
            next_seq: row.try_get(1)?,
            size: row.try_get(2)?,
            frontier: row.try_get(3)?,
        })
    };
    Ok(all(sqlite, select.bind(ledger.to_owned()), head).await?.pop())
}

/// The rows of a statement, each turned into what it is. None if there is no tree.
pub(super) async fn all<T>(
    sqlite: &Sqlite,
    select: Select,
    read: impl Fn(&SqliteRow) -> sqlx::Result<T>,
) -> Result<Vec<T>, AuditError> {
    if !sqlite.has_table("tracing_audit_leaves").await? {
        return Ok(Vec::new());
    }
    let rows = async { fetch_all(sqlite, select).await?.iter().map(read).collect::<sqlx::Result<_>>() };
    rows.await.map_err(|cause| sqlite.store_error(cause))
}
