//! The contract of reading what proves a ledger: its head, batches, leaf hashes, nodes and rows, as they are stored.

use std::ops::Range;

use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::entry::Row;
use crate::error::AuditError;
use crate::ledger::{Columns, Hash, Seed};

/// Reads what proves a ledger. Somebody may have changed any of it, so a value that this crate cannot have written is `None`,
/// and a table that is gone is empty. Each call is short: none reads more than what its range holds.
pub(crate) trait Evidence: Send + Sync {
    /// The names of the ledgers that have a head.
    fn ledgers(&self) -> BoxFuture<'_, Result<Vec<String>, AuditError>>;

    /// The head, and the end of the leaf hashes, as of one moment.
    fn head<'a>(&'a self, ledger: &'a str) -> BoxFuture<'a, Result<StoredHead, AuditError>>;

    /// The rows of leaf hashes that reach into the range, with the hashes that are in it.
    fn leaves<'a>(
        &'a self,
        ledger: &'a str,
        range: Range<i64>,
    ) -> BoxFuture<'a, Result<StoredLeaves, AuditError>>;

    /// The batches that begin in the range, and the last one that begins before it.
    fn batches<'a>(
        &'a self,
        ledger: &'a str,
        range: Range<i64>,
    ) -> BoxFuture<'a, Result<Vec<StoredBatch>, AuditError>>;

    /// The nodes of a level by their index, for this range of indexes.
    fn nodes<'a>(
        &'a self,
        ledger: &'a str,
        level: u8,
        range: Range<i64>,
    ) -> BoxFuture<'a, Result<Vec<StoredNode>, AuditError>>;

    /// The level and the index of nodes that no tree of this size has, at most `most` of them. Entries that writers
    /// have added since count for the size.
    fn foreign_nodes<'a>(
        &'a self,
        ledger: &'a str,
        size: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<(i64, i64)>, AuditError>>;

    /// The first `seq` of batches before the first entry, and of the batches from this `seq` on that begin at the head
    /// or beyond it, at most `most` of them. Entries that writers have added since count for the head.
    fn foreign_batches<'a>(
        &'a self,
        ledger: &'a str,
        from: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<i64>, AuditError>>;

    /// Rows of the range in the order of `seq`, at most `most` of them. Fewer if their texts are long.
    fn rows<'a>(
        &'a self,
        ledger: &'a str,
        range: Range<i64>,
        most: u32,
    ) -> BoxFuture<'a, Result<StoredRows, AuditError>>;

    /// Hands over the rows of the range in the order of `seq` without a copy of each, on a thread on which `take` may compute.
    /// Returns from where on [`rows`](Self::rows) must read the others: the end of the range if there are none. A database whose
    /// rows lie elsewhere hands over nothing.
    fn rows_in_place<'a>(
        &'a self,
        ledger: &'a str,
        range: Range<i64>,
        take: TakeRow,
    ) -> BoxFuture<'a, Result<i64, AuditError>> {
        let _ = (ledger, take);
        Box::pin(std::future::ready(Ok(range.start)))
    }

    /// The workspaces of the rows of the range, in the order of `seq`.
    fn workspaces<'a>(
        &'a self,
        ledger: &'a str,
        range: Range<i64>,
    ) -> BoxFuture<'a, Result<Vec<StoredWorkspace>, AuditError>>;

    /// The `seq` of entries with this action before `before`, the last one first, at most `most` of them.
    fn last_of<'a>(
        &'a self,
        ledger: &'a str,
        action: &'static str,
        before: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<Vec<i64>, AuditError>>;

    /// Rows from this `seq` on that are beyond the head, which writers may have moved since.
    fn beyond<'a>(
        &'a self,
        ledger: &'a str,
        from: i64,
        most: u32,
    ) -> BoxFuture<'a, Result<StoredRows, AuditError>>;

    /// The least `seq` from this one on that a row, a batch or leaf hashes begin with.
    fn first_from<'a>(&'a self, ledger: &'a str, at: i64) -> BoxFuture<'a, Result<Option<i64>, AuditError>>;

    /// The number of a writer's quarantined records with positions after the first and up to the second.
    fn quarantined<'a>(
        &'a self,
        ledger: &'a str,
        writer: Uuid,
        positions: (i64, i64),
    ) -> BoxFuture<'a, Result<u64, AuditError>>;
}

