//! Reads a range of entries with all that proves it.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::task::{JoinError, JoinHandle};
use uuid::Uuid;

use super::{
    finding::{Finding, FindingKind},
    hasher::{Hasher, RowState},
    layout::{Span, lay_out},
};
use crate::error::{AuditError, ErrorKind};
use crate::ledger::{Columns, Frontier, Hash};
use crate::platform::lock;
use crate::store::{Evidence, StoredRow, columns};

/// The level of the node over a whole range, which has 65 536 entries and begins at a multiple of that.
pub(super) const OVER_CHUNK: u8 = 16;

/// The level of the nodes over 256 entries, the lowest that is stored.
pub(super) const OVER_TILE: u8 = 8;

/// The entries below one node of the lowest stored level.
pub(super) const TILE: u64 = 256;

/// Rows that are read at a time.
const PAGE: u32 = 2048;

/// The hashes from which a frontier was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The stored leaf hashes.
    Leaves,
    /// The stored nodes over 256 entries, and leaf hashes where there are none.
    Tiles,
    /// The stored node over the whole range.
    Node,
    /// The rows.
    Rows,
    /// The frontier of the head.
    Head,
}

/// The stored node over a whole range. `None` if it is gone, or is no hash.
#[derive(Clone, Copy, Debug)]
pub(super) struct OverChunk(pub(super) Option<Hash>);

/// A range of entries that was read.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) range: Range<u64>,
    /// The level of the node over a whole range.
    pub(super) level: u8,
    /// The end of the tree in the range.
    pub(super) tree_until: u64,
    pub(super) spans: Vec<Span>,
    pub(super) stored: Vec<Option<Hash>>,
    pub(super) computed: Vec<Option<Hash>>,
    pub(super) states: Vec<RowState>,
    pub(super) moved: Vec<(u64, u64)>,
    pub(super) times: Vec<Option<(i64, i64)>>,
    pub(super) gaps: u64,
    /// The findings before any hash was compared.
    pub(super) findings: Vec<Finding>,
    /// The stored nodes of the tiles that are full.
    pub(super) tiles: Vec<Option<Hash>>,
    /// The stored node over the range, if it is full.
    pub(super) node: Option<OverChunk>,
}

/// Reads a range of a ledger whose tree ends at `tree_until`. `level` is that of the node over a whole range.
pub(super) async fn read(
    evidence: &dyn Evidence,
    ledger: &str,
    range: Range<u64>,
    tree_until: u64,
    level: u8,
) -> Result<Chunk, AuditError> {
    let tree_until = tree_until.clamp(range.start, range.end);
    let seqs = signed(range.start)..signed(range.end);
    let leaves = evidence.leaves(ledger, seqs.clone()).await?;
    let first = leaves.rows.first().map_or(seqs.start, |row| row.first_seq.min(seqs.start));
    let batches = evidence.batches(ledger, first..seqs.end).await?;
    let layout = lay_out(&range, tree_until, &leaves, &batches);
    drop((leaves, batches));
    let full = (tree_until - range.start) / TILE;
    let first_tile = range.start / TILE;
    let indexes = signed(first_tile)..signed(first_tile + full);
    let found: BTreeMap<_, _> =
        evidence.nodes(ledger, OVER_TILE, indexes.clone()).await?.into_iter().collect();
    let tiles = indexes.map(|index| found.get(&index).copied().flatten()).collect();
    // The levels between those that are stored have no node.
    let node = if tree_until - range.start == 1 << level && level.is_multiple_of(OVER_TILE) {
        let index = signed(range.start >> level);
        let found = evidence.nodes(ledger, level, index..index + 1).await?;
        Some(OverChunk(found.first().and_then(|(_, hash)| *hash)))
    } else {
        None
    };
    let hashed = hash(evidence, ledger, Hasher::new(range.clone(), layout)).await?;
    let mut findings = hashed.layout.findings;
    findings.extend(hashed.doubled.iter().map(|seq| {
        Finding::new(FindingKind::Added, *seq..seq + 1, "a second row has the number of this entry")
    }));
    findings.extend(hashed.unnumbered.iter().map(|seq| {
        let text =
            "after this entry there is a row whose number is no integer, which no writer has committed";
        Finding::new(FindingKind::Added, *seq..seq + 1, text)
    }));
    Ok(Chunk {
        range,
        level,
        tree_until,
        spans: hashed.layout.spans,
        stored: hashed.layout.stored,
        computed: hashed.computed,
        states: hashed.states,
        moved: hashed.moved,
        times: hashed.times,
        gaps: hashed.gaps,
        findings,
        tiles,
        node,
    })
}

