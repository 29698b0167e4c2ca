//! Reads and adds to what the database holds of the tree over the entries.

use std::ops::Range;

use futures_util::TryStreamExt;
use sqlx::{
    Arguments as _, AssertSqlSafe, Row as _, SqlSafeStr as _, SqliteConnection,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};
use uuid::Uuid;

use super::{
    error::{append_error, code_of},
    rows::{ROW, decode},
    sql::bounded,
};
use crate::entry::Row;
use crate::ledger::Node;
use crate::store::end::SEQ_LIMIT;
use crate::store::growth::{Failed, Growing, NewLeaves};
use crate::store::keeper::TreeTables;
use crate::store::tree::{BatchRow, LeavesRow, NodeRow, TreeHead, bounds};

type Select = Query<'static, sqlx::Sqlite, SqliteArguments>;

// The statements, each for a range of `seq` or of indexes, and what their rows are.

fn select_batches(range: &Range<u64>) -> Select {
    let (from, before) = bounds(range);
    sqlx::query(
        "SELECT first_seq, entries, writer, position, committed_at FROM tracing_audit_batches
         WHERE first_seq >= ? AND first_seq < ? ORDER BY first_seq",
    )
    .bind(from)
    .bind(before)
}

fn batch(row: &SqliteRow) -> sqlx::Result<BatchRow> {
    Ok(BatchRow {
        first_seq: row.try_get(0)?,
        entries: row.try_get(1)?,
        writer: id(row, 2)?,
        position: row.try_get(3)?,
        committed_at: row.try_get(4)?,
    })
}

fn select_leaves(range: &Range<u64>) -> Select {
    let (from, before) = bounds(range);
    sqlx::query(
        "SELECT first_seq, seeds, substr(leaves, 1, ?) FROM tracing_audit_leaves
         WHERE first_seq >= ? AND first_seq < ? ORDER BY first_seq",
    )
    .bind(LeavesRow::MOST_BYTES)
    .bind(from)
    .bind(before)
}

fn leaves(row: &SqliteRow) -> sqlx::Result<LeavesRow> {
    Ok(LeavesRow { first_seq: row.try_get(0)?, seeds: row.try_get(1)?, leaves: row.try_get(2)? })
}

fn select_nodes(level: u8, range: &Range<u64>) -> Select {
    let (from, before) = bounds(range);
    sqlx::query(
        "SELECT idx, hash FROM tracing_audit_nodes WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx",
    )
    .bind(i64::from(level))
    .bind(from)
    .bind(before)
}

fn node(row: &SqliteRow) -> sqlx::Result<NodeRow> {
    Ok(NodeRow { index: row.try_get(0)?, hash: row.try_get(1)? })
}

fn select_entries(range: &Range<u64>) -> Select {
    let (from, before) = bounds(range);
    let sql = format!("{ROW} FROM tracing_audit_entries e WHERE e.seq >= ? AND e.seq < ? ORDER BY e.seq");
    sqlx::query(AssertSqlSafe(sql).into_sql_str()).bind(from).bind(before)
}

fn entry(row: &SqliteRow) -> sqlx::Result<(i64, Row)> {
    Ok((row.try_get(0)?, decode(row)))
}

fn id(row: &SqliteRow, index: usize) -> sqlx::Result<Option<Uuid>> {
    Ok(row.try_get::<Option<Vec<u8>>, _>(index)?.and_then(|bytes| Uuid::from_slice(&bytes).ok()))
}

const HEAD: &str = "SELECT next_seq, tree_size, frontier FROM tracing_audit_head";

fn head_of(row: &SqliteRow) -> sqlx::Result<TreeHead> {
    Ok(TreeHead { next_seq: row.try_get(0)?, size: row.try_get(1)?, frontier: row.try_get(2)? })
}

/// The tables of the tree over a connection, within a transaction or without.
pub(super) struct SqliteTree<'c>(pub(super) &'c mut SqliteConnection);

/// Turns an error of a statement about the tree into one that blames the tree, if it says that the statement can never
/// succeed, or else the database.
pub(super) fn failed(cause: sqlx::Error) -> Failed {
    match code_of(&cause) {
        // SQLITE_ERROR, such as a table or a column that does not exist; SQLITE_TOOBIG, SQLITE_CONSTRAINT,
        // SQLITE_MISMATCH.
        Some(1 | 18..=20) => Failed::Tree(cause.to_string()),
        None if !matches!(
            cause,
            sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed | sqlx::Error::PoolClosed
        ) =>
        {
            Failed::Tree(cause.to_string())
        }
        _ => append_error(cause).into(),
    }
}

/// Rows per statement, widest first: a statement costs two hops between threads.
const SHAPES: [usize; 3] = [64, 8, 1];

