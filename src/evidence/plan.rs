//! Reads the ranges of a ledger one by one, and single hashes of its tree.

use std::ops::Range;

use uuid::Uuid;

use super::{
    anchor::Anchor,
    chunk::{self, Chunk, signed},
    consistency::consistency,
    course::Part,
    ends::Ends,
    judge::{Edge, edges, judge},
    state::VerifyState,
};
use crate::error::AuditError;
use crate::ledger::{Frontier, Seeds, verify_consistency};
use crate::store::Evidence;

/// The part of a tree's right edge that is in its last range, with the size of the tree.
pub(super) fn local(frontier: &Frontier, level: u8) -> Option<(u64, Frontier)> {
    let size = frontier.size() % (1 << level);
    let first = frontier.peaks().len().checked_sub(size.count_ones() as usize)?;
    let local = Frontier::from_bytes(size, frontier.peaks().get(first..)?.as_flattened()).ok()?;
    (size > 0).then_some((frontier.size(), local))
}

/// The part of a run that does not change while a ledger is read.
pub(super) struct Plan<'a> {
    pub(super) evidence: &'a dyn Evidence,
    pub(super) ledger: String,
    /// The level of the node over a whole range.
    pub(super) level: u8,
    pub(super) ends: Ends,
    pub(super) anchors: Vec<Anchor>,
    /// The sizes of anchors and of the head's tree.
    pub(super) sizes: Vec<u64>,
    pub(super) head: Option<(u64, Frontier)>,
}

/// The contribution of a range to the run.
pub(super) struct Looked {
    pub(super) part: Part,
    pub(super) edges: Vec<Edge>,
    pub(super) writers: Vec<(Uuid, Range<u64>)>,
    pub(super) gaps: u64,
    /// The number of rows.
    pub(super) rows: u64,
}

impl Plan<'_> {
    pub(super) async fn read(&self, range: Range<u64>) -> Result<Chunk, AuditError> {
        chunk::read(self.evidence, &self.ledger, range, self.ends.tree_until, self.level).await
    }

    /// Reads a range, and once more if something is wrong there.
    pub(super) async fn look(&self, range: Range<u64>) -> Result<Looked, AuditError> {
        let mut chunk = self.read(range.clone()).await?;
        let mut findings = judge(&chunk, None);
        if !findings.is_empty() {
            chunk = self.read(range).await?;
            findings = judge(&chunk, None);
        }
        Ok(Looked {
            edges: edges(&chunk),
            writers: chunk.writers(),
            gaps: chunk.gaps,
            rows: chunk.states.iter().filter(|state| state.is_row()).count() as u64,
            part: Part::of(&chunk, findings, &self.sizes, self.head.as_ref()),
        })
    }

    /// The batch that reaches over the beginning of the first range, as far as its entries are before it: an earlier run has
    /// judged these, and only all together say whether the times of the batch are right.
    pub(super) async fn edge_before(&self, base: u64, first: &[Edge]) -> Result<Option<Edge>, AuditError> {
        let over = first.iter().map(|edge| edge.range.start).find(|start| *start < base);
        let (start, mut edge) = (over.unwrap_or(base), None::<Edge>);
        let mut at = start;
        while at < base {
            let until = base.min(at + (1 << self.level));
            let chunk = self.read(at..until).await?;
            for next in edges(&chunk).into_iter().filter(|edge| edge.range.start == start) {
                match &mut edge {
                    Some(edge) => edge.join(&next),
                    None => edge = Some(next),
                }
            }
            at = until;
        }
        Ok(edge)
    }

    /// The next range to read, from `at` on, and the entries before it of which there is nothing at all.
    pub(super) async fn next(&self, at: u64) -> Result<Option<(Range<u64>, Range<u64>)>, AuditError> {
        if at >= self.ends.until {
            return Ok(None);
        }
        let first = self.evidence.first_from(&self.ledger, signed(at)).await?;
        let begins = match first.and_then(|first| u64::try_from(first).ok()) {
            Some(first) if first - at > u64::from(Seeds::MOST_ENTRIES) => first - first % (1 << self.level),
            None if at >= self.ends.known_until => self.ends.until,
            _ => at,
        };
        if begins >= self.ends.until {
            return Ok(Some((at..self.ends.until, self.ends.until..self.ends.until)));
        }
        Ok(Some((at..begins, begins..(begins + (1 << self.level)).min(self.ends.until))))
    }

    /// Whether a tree that ends before the one of an earlier run is the beginning of that.
    pub(super) async fn is_beginning(
        &self,
        anchor: &Anchor,
        whole: &VerifyState,
    ) -> Result<bool, AuditError> {
        let proof = consistency(self.evidence, &self.ledger, anchor.size(), whole.size()).await?;
        let Some(proof) = proof else { return Ok(false) };
        let root = whole.frontier.root();
        Ok(verify_consistency(anchor.size(), whole.size(), &proof, anchor.root(), &root).is_ok())
    }
}
