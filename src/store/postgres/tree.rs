//! Reads and adds to what the database holds of the tree over a ledger's entries.

use std::ops::Range;

use futures_util::TryStreamExt;
use sqlx::{PgConnection, Row as _, postgres::PgRow};

use super::{
    error::{append_error, code_of},
    rows::{ROW, decode, micros},
    source::Postgres,
    sql::{Sql, bounded},
};
use crate::entry::Row;
use crate::ledger::Node;
use crate::store::end::SEQ_LIMIT;
use crate::store::growth::{Failed, Growing, NewLeaves};
use crate::store::keeper::TreeTables;
use crate::store::tree::{BatchRow, LeavesRow, NodeRow, TreeHead, bounds};

/// The statements, each for a ledger and a range of `seq` or of indexes.
pub(super) struct TreeStatements {
    head: Sql,
    hold: Sql,
    batches: Sql,
    next_batch: Sql,
    leaves: Sql,
    leaves_end: Sql,
    nodes: Sql,
    entries: Sql,
    add_leaves: Sql,
    add_nodes: Sql,
    set_head: Sql,
}

const HEAD: &str = "SELECT next_seq, tree_size, frontier FROM @tracing_audit_heads WHERE ledger = $1";

impl TreeStatements {
    pub(super) fn new(postgres: &Postgres) -> Self {
        let sql = |statement: &str| postgres.statement(statement);
        Self {
            head: sql(HEAD),
            hold: sql(&[HEAD, " FOR UPDATE"].concat()),
            batches: sql(
                "SELECT first_seq, entries, writer, position, committed_at
                 FROM @tracing_audit_batches WHERE ledger = $1 AND first_seq >= $2 AND first_seq < $3 ORDER BY first_seq",
            ),
            next_batch: sql(
                "SELECT min(first_seq) FROM @tracing_audit_batches WHERE ledger = $1 AND first_seq >= $2",
            ),
            leaves: sql(
                "SELECT first_seq, seeds, substr(leaves, 1, $4) FROM @tracing_audit_leaves
                 WHERE ledger = $1 AND first_seq >= $2 AND first_seq < $3 ORDER BY first_seq",
            ),
            leaves_end: sql("SELECT first_seq + length(leaves) / 32 FROM @tracing_audit_leaves
                 WHERE ledger = $1 AND first_seq < $2 ORDER BY first_seq DESC LIMIT 1"),
            nodes: sql(
                "SELECT idx, hash FROM @tracing_audit_nodes
                 WHERE ledger = $1 AND level = $4 AND idx >= $2 AND idx < $3 ORDER BY idx",
            ),
            entries: sql(&format!(
                "{ROW} FROM @tracing_audit_entries e WHERE e.ledger = $1 AND e.seq >= $2 AND e.seq < $3 ORDER BY e.seq"
            )),
            add_leaves: sql("INSERT INTO @tracing_audit_leaves (ledger, first_seq, seeds, leaves)
                 SELECT $1, first_seq, seeds, leaves FROM unnest($2::bigint[], $3::bytea[], $4::bytea[])
                     AS new (first_seq, seeds, leaves)"),
            add_nodes: sql("INSERT INTO @tracing_audit_nodes (ledger, level, idx, hash)
                 SELECT $1, level, idx, hash FROM unnest($2::smallint[], $3::bigint[], $4::bytea[])
                     AS new (level, idx, hash)
                 ON CONFLICT DO NOTHING"),
            set_head: sql(
                "UPDATE @tracing_audit_heads SET tree_size = $2, frontier = $3 WHERE ledger = $1",
            ),
        }
    }

    async fn batches(
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
            })
        };
        let (from, before) = bounds(range);
        let select = self.batches.query().bind(ledger.to_owned()).bind(from).bind(before);
        select.fetch_all(connection).await?.iter().map(batch).collect()
    }

    async fn leaves(
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

    async fn nodes(
        &self,
        connection: &mut PgConnection,
        ledger: &str,
        level: u8,
        range: &Range<u64>,
    ) -> sqlx::Result<Vec<NodeRow>> {
        let node = |row: &PgRow| Ok(NodeRow { index: row.try_get(0)?, hash: row.try_get(1)? });
        let (from, before) = bounds(range);
        let select = self.nodes.query().bind(ledger.to_owned()).bind(from).bind(before);
        select.bind(i16::from(level)).fetch_all(connection).await?.iter().map(node).collect()
    }
}

fn head_of(row: Option<PgRow>) -> sqlx::Result<Option<TreeHead>> {
    let head = |row: PgRow| {
        Ok(TreeHead { next_seq: row.try_get(0)?, size: row.try_get(1)?, frontier: row.try_get(2)? })
    };
    row.map(head).transpose()
}

/// The tables of a ledger's tree over a connection, within a transaction.
pub(super) struct PostgresTree<'c> {
    pub(super) connection: &'c mut PgConnection,
    pub(super) statements: &'c TreeStatements,
    pub(super) ledger: &'c str,
}

