//! Looks at the end that the head of the ledger names, and at the ends according to its writers and its tree.

use sqlx::{Row as _, sqlite::SqliteRow};

use super::{cancel::fetch_all, source::Sqlite};
use crate::error::AuditError;
use crate::store::{TreeLook, survey::Unaccounted};

const TREE: &str =
    "SELECT h.log_id IS NOT NULL AND length(h.log_id) = 16, h.tree_size, length(h.frontier), h.next_seq,
        (SELECT ifnull(sum(length(leaves) / 32), 0) FROM tracing_audit_leaves
         WHERE first_seq >= 0 AND first_seq < h.tree_size),
        (SELECT count(*) FROM tracing_audit_leaves
         WHERE first_seq < 0 OR first_seq >= h.tree_size OR length(leaves) % 32 <> 0),
        (SELECT count(*) FROM tracing_audit_nodes
         WHERE level IN (8, 16, 24, 32, 40, 48, 56) AND idx >= 0 AND idx < h.tree_size >> level),
        (SELECT count(*) FROM tracing_audit_nodes)
     FROM tracing_audit_head h WHERE h.ledger = ?";

const UNLIKE: &str = "SELECT b.first_seq FROM tracing_audit_batches b LEFT JOIN tracing_audit_leaves l ON l.first_seq = b.first_seq
     WHERE b.first_seq >= 0 AND b.first_seq < ? AND (l.first_seq IS NULL OR length(l.leaves) <> 32 * b.entries)
     ORDER BY b.first_seq LIMIT ?";

const REACHED: &str = "SELECT w.reached FROM tracing_audit_head h,
        (SELECT max(next_seq) AS reached FROM tracing_audit_writers) w
     WHERE h.ledger = ? AND w.reached > h.next_seq";

const REACHED_WITH_TREE: &str = "SELECT max(h.tree_size, ifnull(w.reached, 0)) FROM tracing_audit_head h,
        (SELECT max(next_seq) AS reached FROM tracing_audit_writers) w
     WHERE h.ledger = ? AND max(h.tree_size, ifnull(w.reached, 0)) > h.next_seq";

// A writer makes the same comparison before a batch whose position is not the expected one.
const UNACCOUNTED: &str = "SELECT * FROM (
        SELECT p.writer, p.position, max(ifnull(b.reached, 0), ifnull(q.reached, 0), ifnull(w.quarantined, 0)) AS backed
        FROM tracing_audit_positions p JOIN tracing_audit_writers w ON w.writer = p.writer
        LEFT JOIN (SELECT writer, max(position) AS reached FROM tracing_audit_batches GROUP BY writer) b
            ON b.writer = p.writer
        LEFT JOIN (SELECT writer, max(position) AS reached FROM tracing_audit_quarantine GROUP BY writer) q
            ON q.writer = p.writer
        WHERE w.started_at IS NOT NULL
     ) WHERE position > backed ORDER BY writer LIMIT ?";

/// The part of the tree that the ledger holds. The rows before the tree's end never change, so that the second
/// statement fits the first.
pub(super) async fn tree(sqlite: &Sqlite, ledger: &str, most: u32) -> Result<Option<TreeLook>, AuditError> {
    for table in
        ["tracing_audit_head", "tracing_audit_batches", "tracing_audit_leaves", "tracing_audit_nodes"]
    {
        if !sqlite.has_table(table).await? {
            return Ok(None);
        }
    }
    let read = async || {
        let rows = fetch_all(sqlite, sqlx::query(TREE).bind(ledger.to_owned())).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let nodes: i64 = row.try_get(6)?;
        let mut look = TreeLook {
            has_id: row.try_get(0)?,
            size: row.try_get(1)?,
            frontier: row.try_get(2)?,
            next_seq: row.try_get(3)?,
            leaves: row.try_get(4)?,
            foreign_leaves: row.try_get(5)?,
            nodes,
            foreign_nodes: row.try_get::<i64, _>(7)? - nodes,
            unlike: Vec::new(),
        };
        let unlike = fetch_all(sqlite, sqlx::query(UNLIKE).bind(look.size).bind(i64::from(most))).await?;
        look.unlike = unlike.iter().map(|row: &SqliteRow| row.try_get(0)).collect::<sqlx::Result<_>>()?;
        Ok(Some(look))
    };
    read().await.map_err(|cause| sqlite.store_error(cause))
}

/// The `seq` after the last commit of any writer, or the size of the tree, if it is greater than what the head says.
pub(super) async fn reached(sqlite: &Sqlite, ledger: &str) -> Result<Option<i64>, AuditError> {
    if !sqlite.has_table("tracing_audit_writers").await? {
        return Ok(None);
    }
    let has_tree = sqlite.has_table("tracing_audit_leaves").await?;
    let reached = if has_tree { REACHED_WITH_TREE } else { REACHED };
    let rows = fetch_all(sqlite, sqlx::query(reached).bind(ledger.to_owned())).await;
    let read = |rows: Vec<SqliteRow>| rows.first().map(|row| row.try_get(0)).transpose();
    rows.and_then(read).map_err(|cause| sqlite.store_error(cause))
}

/// The writers whose position is beyond what the batches and the quarantine account for.
pub(super) async fn unaccounted(sqlite: &Sqlite, most: u32) -> Result<Vec<Unaccounted>, AuditError> {
    for table in ["tracing_audit_positions", "tracing_audit_quarantine", "tracing_audit_writers"] {
        if !sqlite.has_table(table).await? {
            return Ok(Vec::new());
        }
    }
    let rows = fetch_all(sqlite, sqlx::query(UNACCOUNTED).bind(i64::from(most))).await;
    let read = |row: &SqliteRow| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    let rows = rows.and_then(|rows| rows.iter().map(read).collect::<sqlx::Result<_>>());
    rows.map_err(|cause| sqlite.store_error(cause))
}
