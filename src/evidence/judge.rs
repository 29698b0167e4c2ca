//! Says what is wrong in a range, from the hash above it down: nodes by the root, leaf hashes by their node, entries by their
//! leaf hash.

use std::ops::Range;

use super::{
    chunk::{Chunk, TILE, frontier_over},
    finding::{Finding, FindingKind},
    hasher::RowState,
    layout::Span,
    search::choose,
};
use crate::ledger::{Frontier, Hash};

const ENTRIES_TOO: &str = "the leaf hashes of some of these entries were changed, and entries may have been";
const HASHES_ALONE: &str =
    "leaf hashes of these entries were changed; the entries are as they were committed";

/// Finds the faults in a range. `authority` is the right edge of the tree over its entries, if something above the
/// stored leaf hashes says that these are not right; else these are believed.
pub(super) fn judge(chunk: &Chunk, authority: Option<&Frontier>) -> Vec<Finding> {
    let tiles = chunk.tile_ranges().map(|range| {
        let leaves = chunk.fold(&chunk.stored, range.clone());
        Tile { right: leaves, leaves, range }
    });
    let mut judge = Judge { chunk, tiles: tiles.collect(), doubtful: Vec::new(), findings: Vec::new() };
    if let Some(authority) = authority {
        judge.descend(authority);
    }
    judge.nodes();
    judge.rows();
    let mut findings = chunk.findings.clone();
    findings.extend(judge.findings);
    findings
}

struct Tile {
    range: Range<u64>,
    /// The hash to which the stored leaf hashes fold.
    leaves: Option<Hash>,
    /// The hash to which they must fold, if that is known.
    right: Option<Hash>,
}

struct Judge<'a> {
    chunk: &'a Chunk,
    tiles: Vec<Tile>,
    /// The entries whose leaf hashes were changed.
    doubtful: Vec<Range<u64>>,
    findings: Vec<Finding>,
}

