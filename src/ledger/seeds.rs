//! The tree of seeds of a batch: a seed for each entry out of one, and what is left when some are forgotten.

use std::{fmt, ops::Range};

use super::{
    hash::{SALTS, SEEDS, sha256_fixed},
    ledger_error::LedgerError,
};

/// The seed of an entry or of a batch: from it come the salts of commitments.
pub type Seed = [u8; 16];

/// The random bytes that hide the value of one field.
pub type Salt = [u8; 16];

/// The steps from the root seed of a batch to the seed of an entry.
const DEPTH: u8 = 24;

/// The bytes of a node: its depth, its index there, its seed.
const NODE_BYTES: usize = 1 + 4 + 16;

/// The seeds of a batch's entries.
///
/// At first there is one root seed, out of which every entry's seed is computed. Forgetting the seed of an entry replaces the
/// root by the nodes that lead to all others: a person who has these cannot compute the forgotten one. Then the salts
/// of that entry are lost, and nobody can test its commitments against a guess any more.
#[derive(Clone, PartialEq, Eq)]
pub struct Seeds {
    /// In the order of the entries. No node is above another.
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Node {
    depth: u8,
    /// The number of nodes of the same depth left of it.
    index: u32,
    seed: Seed,
}

impl Seeds {
    /// The most entries that a batch can have: 2²⁴.
    pub const MOST_ENTRIES: u32 = 1 << DEPTH;

    /// The seeds that come from this root seed, which must be random and fresh for each batch and each attempt to commit it.
    #[must_use]
    pub fn of_root(root: Seed) -> Self {
        Self { nodes: vec![Node { depth: 0, index: 0, seed: root }] }
    }

    /// Reads the bytes that are stored for a batch: the 16 bytes of the root, or 21 bytes for each node that is left.
    ///
    /// # Errors
    ///
    /// If the bytes have another length, or if the nodes are out of order, above each other, or at an impossible place.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LedgerError> {
        let malformed = |problem: String| LedgerError::malformed("seeds", problem);
        if let Ok(root) = Seed::try_from(bytes) {
            return Ok(Self::of_root(root));
        }
        let (parts, rest) = bytes.as_chunks::<NODE_BYTES>();
        if !rest.is_empty() {
            let problem =
                format!("they have {} bytes, which is neither 16 nor a multiple of 21", bytes.len());
            return Err(malformed(problem));
        }
        let (mut nodes, mut after) = (Vec::with_capacity(parts.len()), 0);
        for (number, part) in parts.iter().enumerate() {
            let [depth, a, b, c, d, seed @ ..] = *part;
            let node = Node { depth, index: u32::from_be_bytes([a, b, c, d]), seed };
            let below = node
                .entries()
                .ok_or_else(|| malformed(format!("node {number} is at no place of the tree")))?;
            if below.start < after {
                return Err(malformed(format!("node {number} is out of order, or below another")));
            }
            after = below.end;
            nodes.push(node);
        }
        Ok(Self { nodes })
    }

    /// The bytes that [`from_bytes`](Self::from_bytes) reads.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match &*self.nodes {
            [Node { depth: 0, seed, .. }] => seed.to_vec(),
            nodes => {
                let mut bytes = Vec::with_capacity(nodes.len() * NODE_BYTES);
                for node in nodes {
                    bytes.push(node.depth);
                    bytes.extend_from_slice(&node.index.to_be_bytes());
                    bytes.extend_from_slice(&node.seed);
                }
                bytes
            }
        }
    }

    /// The seed of an entry, by its place in the batch from 0, or `None` if it was forgotten. Costs up to 24 hashes.
    #[must_use]
    pub fn get(&self, entry: u32) -> Option<Seed> {
        let mut node = *self.nodes.iter().find(|node| node.is_above(entry))?;
        while node.depth < DEPTH {
            node = node.child(entry);
        }
        Some(node.seed)
    }

    /// The seeds that are left, in the order of the entries, each with the place of its entry. Costs one hash a seed.
    ///
    /// The tree of seeds has no end but [`MOST_ENTRIES`](Self::MOST_ENTRIES): the caller stops at the end of the batch.
    #[must_use]
    pub fn iter(&self) -> SeedsInOrder {
        SeedsInOrder { pending: self.nodes.iter().rev().copied().collect() }
    }

    /// Forgets the seed of an entry of a batch with `entries` entries. Does nothing if it is forgotten already.
    pub fn forget(&mut self, entry: u32, entries: u32) {
        let Some(at) = self.nodes.iter().position(|node| node.is_above(entry)) else { return };
        let (mut node, mut left, mut right) = (self.nodes.remove(at), Vec::new(), Vec::new());
        while node.depth < DEPTH {
            let children = node.children();
            let goes_right = children.1.is_above(entry);
            let other = if goes_right { children.0 } else { children.1 };
            // A node that is below no entry need not be kept.
            if other.entries().is_some_and(|below| below.start < entries) {
                if goes_right { left.push(other) } else { right.push(other) }
            }
            node = if goes_right { children.1 } else { children.0 };
        }
        right.reverse();
        self.nodes.splice(at..at, left.into_iter().chain(right));
    }
}