/// Hashes the rows where they lie, or else reads them and hashes each page on another thread while the next one is read.
async fn hash(evidence: &dyn Evidence, ledger: &str, hasher: Hasher) -> Result<Hasher, AuditError> {
    let until = signed(hasher.range.end);
    let all = signed(hasher.range.start)..until;
    let hasher = Arc::new(Mutex::new(hasher));
    let takes = Arc::clone(&hasher);
    let take = Box::new(move |seq, row: Option<&Columns<'_>>| lock(&takes).take(seq, row));
    let mut next = evidence.rows_in_place(ledger, all, take).await?;
    let ended = |cause: Option<JoinError>| {
        let error = AuditError::new(ErrorKind::Store, "the thread that verifies entries has ended");
        match cause {
            Some(cause) => error.because(cause),
            None => error,
        }
    };
    let mut work: Option<JoinHandle<()>> = None;
    while next < until {
        let page = evidence.rows(ledger, next..until, PAGE).await?.rows;
        if let Some(work) = work.take() {
            work.await.map_err(|cause| ended(Some(cause)))?;
        }
        if page.is_empty() {
            break;
        }
        // If somebody has created the table again, the number may be that of no entry.
        let last = page.iter().rev().map(|row| row.seq).find(|seq| *seq < until);
        next = last.map_or(next, |seq| seq.saturating_add(1)).max(next.saturating_add(1));
        let hasher = Arc::clone(&hasher);
        work = Some(tokio::task::spawn_blocking(move || take_all(&hasher, &page)));
    }
    if let Some(work) = work {
        work.await.map_err(|cause| ended(Some(cause)))?;
    }
    let hasher = Arc::into_inner(hasher).ok_or_else(|| ended(None))?;
    Ok(hasher.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn take_all(hasher: &Mutex<Hasher>, rows: &[StoredRow]) {
    let mut hasher = lock(hasher);
    for found in rows {
        hasher.take(found.seq, found.row.as_ref().map(columns).as_ref());
    }
}

pub(super) fn signed(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

impl Chunk {
    /// The state of the row with this `seq`, which is in the range.
    pub(super) fn state(&self, seq: u64) -> RowState {
        self.of(&self.states, seq).copied().unwrap_or(RowState::Missing)
    }

    fn of<'a, T>(&self, values: &'a [T], seq: u64) -> Option<&'a T> {
        values.get(usize::try_from(seq.checked_sub(self.range.start)?).ok()?)
    }

    /// The hashes of these entries, if all are known.
    pub(super) fn hashes(&self, values: &[Option<Hash>], seqs: Range<u64>) -> Option<Vec<Hash>> {
        let place = |seq: u64| usize::try_from(seq.checked_sub(self.range.start)?).ok();
        values.get(place(seqs.start)?..place(seqs.end)?)?.iter().copied().collect()
    }

    /// The root over these entries, by the stored leaf hashes or by the rows.
    pub(super) fn fold(&self, values: &[Option<Hash>], seqs: Range<u64>) -> Option<Hash> {
        Some(frontier_over(&self.hashes(values, seqs)?).root())
    }

    /// The entries of each tile that begins before the end of the tree.
    pub(super) fn tile_ranges(&self) -> impl Iterator<Item = Range<u64>> + use<> {
        let until = self.tree_until;
        (self.range.start..until).step_by(256).map(move |start| start..(start + TILE).min(until))
    }

    /// The right edge of the tree over the entries of the range up to `until`, in each way in which it can be computed, those
    /// that are the same once. `head` is the one that the head has.
    pub(super) fn candidates(&self, until: u64, head: Option<&Frontier>) -> Vec<(Source, Frontier)> {
        let whole = self.range.start..until;
        let over = |values| self.hashes(values, whole.clone()).map(|hashes| frontier_over(&hashes));
        let tiles = || {
            let mut frontier = Frontier::new();
            for (index, tile) in self.tile_ranges().enumerate() {
                let tile = tile.start..tile.end.min(until);
                if tile.is_empty() {
                    break;
                }
                let stored =
                    self.tiles.get(index).copied().flatten().filter(|_| tile.end - tile.start == TILE);
                let part = match stored {
                    Some(hash) => full(OVER_TILE, &hash),
                    None => Some(frontier_over(&self.hashes(&self.stored, tile)?)),
                };
                frontier.extend(&part?).ok()?;
            }
            Some(frontier)
        };
        let node =
            || full(self.level, &self.node?.0?).filter(|_| until - self.range.start == 1 << self.level);
        let mut found: Vec<(Source, Frontier)> = Vec::new();
        for (source, frontier) in [
            (Source::Leaves, over(&self.stored)),
            (Source::Tiles, tiles()),
            (Source::Node, node()),
            (Source::Rows, if self.computed == self.stored { None } else { over(&self.computed) }),
            (Source::Head, head.cloned()),
        ] {
            let is_new = |frontier: &Frontier| found.iter().all(|(_, known)| known != frontier);
            if let Some(frontier) = frontier.filter(is_new) {
                found.push((source, frontier));
            }
        }
        found
    }

    /// The numbers of writers that the batches which begin in the range account for, in their order.
    pub(super) fn writers(&self) -> Vec<(Uuid, Range<u64>)> {
        let mut found: Vec<(Uuid, Range<u64>)> = Vec::new();
        for span in self.spans.iter().filter(|span| self.range.contains(&span.first)) {
            let Some(batch) = span.batch else { continue };
            let numbers = batch.position.saturating_sub(span.count)..batch.position;
            match found.last_mut() {
                Some((writer, last)) if *writer == batch.writer && last.end == numbers.start => {
                    last.end = numbers.end;
                }
                _ => found.push((batch.writer, numbers)),
            }
        }
        found
    }
}

/// The right edge of the tree over these leaves.
pub(super) fn frontier_over(leaves: &[Hash]) -> Frontier {
    let mut frontier = Frontier::new();
    for leaf in leaves {
        frontier.push(*leaf);
    }
    frontier
}

/// The right edge of a full tree of this level.
pub(super) fn full(level: u8, root: &Hash) -> Option<Frontier> {
    Frontier::from_bytes(1_u64.checked_shl(level.into())?, root).ok()
}
