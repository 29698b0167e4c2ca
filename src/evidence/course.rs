//! The ranges of a ledger in their order: leads them to the roots of anchors.

use std::{collections::BTreeMap, ops::Range};

use super::{
    anchor::Anchor,
    chunk::{Chunk, OVER_TILE, Source, frontier_over},
    finding::Finding,
    search::choose,
};
use crate::ledger::{Frontier, Hash};

/// The most hashes of ranges that are folded while a combination is looked for.
const MOST_FOLDED: usize = 1 << 22;

/// The right edge of a tree, in each way in which it can be computed.
type Candidates = Vec<(Source, Frontier)>;

/// A range that was read, without its entries.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) range: Range<u64>,
    /// The end of the tree in the range.
    pub(super) tree_until: u64,
    /// The findings, as long as the stored leaf hashes are believed.
    pub(super) findings: Vec<Finding>,
    /// The frontiers at its end, and at the sizes of anchors in it.
    end: Candidates,
    inner: Vec<(u64, Candidates)>,
    /// The right edge that something above says is right, if it is not that of the stored leaf hashes.
    pub(super) authority: Option<Frontier>,
}

impl Part {
    /// `sizes` are those of anchors. `head` is the right edge that the head has, with its size.
    pub(super) fn of(
        chunk: &Chunk,
        findings: Vec<Finding>,
        sizes: &[u64],
        head: Option<&(u64, Frontier)>,
    ) -> Self {
        let candidates = |size: u64| {
            let head = head.filter(|(at, _)| *at == size).map(|(_, frontier)| frontier);
            chunk.candidates(size, head)
        };
        let is_inner = |size: &&u64| **size > chunk.range.start && **size < chunk.tree_until;
        let mut inner: Vec<_> =
            sizes.iter().filter(is_inner).map(|size| (*size, candidates(*size))).collect();
        inner.dedup_by_key(|(size, _)| *size);
        Self {
            range: chunk.range.clone(),
            tree_until: chunk.tree_until,
            findings,
            end: if chunk.tree_until > chunk.range.start { candidates(chunk.tree_until) } else { Vec::new() },
            inner,
            authority: None,
        }
    }

    /// The right edge by the stored leaf hashes, if none is missing. The right edge of no entries, if none of the range
    /// is in the tree.
    pub(super) fn stored(&self) -> Option<Frontier> {
        if self.tree_until == self.range.start {
            return Some(Frontier::new());
        }
        let found = self.end.iter().find(|(source, _)| *source == Source::Leaves);
        found.map(|(_, frontier)| frontier.clone())
    }

    /// The candidates at this size, which is in the range or at its end. Before the range nothing is left to choose.
    fn at(&self, size: u64) -> &[(Source, Frontier)] {
        if size >= self.tree_until {
            return &self.end;
        }
        self.inner.iter().find(|(at, _)| *at == size).map_or(&[], |(_, candidates)| candidates)
    }
}

/// The ranges of a tree.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// The right edge of the tree before the first range.
    pub(super) base: Frontier,
    /// The level of the node over a whole range.
    level: u8,
    pub(super) parts: Vec<Part>,
    /// The chosen candidate of each range, at its end.
    chosen: Vec<usize>,
}

/// Whether a tree leads to a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Led {
    Yes,
    No,
    /// There is a place at which no hash is left.
    Unknown,
}

impl Course {
    pub(super) fn from(base: Frontier, level: u8) -> Self {
        Self { base, level, ..Self::default() }
    }

    pub(super) fn add(&mut self, part: Part) {
        self.parts.push(part);
        self.chosen.push(0);
    }

    /// The right edge of the tree of this size, by what was chosen so far.
    pub(super) fn frontier(&self, size: u64) -> Option<Frontier> {
        self.frontier_by(size, |index, part| part.get(*self.chosen.get(index)?).or(part.first()))
    }