impl fmt::Debug for Seeds {
    /// Shows no seed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seeds").field("nodes", &self.nodes.len()).finish_non_exhaustive()
    }
}

impl IntoIterator for &Seeds {
    type Item = (u32, Seed);
    type IntoIter = SeedsInOrder;

    fn into_iter(self) -> SeedsInOrder {
        self.iter()
    }
}

impl Node {
    /// The places of the entries below it, or `None` if there is no such node in a tree of seeds.
    fn entries(&self) -> Option<Range<u32>> {
        let height = u32::from(DEPTH.checked_sub(self.depth)?);
        let first = u64::from(self.index) << height;
        let after = first + (1 << height);
        (after <= u64::from(Seeds::MOST_ENTRIES)).then(|| {
            let place = |n: u64| u32::try_from(n).unwrap_or(Seeds::MOST_ENTRIES);
            place(first)..place(after)
        })
    }

    fn is_above(&self, entry: u32) -> bool {
        self.entries().is_some_and(|below| below.contains(&entry))
    }

    fn children(&self) -> (Self, Self) {
        let (left, right) = halves(&sha256_fixed(&message::<17>(SEEDS, &self.seed)));
        let child = |seed, right| Self { depth: self.depth + 1, index: self.index << 1 | right, seed };
        (child(left, 0), child(right, 1))
    }

    /// The child above an entry.
    fn child(&self, entry: u32) -> Self {
        let (left, right) = self.children();
        if right.is_above(entry) { right } else { left }
    }
}

/// The seeds of a batch one after the other: what [`Seeds::iter`] gives.
#[derive(Clone)]
pub struct SeedsInOrder {
    /// The nodes whose entries are still to come, the next one last.
    pending: Vec<Node>,
}

impl fmt::Debug for SeedsInOrder {
    /// Shows no seed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeedsInOrder").finish_non_exhaustive()
    }
}

impl Iterator for SeedsInOrder {
    type Item = (u32, Seed);

    fn next(&mut self) -> Option<(u32, Seed)> {
        let mut node = self.pending.pop()?;
        while node.depth < DEPTH {
            let (left, right) = node.children();
            self.pending.push(right);
            node = left;
        }
        Some((node.index, node.seed))
    }
}

/// The salts of an entry's fields, one after the other.
pub(super) struct Salts {
    message: [u8; 19],
    next_pair: u16,
    second: Option<Salt>,
}

impl Salts {
    pub(super) fn of(seed: &Seed) -> Self {
        Self { message: message(SALTS, seed), next_pair: 0, second: None }
    }

    /// The salt of the next field.
    #[inline]
    pub(super) fn next(&mut self) -> Salt {
        if let Some(salt) = self.second.take() {
            return salt;
        }
        if let Some(number) = self.message.last_chunk_mut() {
            *number = self.next_pair.to_be_bytes();
        }
        let (first, second) = halves(&sha256_fixed(&self.message));
        self.next_pair = self.next_pair.wrapping_add(1);
        self.second = Some(second);
        first
    }
}