/// Turns an error of a statement about the tree into one that blames the tree, if it says that the statement can never
/// succeed, or else the database.
pub(super) fn failed(cause: sqlx::Error) -> Failed {
    let is_final = match &cause {
        // Data that are refused, constraints, and what does not exist or is not granted.
        sqlx::Error::Database(_) => {
            let code = code_of(&cause);
            ["0A", "22", "23", "42", "54"].iter().any(|class| code.starts_with(class)) && code != "42P05"
        }
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. } => true,
        _ => false,
    };
    match &*code_of(&cause) {
        // The functions refused the call, or the role has no rights on the tables.
        "42501" => Failed::Tree(format!(
            "{cause}; entries that have no leaf get one from a log whose role may read them and add leaves: open one with \
             the owner's role"
        )),
        code if is_final || code.starts_with("TA") => Failed::Tree(cause.to_string()),
        _ => append_error(cause).into(),
    }
}

impl PostgresTree<'_> {
    /// Reads the head's state of the tree. The head is locked until the end of the transaction if it is to be written.
    pub(super) async fn head(&mut self, holds: bool) -> Result<Option<TreeHead>, Failed> {
        let select = if holds { &self.statements.hold } else { &self.statements.head };
        let row = select.query().bind(self.ledger).fetch_optional(&mut *self.connection).await;
        row.and_then(head_of).map_err(failed)
    }
}

impl TreeTables for PostgresTree<'_> {
    async fn batches(&mut self, seqs: Range<u64>) -> Result<Vec<BatchRow>, Failed> {
        self.statements.batches(&mut *self.connection, self.ledger, &seqs).await.map_err(failed)
    }

    async fn next_batch(&mut self, from: u64) -> Result<Option<u64>, Failed> {
        let next = self.statements.next_batch.scalar::<Option<i64>>().bind(self.ledger).bind(bounded(from));
        let next = next.fetch_one(&mut *self.connection).await.map_err(failed)?;
        Ok(next.map(i64::cast_unsigned))
    }

    async fn each_entry(
        &mut self,
        seqs: Range<u64>,
        each: &mut (dyn FnMut(i64, &Row) + Send),
    ) -> Result<(), Failed> {
        let (from, before) = bounds(&seqs);
        let select = self.statements.entries.query().bind(self.ledger).bind(from).bind(before);
        let mut rows = select.fetch(&mut *self.connection);
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            each(row.try_get(0).map_err(failed)?, &decode(&row));
        }
        Ok(())
    }

    async fn leaves(&mut self, seqs: Range<u64>) -> Result<Vec<LeavesRow>, Failed> {
        self.statements.leaves(&mut *self.connection, self.ledger, &seqs).await.map_err(failed)
    }

    async fn leaves_end(&mut self) -> Result<i64, Failed> {
        let end = self.statements.leaves_end.scalar::<i64>().bind(self.ledger).bind(SEQ_LIMIT);
        Ok(end.fetch_optional(&mut *self.connection).await.map_err(failed)?.unwrap_or(0))
    }

    async fn nodes(&mut self, level: u8, indexes: Range<u64>) -> Result<Vec<NodeRow>, Failed> {
        self.statements.nodes(&mut *self.connection, self.ledger, level, &indexes).await.map_err(failed)
    }

    async fn add_leaves(&mut self, rows: &[NewLeaves]) -> Result<(), Failed> {
        if rows.is_empty() {
            return Ok(());
        }
        let add = self.statements.add_leaves.query().bind(self.ledger);
        let add = add.bind(rows.iter().map(|row| row.first_seq).collect::<Vec<_>>());
        let add = add.bind(rows.iter().map(|row| &*row.seeds).collect::<Vec<_>>());
        let add = add.bind(rows.iter().map(NewLeaves::bytes).collect::<Vec<_>>());
        let added = add.execute(&mut *self.connection).await.map_err(failed)?;
        if added.rows_affected() == rows.len() as u64 {
            Ok(())
        } else {
            Err(Failed::Tree("something keeps rows out of tracing_audit_leaves".to_owned()))
        }
    }

    async fn add_nodes(&mut self, nodes: &[Node]) -> Result<(), Failed> {
        if nodes.is_empty() {
            return Ok(());
        }
        let add = self.statements.add_nodes.query().bind(self.ledger);
        let add = add.bind(nodes.iter().map(|node| i16::from(node.subtree.level)).collect::<Vec<_>>());
        let add = add.bind(nodes.iter().map(|node| node.subtree.index.cast_signed()).collect::<Vec<_>>());
        let add = add.bind(nodes.iter().map(|node| &node.hash[..]).collect::<Vec<_>>());
        add.execute(&mut *self.connection).await.map(drop).map_err(failed)
    }

    async fn set_head(&mut self, tree: &Growing) -> Result<(), Failed> {
        let set = self.statements.set_head.query().bind(self.ledger).bind(tree.size());
        let set = set.bind(tree.frontier().to_bytes()).execute(&mut *self.connection).await;
        set.map(drop).map_err(failed)
    }
}