impl Judge<'_> {
    fn find(&mut self, kind: FindingKind, range: Range<u64>, text: impl Into<String>) {
        self.findings.push(Finding::new(kind, range, text));
    }

    /// Finds the tiles whose leaf hashes do not lead to the right edge of the tree.
    fn descend(&mut self, authority: &Frontier) {
        let (size, mut at) = (authority.size(), self.chunk.range.start);
        let levels = (0..64_u32).rev().filter(|level| size >> level & 1 == 1);
        for (level, peak) in levels.zip(authority.peaks()) {
            let range = at..at + (1 << level);
            at = range.end;
            let leaves = self.chunk.fold(&self.chunk.stored, range.clone());
            if leaves == Some(*peak) {
                continue;
            }
            if range.end - range.start <= TILE {
                self.alter(range, peak);
            } else {
                self.descend_to_tiles(range, peak);
            }
        }
    }

    /// The leaf hashes of these entries, which are a tile or a part of one, do not fold to this.
    fn alter(&mut self, range: Range<u64>, right: &Hash) {
        if let Some(tile) = self.tiles.iter_mut().find(|tile| tile.range == range) {
            tile.right = Some(*right);
        }
        if self.chunk.fold(&self.chunk.stored, range.clone()).is_none() {
            // Leaf hashes are gone. That was reported at the place where they should be.
            return;
        }
        let rows = self.chunk.fold(&self.chunk.computed, range.clone());
        let text = if rows == Some(*right) { HASHES_ALONE } else { ENTRIES_TOO };
        self.find(FindingKind::TileAltered, range.clone(), text);
        self.doubtful.push(range);
    }

    fn descend_to_tiles(&mut self, range: Range<u64>, peak: &Hash) {
        let first = usize::try_from((range.start - self.chunk.range.start) / TILE).unwrap_or_default();
        let count = usize::try_from((range.end - range.start) / TILE).unwrap_or_default();
        let (chunk, tiles) = (self.chunk, &self.tiles);
        let tiles = tiles.get(first..first + count).unwrap_or_default();
        let stored = chunk.tiles.get(first..first + count).unwrap_or_default();
        let candidates: Vec<Vec<Hash>> = tiles
            .iter()
            .zip(stored)
            .map(|(tile, node)| {
                let rows = chunk.fold(&chunk.computed, tile.range.clone());
                let mut found: Vec<Hash> = Vec::new();
                for hash in [tile.leaves, *node, rows].into_iter().flatten() {
                    if !found.contains(&hash) {
                        found.push(hash);
                    }
                }
                found
            })
            .collect();
        let pick = |choice: &[usize]| -> Option<Vec<Hash>> {
            candidates.iter().zip(choice).map(|(of, number)| of.get(*number).copied()).collect()
        };
        let numbers: Vec<usize> = candidates.iter().map(Vec::len).collect();
        let leads =
            |choice: &[usize]| pick(choice).is_some_and(|hashes| frontier_over(&hashes).root() == *peak);
        let Some(right) = choose(&numbers, usize::MAX, leads).and_then(|choice| pick(&choice)) else {
            self.find(
                FindingKind::Forked,
                range,
                "these entries do not lead to the hash over them that is right",
            );
            return;
        };
        let wrong: Vec<_> = tiles
            .iter()
            .zip(&right)
            .filter(|(tile, right)| tile.leaves != Some(**right))
            .map(|(tile, right)| (tile.range.clone(), *right))
            .collect();
        for (range, right) in wrong {
            self.alter(range, &right);
        }
    }

    /// Compares the stored nodes with what they must be.
    fn nodes(&mut self) {
        let wrong: Vec<(Range<u64>, bool)> = self
            .tiles
            .iter()
            .zip(&self.chunk.tiles)
            .filter(|(tile, node)| tile.right.is_some() && **node != tile.right)
            .map(|(tile, node)| (tile.range.clone(), node.is_some()))
            .collect();
        for (range, is_there) in wrong {
            let text = if is_there { "the node over these entries is not what they fold to" } else { GONE };
            self.find(FindingKind::NodeAltered, range, text);
        }
        let right: Option<Vec<Hash>> = self.tiles.iter().map(|tile| tile.right).collect();
        if let (Some(node), Some(right)) = (self.chunk.node, right)
            && node.0 != Some(frontier_over(&right).root())
        {
            let range = self.chunk.range.start..self.chunk.range.start + (1 << self.chunk.level);
            let text = if node.0.is_some() {
                "the node over these 65536 entries is not what they fold to"
            } else {
                GONE
            };
            self.find(FindingKind::NodeAltered, range, text);
        }
    }

    /// Compares the rows with their leaf hashes.
    fn rows(&mut self) {
        for (index, span) in self.chunk.spans.iter().enumerate() {
            let (all_differ, is_whole) = self.entries_of(span);
            let is_complete = span.range == (span.first..span.first + span.count);
            let times = self.chunk.times.get(index).copied().flatten();
            if all_differ {
                self.find(FindingKind::BatchAltered, span.first..span.first + span.count, ALL_DIFFER);
            } else if is_whole && is_complete && !span.is_bare && times != span.batch.map(|batch| batch.times)
            {
                let range = span.range.clone();
                self.find(FindingKind::BatchAltered, range, WRONG_TIMES);
            }
        }
    }

    /// Judges the entries of a span, unless all differ. Returns whether they do, and whether all are as they were.
    fn entries_of(&mut self, span: &Span) -> (bool, bool) {
        let chunk = self.chunk;
        let is_doubtful = |doubtful: &[Range<u64>], seq| doubtful.iter().any(|range| range.contains(&seq));
        let (mut same, mut absent, mut differ, mut moved) = (0_u64, 0_u64, 0_u64, false);
        for seq in span.range.clone() {
            match chunk.state(seq) {
                RowState::Same => same += 1,
                RowState::Absent => absent += 1,
                RowState::Differs if !is_doubtful(&self.doubtful, seq) => {
                    differ += 1;
                    moved |= self.belongs_at(seq).is_some();
                }
                _ => {}
            }
        }
        if same + absent == span.range.end - span.range.start {
            return (false, absent == 0);
        }
        let all_differ = same == 0 && differ > 1 && !moved;
        let mut runs = Runs::default();
        for seq in span.range.clone() {
            let doubtful = is_doubtful(&self.doubtful, seq);
            match chunk.state(seq) {
                RowState::Missing => runs.add(FindingKind::Missing, seq, ENTRY_GONE),
                RowState::Extra => {
                    let text = "a row stands where there was none when the tree over the entries was made";
                    runs.add(FindingKind::Added, seq, text);
                }
                RowState::Unchecked | RowState::Alone if span.is_bare => {
                    runs.add(FindingKind::BatchAltered, seq, "no batch has these entries");
                }
                RowState::Unreadable if !doubtful => {
                    runs.add(FindingKind::Modified, seq, "a column has what no entry can have there");
                }
                RowState::Differs if !doubtful => match self.belongs_at(seq) {
                    Some(belongs_at) => self.findings.push(moved_to(seq, belongs_at)),
                    None if all_differ => {}
                    None => runs.add(FindingKind::Modified, seq, "the entry is not as it was committed"),
                },
                _ => {}
            }
        }
        self.findings.extend(runs.0);
        (all_differ, false)
    }

    /// The number that the entry at this place belongs to, if the one that belongs there does not stand there.
    fn belongs_at(&self, seq: u64) -> Option<u64> {
        let at = self.chunk.moved.binary_search_by_key(&seq, |(seq, _)| *seq).ok()?;
        let (_, belongs_at) = self.chunk.moved.get(at)?;
        (self.chunk.state(*belongs_at) != RowState::Same).then_some(*belongs_at)
    }
}