/// A message of the kind, then the seed, then zeros.
fn message<const N: usize>(kind: u8, seed: &Seed) -> [u8; N] {
    let mut message = [0; N];
    for (to, from) in message.iter_mut().zip(std::iter::once(&kind).chain(seed)) {
        *to = *from;
    }
    message
}

fn halves(hash: &[u8; 32]) -> (Seed, Seed) {
    let (mut first, mut second) = ([0; 16], [0; 16]);
    let (a, b) = hash.split_at(16);
    first.copy_from_slice(a);
    second.copy_from_slice(b);
    (first, second)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_forgotten_seed_is_gone_and_all_others_of_the_batch_stay(
            root: Seed, entries in 1..400_u32, forgotten in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let whole: Vec<(u32, Seed)> = Seeds::of_root(root).iter().take(entries as usize).collect();
            let mut seeds = Seeds::of_root(root);
            let mut gone = Vec::new();
            for entry in forgotten {
                let entry = u32::try_from(entry.index(entries as usize)).unwrap();
                seeds.forget(entry, entries);
                gone.push(entry);
            }
            let left: Vec<(u32, Seed)> = whole.iter().copied().filter(|(entry, _)| !gone.contains(entry)).collect();
            let in_order: Vec<_> = seeds.iter().take_while(|(entry, _)| *entry < entries).collect();
            prop_assert_eq!(&in_order, &left);
            for (entry, seed) in whole {
                prop_assert_eq!(seeds.get(entry), Some(seed).filter(|_| !gone.contains(&entry)));
            }
            prop_assert_eq!(Seeds::from_bytes(&seeds.to_bytes()), Ok(seeds));
        }

        #[test]
        fn bytes_that_are_read_are_written_again(bytes: Vec<u8>) {
            if let Ok(seeds) = Seeds::from_bytes(&bytes) {
                prop_assert_eq!(seeds.to_bytes(), bytes);
            }
        }

        #[test]
        fn nodes_at_any_place_are_read_or_refused(
            nodes in prop::collection::vec((0..30_u8, 0..=u32::MAX, 0..33_u32, any::<Seed>()), 0..6), entry: u32,
        ) {
            let node = |(depth, index, shift, seed): (u8, u32, u32, Seed)| {
                [&[depth][..], &index.checked_shr(shift).unwrap_or(0).to_be_bytes(), &seed].concat()
            };
            let bytes: Vec<u8> = nodes.into_iter().flat_map(node).collect();
            if let Ok(mut seeds) = Seeds::from_bytes(&bytes) {
                let before = seeds.get(entry);
                prop_assert!(seeds.iter().take(3).all(|(entry, seed)| seeds.get(entry) == Some(seed)));
                prop_assert_eq!(before, seeds.get(entry));
                seeds.forget(entry, entry);
                seeds.forget(0, u32::MAX);
                prop_assert_eq!((seeds.get(entry), seeds.get(0)), (None, None));
            }
        }
    }

    #[test]
    fn nodes_out_of_order_or_at_no_place_are_refused() {
        let node = |depth: u8, index: u32| [&[depth][..], &index.to_be_bytes(), &[7; 16]].concat();
        assert!(Seeds::from_bytes(&[]).unwrap().iter().next().is_none());
        assert!(Seeds::from_bytes(&[node(1, 0), node(2, 2)].concat()).is_ok());
        for (wrong, problem) in [
            ([node(2, 2), node(1, 0)].concat(), "node 1 is out of order, or below another"),
            ([node(1, 0), node(2, 1)].concat(), "node 1 is out of order, or below another"),
            ([node(1, 0), node(1, 0)].concat(), "node 1 is out of order, or below another"),
            (node(25, 0), "node 0 is at no place of the tree"),
            (node(2, 4), "node 0 is at no place of the tree"),
            (node(24, u32::MAX), "node 0 is at no place of the tree"),
            (vec![0; 17], "they have 17 bytes, which is neither 16 nor a multiple of 21"),
        ] {
            assert_eq!(
                Seeds::from_bytes(&wrong).unwrap_err().to_string(),
                format!("malformed seeds: {problem}")
            );
        }
    }
}
