//! The right edge of a growing tree: takes leaves, gives the root and the nodes to be stored.

use std::fmt;

use super::{
    hash::{EMPTY_ROOT, Hash, node_hash},
    ledger_error::LedgerError,
    subtree::{MOST_LEAVES, Node, Subtree, subtrees},
};

/// The roots of the full subtrees that make up a tree, the largest first: all that is needed to append to the tree.
///
/// A tree of RFC 6962 with n leaves has as many of them as n has one-bits. So the frontier of 10 000 000 leaves is eight
/// hashes, and to append a leaf costs one hash of a node on average.
///
/// ```
/// use tracing_audit::ledger::{Frontier, leaf_hash};
///
/// let mut frontier = Frontier::new();
/// for data in ["first", "second", "third"] {
///     frontier.push(leaf_hash(data.as_bytes()));
/// }
/// assert_eq!(frontier.size(), 3);
/// let again = Frontier::from_bytes(3, &frontier.to_bytes())?;
/// assert_eq!(again.root(), frontier.root());
/// # Ok::<(), tracing_audit::ledger::LedgerError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The frontier of the empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a frontier: 32 bytes for each one-bit of the size, and nothing else.
    ///
    /// # Errors
    ///
    /// If there are more or fewer bytes, or if the size is larger than [`MOST_LEAVES`].
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Result<Self, LedgerError> {
        if size > MOST_LEAVES {
            return Err(LedgerError::TooLarge { size });
        }
        let (peaks, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() || peaks.len() != size.count_ones() as usize {
            let problem = format!(
                "the frontier of {size} leaves has {} bytes, and this one has {}",
                size.count_ones() * 32,
                bytes.len()
            );
            return Err(LedgerError::malformed("frontier", problem));
        }
        Ok(Self { size, peaks: peaks.to_vec() })
    }

    /// The bytes that [`from_bytes`](Self::from_bytes) reads.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.peaks.as_flattened().to_vec()
    }

    /// The number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The full subtrees whose roots the frontier of a tree of this size consists of, the largest first.
    pub fn subtrees(size: u64) -> impl Iterator<Item = Subtree> {
        subtrees(0..size)
    }

    /// The roots of the full subtrees, the largest first.
    #[must_use]
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        fold(&self.peaks).unwrap_or(EMPTY_ROOT)
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.append_one(leaf, |_| ());
    }

    /// Appends leaves, and adds to `full` the nodes to be stored that become full by them, in the order in which they do.
    ///
    /// Stored are the nodes of the levels 8, 16, 24 and so on, that is one for each 256 leaves and one for each 256 of the
    /// level below. From them and the hashes of leaves every proof can be made by reading a few short ranges.
    pub fn append(&mut self, leaves: &[Hash], full: &mut Vec<Node>) {
        for leaf in leaves {
            self.append_one(*leaf, |node| full.push(node));
        }
    }

    /// Appends all leaves of another tree, of which only the frontier is known.
    ///
    /// # Errors
    ///
    /// If the size of this tree is no multiple of the leaves of the other one's largest full subtree: then its subtrees are
    /// none of the longer tree.
    pub fn extend(&mut self, part: &Self) -> Result<(), LedgerError> {
        let largest = part.size.checked_ilog2().map_or(1, |level| 1 << level);
        if !self.size.is_multiple_of(largest) {
            let problem =
                format!("a tree of {} leaves cannot be appended to one of {}", part.size, self.size);
            return Err(LedgerError::malformed("frontier", problem));
        }
        let mut levels = (0..64).rev().filter(|level| part.size >> level & 1 == 1);
        for peak in &part.peaks {
            let level: u32 = levels.next().unwrap_or_default();
            let (mut hash, mut index) = (*peak, self.size >> level);
            while index & 1 == 1 {
                let Some(left) = self.peaks.pop() else { break };
                hash = node_hash(&left, &hash);
                index >>= 1;
            }
            self.peaks.push(hash);
            self.size += 1 << level;
        }
        Ok(())
    }

    #[inline]
    fn append_one(&mut self, leaf: Hash, mut full: impl FnMut(Node)) {
        let (mut hash, mut level, mut index) = (leaf, 0, self.size);
        // Each one-bit at the end of the size is a full subtree that the new one joins.
        while index & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            (level, index) = (level + 1, index >> 1);
            if level % Subtree::STORED_EVERY == 0 {
                full(Node { subtree: Subtree { level, index }, hash });
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }
}

