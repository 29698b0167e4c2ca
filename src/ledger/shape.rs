//! The shape of a proof: which subtrees' roots it is made of.

use std::ops::Range;

use super::{
    frontier::fold,
    hash::Hash,
    ledger_error::LedgerError,
    subtree::{MOST_LEAVES, Subtree, subtrees},
};

/// The subtrees that a proof is made of, known before any hash is read.
///
/// A program that has the hashes reads those of [`subtrees`](Self::subtrees), wherever they are, and gives them to
/// [`hashes`](Self::hashes). A proof in a tree of 10 000 000 leaves needs some thirty.
///
/// ```
/// use tracing_audit::ledger::{Frontier, ProofShape, Subtree, leaf_hash, verify_inclusion};
///
/// let leaves: Vec<_> = (0..7_u8).map(|n| leaf_hash(&[n])).collect();
/// let root_of = |subtree: Subtree| {
///     let mut part = Frontier::new();
///     for n in subtree.index << subtree.level..(subtree.index + 1) << subtree.level {
///         part.push(*leaves.get(usize::try_from(n).ok()?)?);
///     }
///     Some(part.root())
/// };
/// let path = ProofShape::inclusion(2, 7)?.hashes(|subtree| root_of(subtree).ok_or("a leaf is missing"))?;
///
/// let mut tree = Frontier::new();
/// leaves.iter().for_each(|leaf| tree.push(*leaf));
/// verify_inclusion(&leaves[2], 2, 7, &path, &tree.root())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofShape {
    /// The leaves below each hash of the proof, in the order of the proof.
    ranges: Vec<Range<u64>>,
}

impl ProofShape {
    /// The shape of the proof that leaf `index` is in the tree of `size` leaves: RFC 6962, section 2.1.1.
    ///
    /// # Errors
    ///
    /// If the tree has no such leaf, or is larger than [`MOST_LEAVES`].
    pub fn inclusion(index: u64, size: u64) -> Result<Self, LedgerError> {
        if size > MOST_LEAVES {
            return Err(LedgerError::TooLarge { size });
        }
        if index >= size {
            return Err(LedgerError::Index { index, size });
        }
        let (mut ranges, mut part) = (Vec::new(), 0..size);
        while part.end - part.start > 1 {
            let middle = middle(&part);
            let beside;
            (part, beside) = if index < middle {
                (part.start..middle, middle..part.end)
            } else {
                (middle..part.end, part.start..middle)
            };
            ranges.push(beside);
        }
        ranges.reverse();
        Ok(Self { ranges })
    }

    /// The shape of the proof that the tree of `to` leaves begins with all of the tree of `from` leaves: RFC 6962, section
    /// 2.1.2. Every tree begins with the empty one, which is proven by no hashes.
    ///
    /// # Errors
    ///
    /// If `from` is larger than `to`, or `to` is larger than [`MOST_LEAVES`].
    pub fn consistency(from: u64, to: u64) -> Result<Self, LedgerError> {
        if to > MOST_LEAVES {
            return Err(LedgerError::TooLarge { size: to });
        }
        if from > to {
            return Err(LedgerError::Sizes { from, to });
        }
        let (mut ranges, mut part) = (Vec::new(), 0..to);
        while from > 0 && part.end != from {
            let middle = middle(&part);
            if from <= middle {
                ranges.push(middle..part.end);
                part.end = middle;
            } else {
                ranges.push(part.start..middle);
                part.start = middle;
            }
        }
        // A part that begins the tree is all of the earlier one, whose root is known.
        if part.start > 0 {
            ranges.push(part);
        }
        ranges.reverse();
        Ok(Self { ranges })
    }

    /// The number of hashes of the proof.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether the proof has no hashes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The subtrees whose roots the proof is made of, each once, in the order in which [`hashes`](Self::hashes) asks for
    /// them.
    pub fn subtrees(&self) -> impl Iterator<Item = Subtree> {
        self.ranges.iter().cloned().flat_map(subtrees)
    }

    /// Makes the proof out of the roots of the subtrees.
    ///
    /// # Errors
    ///
    /// The first error of `root`.
    pub fn hashes<E>(&self, mut root: impl FnMut(Subtree) -> Result<Hash, E>) -> Result<Vec<Hash>, E> {
        let mut hashes = Vec::with_capacity(self.ranges.len());
        let mut peaks = Vec::new();
        for range in &self.ranges {
            peaks.clear();
            for subtree in subtrees(range.clone()) {
                peaks.push(root(subtree)?);
            }
            hashes.extend(fold(&peaks));
        }
        Ok(hashes)
    }
}

/// The place at which a part of two leaves or more is split: after the largest power of two that is less than its
/// length.
fn middle(part: &Range<u64>) -> u64 {
    let below = (part.end - part.start).saturating_sub(1);
    part.start + (1 << below.checked_ilog2().unwrap_or(0))
}