/// Takes a row: its `seq`, and its columns as they lie in the database. `None` if one of them has what no entry can have there.
pub(crate) type TakeRow = Box<dyn FnMut(i64, Option<&Columns<'_>>) + Send>;

/// A node's index, and its hash.
pub(crate) type StoredNode = (i64, Option<Hash>);

/// A row's `seq`, and its workspace.
pub(crate) type StoredWorkspace = (i64, Option<Uuid>);

/// The head of a ledger, as it is stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoredHead {
    /// Whether a log has created its tables.
    pub(crate) has_tables: bool,
    /// The number of heads: one, if nobody has changed anything.
    pub(crate) heads: i64,
    pub(crate) next_seq: Option<i64>,
    /// `None` if the tables are of a version without a tree.
    pub(crate) tree: Option<StoredTree>,
    /// The `seq` after the last leaf hash. `None` if there is none.
    pub(crate) leaves_until: Option<i64>,
    /// The `seq` after the entries of the last batch. `None` if there is none.
    pub(crate) batches_until: Option<i64>,
}

/// The tree of a ledger, as its head has it.
#[derive(Clone, Debug)]
pub(crate) struct StoredTree {
    pub(crate) log_id: Option<Uuid>,
    pub(crate) size: Option<i64>,
    pub(crate) frontier: Option<Vec<u8>>,
}

/// Rows of leaf hashes in the order of `first_seq`, and the hashes of a range, one after the other.
#[derive(Debug, Default)]
pub(crate) struct StoredLeaves {
    pub(crate) rows: Vec<LeafRow>,
    pub(crate) hashes: Vec<Hash>,
}

/// A row of leaf hashes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeafRow {
    pub(crate) first_seq: i64,
    /// The bytes of all its hashes. `None` if they are no bytes.
    pub(crate) bytes: Option<i64>,
    /// Its hashes in [`StoredLeaves::hashes`]: the `seq` of the first of them, their place there, their number.
    pub(crate) from: i64,
    pub(crate) at: usize,
    pub(crate) count: usize,
    /// The seed of the batch. `None` if it is not 16 bytes.
    pub(crate) seed: Option<Seed>,
    /// Whether there is no seed at all, as for numbers that no entry has.
    pub(crate) is_seedless: bool,
}

impl StoredLeaves {
    /// Adds a row, with those of its hashes that begin at `from`.
    pub(crate) fn add(
        &mut self,
        (first_seq, from): (i64, i64),
        bytes: Option<i64>,
        leaves: &[u8],
        seeds: Option<&[u8]>,
    ) {
        let (hashes, _) = leaves.as_chunks::<32>();
        let seed = seeds.and_then(|seeds| Seed::try_from(seeds).ok());
        let (at, count) = (self.hashes.len(), hashes.len());
        let is_seedless = seeds.is_some_and(<[u8]>::is_empty);
        self.rows.push(LeafRow { first_seq, bytes, from, at, count, seed, is_seedless });
        self.hashes.extend_from_slice(hashes);
    }
}

/// A batch, as it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredBatch {
    pub(crate) first_seq: i64,
    pub(crate) entries: Option<i64>,
    pub(crate) writer: Option<Uuid>,
    pub(crate) position: Option<i64>,
    pub(crate) committed_at: Option<i64>,
    pub(crate) least_ts: Option<i64>,
    pub(crate) greatest_ts: Option<i64>,
}

/// A row of the entries. `None` if a column has what no entry can have there.
#[derive(Debug)]
pub(crate) struct StoredRow {
    pub(crate) seq: i64,
    pub(crate) row: Option<Row>,
}

/// Some rows of a range.
#[derive(Debug, Default)]
pub(crate) struct StoredRows {
    pub(crate) rows: Vec<StoredRow>,
    /// The bytes of their texts.
    bytes: usize,
}

impl StoredRows {
    /// The bytes of texts after which no row is added.
    const BYTES: usize = 2 << 20;

    /// Adds a row, and returns whether there is room for another one.
    pub(crate) fn add(&mut self, row: StoredRow) -> bool {
        self.bytes += row.row.as_ref().map_or(0, Row::text_bytes);
        self.rows.push(row);
        self.bytes < Self::BYTES
    }
}