/// The root above full subtrees, the largest first, or `None` if there are none.
pub(super) fn fold(peaks: &[Hash]) -> Option<Hash> {
    let (last, before) = peaks.split_last()?;
    Some(before.iter().rev().fold(*last, |root, left| node_hash(left, &root)))
}

impl fmt::Debug for Frontier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frontier").field("size", &self.size).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::leaf_hash;

    #[test]
    fn a_frontier_of_another_length_is_refused_and_says_which_it_must_have() {
        for (size, bytes) in
            [(0, 1), (0, 32), (1, 0), (1, 31), (1, 33), (3, 32), (3, 96), (u64::MAX >> 1, 62 * 32)]
        {
            let error = Frontier::from_bytes(size, &vec![0; bytes]).unwrap_err().to_string();
            let expected = format!(
                "malformed frontier: the frontier of {size} leaves has {} bytes, and this one has {bytes}",
                size.count_ones() * 32
            );
            assert_eq!(error, expected);
        }
        let error = Frontier::from_bytes(u64::MAX, &[0; 64 * 32]).unwrap_err();
        assert_eq!(error, LedgerError::TooLarge { size: u64::MAX });
    }

    #[test]
    fn the_largest_tree_can_still_be_appended_to() {
        let mut frontier = Frontier::from_bytes(MOST_LEAVES, &[0; 63 * 32]).unwrap();
        let mut full = Vec::new();
        frontier.append(&[[0; 32]], &mut full);
        assert_eq!(frontier.size(), MOST_LEAVES + 1);
        assert_eq!(
            full.iter().map(|node| node.subtree.level).collect::<Vec<_>>(),
            [8, 16, 24, 32, 40, 48, 56]
        );
    }

    #[test]
    fn a_part_is_appended_where_its_subtrees_are_those_of_the_longer_tree() {
        let tree = |range: std::ops::Range<u32>| {
            let mut frontier = Frontier::new();
            range.for_each(|n| frontier.push(leaf_hash(&n.to_be_bytes())));
            frontier
        };
        for (size, more) in
            [(0, 0), (0, 5), (1, 1), (8, 8), (8, 13), (256, 256), (768, 300), (24, 0), (12, 5)]
        {
            let mut whole = tree(0..size);
            whole.extend(&tree(size..size + more)).unwrap();
            assert_eq!(whole, tree(0..size + more), "{size} {more}");
        }
        for (size, more) in [(1, 2), (3, 2), (12, 8), (255, 256)] {
            let mut whole = tree(0..size);
            assert!(whole.extend(&tree(0..more)).is_err());
            assert_eq!(whole, tree(0..size));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// A writer that appends, in batches of any sizes, from any frontier read again, gets the same tree and the
        /// same nodes.
        #[test]
        fn batches_and_single_leaves_give_the_same_tree_and_nodes(
            before in 0..600_u32, batches in prop::collection::vec(0..400_u32, 0..6),
        ) {
            let leaf = |n: u32| leaf_hash(&n.to_be_bytes());
            let (mut one, mut many, mut each, mut full) = (Frontier::new(), Frontier::new(), Vec::new(), Vec::new());
            (0..before).for_each(|n| one.append(&[leaf(n)], &mut each));
            many.append(&(0..before).map(leaf).collect::<Vec<_>>(), &mut full);
            let mut next = before;
            for batch in batches {
                many = Frontier::from_bytes(u64::from(next), &many.to_bytes()).unwrap();
                many.append(&(next..next + batch).map(leaf).collect::<Vec<_>>(), &mut full);
                (next..next + batch).for_each(|n| one.append(&[leaf(n)], &mut each));
                next += batch;
            }
            prop_assert_eq!((one.size(), one.root()), (u64::from(next), many.root()));
            prop_assert_eq!(one, many);
            prop_assert_eq!(each.len(), next as usize / 256);
            prop_assert_eq!(each, full);
        }
    }
}