pub(super) const ALL_DIFFER: &str =
    "no entry of this batch fits its leaf hash: its row or its seed was changed, or all of them were";

pub(super) const ENTRY_GONE: &str = "the entry is gone";

const GONE: &str = "the node over these entries is gone, or is no hash";

pub(super) const WRONG_TIMES: &str =
    "the row of this batch has other times than its entries, so that queries pass them over";

pub(super) fn moved_to(seq: u64, belongs_at: u64) -> Finding {
    let text = "an entry stands at another number than the one that it was committed with";
    Finding { belongs_at: Some(belongs_at), ..Finding::new(FindingKind::Moved, seq..seq + 1, text) }
}

/// Findings of single entries, joined where they are of one kind and follow each other.
#[derive(Default)]
struct Runs(Vec<Finding>);

impl Runs {
    fn add(&mut self, kind: FindingKind, seq: u64, text: &str) {
        let seq = seq.cast_signed();
        match self.0.iter_mut().rev().find(|last| last.kind == kind) {
            Some(last) if last.until == seq && last.text == text => last.until = seq + 1,
            _ => self.0.push(Finding::at(kind, seq, text)),
        }
    }
}

/// A batch that reaches beyond the range, and the times of its entries in the range.
#[derive(Clone, Debug)]
pub(super) struct Edge {
    pub(super) range: Range<u64>,
    /// The least and the greatest time: those that its row has, and those found.
    pub(super) told: Option<(i64, i64)>,
    pub(super) found: Option<(i64, i64)>,
    /// Whether all of its entries are as they were committed.
    pub(super) is_whole: bool,
}

impl Edge {
    /// Adds the entries of the same batch in the next range.
    pub(super) fn join(&mut self, next: &Self) {
        self.is_whole &= next.is_whole;
        self.found = match (self.found, next.found) {
            (Some((least, greatest)), Some((next_least, next_greatest))) => {
                Some((least.min(next_least), greatest.max(next_greatest)))
            }
            (one, other) => one.or(other),
        };
    }
}

/// The batches that reach into the range from before it or beyond it.
pub(super) fn edges(chunk: &Chunk) -> Vec<Edge> {
    let reaches = |span: &Span| span.range != (span.first..span.first + span.count) && !span.is_bare;
    let edge = |(span, found): (&Span, &Option<(i64, i64)>)| Edge {
        range: span.first..span.first + span.count,
        told: span.batch.map(|batch| batch.times),
        found: *found,
        is_whole: span.range.clone().all(|seq| chunk.state(seq) == RowState::Same),
    };
    chunk.spans.iter().zip(&chunk.times).filter(|(span, _)| reaches(span)).map(edge).collect()
}
