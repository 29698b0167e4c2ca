//! Reads what the database holds of the tree over a ledger's entries.

use std::ops::Range;

use sqlx::{PgConnection, Row as _, postgres::PgRow};

use super::{
    borrowed::within,
    error::store_error,
    rows::{ROW, decode, micros},
    source::Postgres,
    sql::{Sql, has_table},
};
use crate::entry::Row;
use crate::error::AuditError;
use crate::store::tree::{BatchRow, LeavesRow, NodeRow, TreeHead, bounds};

/// The statements, each for a ledger and a range of `seq` or of indexes.
pub(super) struct TreeStatements {
    head: Sql,
    batches: Sql,
    leaves: Sql,
    nodes: Sql,
    entries: Sql,
}

impl TreeStatements {
    pub(super) fn new(postgres: &Postgres) -> Self {
        let sql = |statement: &str| postgres.statement(statement);
        Self {
            head: sql("SELECT log_id, next_seq, tree_size, frontier FROM @tracing_audit_heads WHERE ledger = $1"),
            batches: sql(
                "SELECT first_seq, entries, writer, position, committed_at, least_ts, greatest_ts
                 FROM @tracing_audit_batches WHERE ledger = $1 AND first_seq >= $2 AND first_seq < $3 ORDER BY first_seq",
            ),
            leaves: sql(
                "SELECT first_seq, seeds, substr(leaves, 1, $4) FROM @tracing_audit_leaves
                 WHERE ledger = $1 AND first_seq >= $2 AND first_seq < $3 ORDER BY first_seq",
            ),
            nodes: sql(
                "SELECT level::bigint, idx, hash FROM @tracing_audit_nodes
                 WHERE ledger = $1 AND level = $4 AND idx >= $2 AND idx < $3 ORDER BY idx",
            ),
            entries: sql(&format!(
                "{ROW} FROM @tracing_audit_entries e WHERE e.ledger = $1 AND e.seq >= $2 AND e.seq < $3 ORDER BY e.seq"
            )),
        }
    }

    /// What the head of the ledger says of its tree. `None` if there is no such ledger.
    pub(super) async fn head(
        &self,
        connection: &mut PgConnection,
        ledger: &str,
    ) -> sqlx::Result<Option<TreeHead>> {
        let row = self.head.query().bind(ledger.to_owned()).fetch_optional(connection).await?;
        let head = |row: PgRow| {
            Ok(TreeHead {
                log_id: row.try_get(0)?,
                next_seq: row.try_get(1)?,
                size: row.try_get(2)?,
                frontier: row.try_get(3)?,
            })
        };
        row.map(head).transpose()
    }

    pub(super) async fn batches(
        &self,
        connection: &mut PgConnection,
        ledger: &str,
        range: &Range<u64>,
    ) -> sqlx::Result<Vec<BatchRow>> {
        let batch = |row: &PgRow| {
            Ok(BatchRow {
                first_seq: row.try_get(0)?,
                entries: row.try_get(1)?,
                writer: row.try_get(2)?,
                position: row.try_get(3)?,
                committed_at: micros(row, 4)?,
                least_ts: micros(row, 5)?,
                greatest_ts: micros(row, 6)?,
            })
        };
        let (from, before) = bounds(range);
        let select = self.batches.query().bind(ledger.to_owned()).bind(from).bind(before);
        select.fetch_all(connection).await?.iter().map(batch).collect()
    }

    pub(super) async fn leaves(
        &self,
        connection: &mut PgConnection,
        ledger: &str,
        range: &Range<u64>,
    ) -> sqlx::Result<Vec<LeavesRow>> {
        let leaves = |row: &PgRow| {
            Ok(LeavesRow { first_seq: row.try_get(0)?, seeds: row.try_get(1)?, leaves: row.try_get(2)? })
        };
        let (from, before) = bounds(range);
        let select = self.leaves.query().bind(ledger.to_owned()).bind(from).bind(before);
        select.bind(LeavesRow::MOST_BYTES).fetch_all(connection).await?.iter().map(leaves).collect()
    }

    pub(super) async fn nodes(
        &self,
        connection: &mut PgConnection,
        ledger: &str,
        level: u8,
        range: &Range<u64>,
    ) -> sqlx::Result<Vec<NodeRow>> {
        let node = |row: &PgRow| {
            Ok(NodeRow { level: row.try_get(0)?, index: row.try_get(1)?, hash: row.try_get(2)? })
        };
        let (from, before) = bounds(range);
        let select = self.nodes.query().bind(ledger.to_owned()).bind(from).bind(before);
        select.bind(i16::from(level)).fetch_all(connection).await?.iter().map(node).collect()
    }

    pub(super) async fn entries(
        &self,
        connection: &mut PgConnection,
        ledger: &str,
        range: &Range<u64>,
    ) -> sqlx::Result<Vec<(i64, Row)>> {
        let (from, before) = bounds(range);
        let select = self.entries.query().bind(ledger.to_owned()).bind(from).bind(before);
        let rows = select.fetch_all(connection).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, decode(row)))).collect()
    }
}

/// What this reads on a connection for readers. Nothing if the tables do not exist, or are of a version that knew no tree.
pub(super) async fn read<T: Default>(
    postgres: &Postgres,
    read: impl AsyncFnOnce(&TreeStatements, &mut PgConnection) -> sqlx::Result<T>,
) -> Result<T, AuditError> {
    within(postgres.readers().await?, async |connection| {
        if !has_table(postgres, connection, "tracing_audit_leaves").await.map_err(store_error)? {
            return Ok(T::default());
        }
        read(&TreeStatements::new(postgres), connection).await.map_err(store_error)
    })
    .await
}
