//! Full subtrees of a tree: their place, their leaves, and where their hashes are stored.

use std::ops::Range;

use super::hash::Hash;

/// The most leaves of a tree: the integers of the databases hold no greater number.
pub const MOST_LEAVES: u64 = i64::MAX as u64;

/// A full subtree: the leaves from `index << level` up to but not including `(index + 1) << level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subtree {
    /// The binary logarithm of the number of its leaves: 0 is a leaf, 8 are 256 leaves.
    pub level: u8,
    /// The number of subtrees of the same level that stand left of it.
    pub index: u64,
}

/// A full subtree and its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// The place of the subtree.
    pub subtree: Subtree,
    /// The root of the subtree.
    pub hash: Hash,
}

impl Subtree {
    /// Hashes of every eighth level are stored: those of leaves, of 256 leaves, of 65 536 leaves, and so on.
    pub const STORED_EVERY: u8 = 8;

    /// The stored level from which this subtree's root is computed, and the indexes of the hashes of that level: from 1
    /// to 128 of them, all of one tile of 256.
    ///
    /// [`Frontier::push`](super::Frontier::push) of each of them in turn gives the root of the subtree.
    #[must_use]
    pub fn stored(self) -> (u8, Range<u64>) {
        let above = self.level % Self::STORED_EVERY;
        let (first, after) = (self.index << above, self.index.saturating_add(1) << above);
        (self.level - above, first..after)
    }
}

/// The full subtrees that make up the leaves of `range`, the largest first.
///
/// The range must begin at a multiple of a power of two that is not less than its length, as every range does that a
/// tree of RFC 6962 is split into.
pub(super) fn subtrees(range: Range<u64>) -> impl Iterator<Item = Subtree> {
    let (mut at, length) = (range.start, range.end.saturating_sub(range.start));
    (0..=63_u8).rev().filter(move |level| length >> level & 1 == 1).map(move |level| {
        let subtree = Subtree { level, index: at >> level };
        at += 1 << level;
        subtree
    })
}