    fn frontier_by<'a>(
        &'a self,
        size: u64,
        mut pick: impl FnMut(usize, &'a [(Source, Frontier)]) -> Option<&'a (Source, Frontier)>,
    ) -> Option<Frontier> {
        let mut whole = self.base.clone();
        for (index, part) in self.parts.iter().enumerate().take_while(|(_, part)| part.range.start < size) {
            let (_, frontier) = pick(index, part.at(size))?;
            whole.extend(frontier).ok()?;
        }
        (whole.size() == size).then_some(whole)
    }

    /// Looks for candidates that lead to this root, among those of the ranges that reach beyond `settled`. The ranges
    /// before it are settled by another anchor. If the candidates are not the stored leaf hashes, they become the
    /// authority of their ranges.
    pub(super) fn lead(&mut self, size: u64, root: &Hash, settled: u64) -> Led {
        if self.frontier(size).is_some_and(|frontier| frontier.root() == *root) {
            return Led::Yes;
        }
        let until = self.parts.partition_point(|part| part.range.start < size);
        let from = self.parts.partition_point(|part| part.range.end <= settled).min(until);
        let open = self.parts.get(from..until).unwrap_or_default();
        let numbers: Vec<usize> = open.iter().map(|part| part.at(size).len()).collect();
        if numbers.contains(&0) || self.base.size() > size {
            return Led::Unknown;
        }
        let leads = |choice: &[usize]| {
            let frontier = self.frontier_by(size, |index, part| match index.checked_sub(from) {
                Some(open) => part.get(*choice.get(open)?),
                None => part.get(*self.chosen.get(index)?).or(part.first()),
            });
            frontier.is_some_and(|frontier| frontier.root() == *root)
        };
        let most = MOST_FOLDED / until.max(1);
        let Some(choice) = choose(&numbers, most, leads) else { return Led::No };
        self.settle(size, from, choice);
        Led::Yes
    }

    fn settle(&mut self, size: u64, from: usize, choice: Vec<usize>) {
        for (index, number) in (from..).zip(choice) {
            let Some(part) = self.parts.get_mut(index) else { continue };
            let Some((source, frontier)) = part.at(size).get(number).cloned() else { continue };
            let is_end = size >= part.tree_until;
            part.authority = (source != Source::Leaves).then_some(frontier);
            if let Some(chosen) = self.chosen.get_mut(index).filter(|_| is_end) {
                *chosen = number;
            }
        }
    }

    /// Whether the ranges lead to the root of an anchor.
    pub(super) fn lead_to(&mut self, anchor: &Anchor, settled: u64) -> Led {
        self.lead(anchor.size(), anchor.root(), settled)
    }

    /// The nodes over several ranges that must be stored, by their level.
    pub(super) fn upper_nodes(&self) -> Vec<(u8, BTreeMap<u64, Hash>)> {
        let root = |(index, part): (usize, &Part)| {
            let (_, frontier) = part.end.get(*self.chosen.get(index)?).or(part.end.first())?;
            (frontier.size() == 1 << self.level).then(|| (part.range.start >> self.level, frontier.root()))
        };
        let mut below: BTreeMap<u64, Hash> = self.parts.iter().enumerate().filter_map(root).collect();
        let (mut found, mut reached) = (Vec::new(), self.level);
        let first = (self.level / OVER_TILE + 1) * OVER_TILE;
        for level in (first..64).step_by(OVER_TILE.into()) {
            let fan = 1_u64 << (level - reached);
            let groups: Vec<u64> =
                below.keys().filter(|index| *index % fan == 0).map(|index| index / fan).collect();
            let over = |group: u64| {
                let hashes: Vec<Hash> =
                    below.range(group * fan..(group + 1) * fan).map(|(_, hash)| *hash).collect();
                (hashes.len() as u64 == fan).then(|| (group, frontier_over(&hashes).root()))
            };
            let above: BTreeMap<u64, Hash> = groups.into_iter().filter_map(over).collect();
            if above.is_empty() {
                break;
            }
            found.push((level, above.clone()));
            (below, reached) = (above, level);
        }
        found
    }
}
