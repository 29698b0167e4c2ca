//! Rows of the tree over a ledger's entries as a database holds them: head, batches, leaves, nodes. Nothing of them is believed.

use std::ops::Range;

use uuid::Uuid;

use crate::entry::Row;
use crate::ledger::{Columns, Frontier, LedgerError};

/// The head's account of the tree over the entries of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TreeHead {
    /// The `seq` of the next entry.
    pub(super) next_seq: i64,
    /// The number of leaves. Less than `next_seq` while the tree is catching up.
    pub(super) size: i64,
    /// The bytes of the frontier.
    pub(super) frontier: Vec<u8>,
}

impl TreeHead {
    /// The right edge of the tree.
    ///
    /// # Errors
    /// If it has another length than one for this size.
    pub(super) fn frontier(&self) -> Result<Frontier, LedgerError> {
        // A size below zero becomes one that is too large.
        Frontier::from_bytes(self.size.cast_unsigned(), &self.frontier)
    }
}

/// A row of the batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BatchRow {
    pub(super) first_seq: i64,
    pub(super) entries: i64,
    /// `None` if what stands there is no id.
    pub(super) writer: Option<Uuid>,
    pub(super) position: i64,
    /// Microseconds since 1970.
    pub(super) committed_at: i64,
}

/// A row of the leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeavesRow {
    pub(super) first_seq: i64,
    /// The bytes of the batch's seeds.
    pub(super) seeds: Vec<u8>,
    /// The hashes of the leaves, one after the other. Never more than [`MOST_BYTES`](Self::MOST_BYTES) of them are read.
    pub(super) leaves: Vec<u8>,
}

impl LeavesRow {
    /// The most bytes of leaves that are read: twice as many as any batch has.
    pub(super) const MOST_BYTES: i32 = 8 << 20;
}

/// A row of the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeRow {
    pub(super) index: i64,
    /// 32 bytes, if nobody has changed it.
    pub(super) hash: Vec<u8>,
}

/// A range of `seq` or of indexes, as the databases count.
pub(super) fn bounds(range: &Range<u64>) -> (i64, i64) {
    let bounded = |end: u64| i64::try_from(end).unwrap_or(i64::MAX);
    (bounded(range.start), bounded(range.end))
}

/// The columns of a row, as its leaf commits to them.
pub(crate) fn columns(row: &Row) -> Columns<'_> {
    Columns {
        id: row.id,
        ts: row.ts,
        workspace_id: row.workspace_id,
        session_id: row.session_id,
        agent_id: row.agent_id,
        action: &row.action,
        resource: &row.resource,
        resource_id: row.resource_id.as_deref(),
        decision: &row.decision,
        reason: row.reason.as_deref(),
        risk_score: row.risk_score,
        metadata: &row.metadata,
        problems: row.problems.as_deref(),
    }
}