impl SqliteTree<'_> {
    pub(super) async fn head(&mut self) -> Result<Option<TreeHead>, Failed> {
        let found = sqlx::query(HEAD).fetch_optional(&mut *self.0).await.map_err(failed)?;
        found.as_ref().map(head_of).transpose().map_err(failed)
    }

    async fn rows<T>(
        &mut self,
        select: Select,
        read: fn(&SqliteRow) -> sqlx::Result<T>,
    ) -> Result<Vec<T>, Failed> {
        let rows = select.fetch_all(&mut *self.0).await.map_err(failed)?;
        rows.iter().map(read).collect::<sqlx::Result<_>>().map_err(failed)
    }

    /// Runs a statement that ends in `VALUES`, for as many rows at once as there are. Returns how many were stored.
    async fn insert<T>(
        &mut self,
        insert: &str,
        mut rows: &[T],
        bind: fn(&mut SqliteArguments, &T) -> Result<(), sqlx::error::BoxDynError>,
    ) -> Result<u64, Failed> {
        let mut stored = 0;
        while let Some(shape) = SHAPES.into_iter().find(|shape| *shape <= rows.len()) {
            let (chunk, rest) = rows.split_at(shape);
            let mut arguments = SqliteArguments::default();
            let bound = chunk.iter().try_for_each(|row| bind(&mut arguments, row));
            bound.map_err(|cause| failed(sqlx::Error::Encode(cause)))?;
            let sql = format!("{insert} {}", vec!["(?, ?, ?)"; shape].join(", "));
            let query = sqlx::query_with(AssertSqlSafe(sql).into_sql_str(), arguments);
            stored += query.execute(&mut *self.0).await.map_err(failed)?.rows_affected();
            rows = rest;
        }
        Ok(stored)
    }
}

impl TreeTables for SqliteTree<'_> {
    async fn batches(&mut self, seqs: Range<u64>) -> Result<Vec<BatchRow>, Failed> {
        self.rows(select_batches(&seqs), batch).await
    }

    async fn next_batch(&mut self, from: u64) -> Result<Option<u64>, Failed> {
        let next = "SELECT min(first_seq) FROM tracing_audit_batches WHERE first_seq >= ?";
        let next: Option<i64> =
            sqlx::query_scalar(next).bind(bounded(from)).fetch_one(&mut *self.0).await.map_err(failed)?;
        Ok(next.map(i64::cast_unsigned))
    }

    async fn each_entry(
        &mut self,
        seqs: Range<u64>,
        each: &mut (dyn FnMut(i64, &Row) + Send),
    ) -> Result<(), Failed> {
        let mut rows = select_entries(&seqs).fetch(&mut *self.0);
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            let (seq, row) = entry(&row).map_err(failed)?;
            each(seq, &row);
        }
        Ok(())
    }

    async fn leaves(&mut self, seqs: Range<u64>) -> Result<Vec<LeavesRow>, Failed> {
        self.rows(select_leaves(&seqs), leaves).await
    }

    async fn leaves_end(&mut self) -> Result<i64, Failed> {
        let end = "SELECT first_seq + length(leaves) / 32 FROM tracing_audit_leaves WHERE first_seq < ?
                   ORDER BY first_seq DESC LIMIT 1";
        let end = sqlx::query_scalar(end).bind(SEQ_LIMIT).fetch_optional(&mut *self.0).await;
        Ok(end.map_err(failed)?.unwrap_or(0))
    }

    async fn nodes(&mut self, level: u8, indexes: Range<u64>) -> Result<Vec<NodeRow>, Failed> {
        self.rows(select_nodes(level, &indexes), node).await
    }

    async fn add_leaves(&mut self, rows: &[NewLeaves]) -> Result<(), Failed> {
        let insert = "INSERT OR FAIL INTO tracing_audit_leaves (first_seq, seeds, leaves) VALUES";
        let stored = self.insert(insert, rows, |arguments, row| {
            arguments.add(row.first_seq)?;
            arguments.add(row.seeds.clone())?;
            arguments.add(row.bytes().to_vec())
        });
        if stored.await? == rows.len() as u64 {
            Ok(())
        } else {
            Err(Failed::Tree("something keeps rows out of tracing_audit_leaves".to_owned()))
        }
    }

    async fn add_nodes(&mut self, nodes: &[Node]) -> Result<(), Failed> {
        let insert = "INSERT OR IGNORE INTO tracing_audit_nodes (level, idx, hash) VALUES";
        let stored = self.insert(insert, nodes, |arguments, node| {
            arguments.add(i64::from(node.subtree.level))?;
            arguments.add(node.subtree.index.cast_signed())?;
            arguments.add(node.hash.to_vec())
        });
        stored.await.map(drop)
    }

    async fn set_head(&mut self, tree: &Growing) -> Result<(), Failed> {
        let set = "UPDATE tracing_audit_head SET tree_size = ?, frontier = ?";
        let set = sqlx::query(set).bind(tree.size()).bind(tree.frontier().to_bytes());
        set.execute(&mut *self.0).await.map(drop).map_err(failed)
    }
}
