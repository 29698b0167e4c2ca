//! Verification of inclusion and consistency proofs: RFC 6962, section 2.1.

use super::{
    hash::{EMPTY_ROOT, Hash, node_hash},
    ledger_error::LedgerError,
    subtree::MOST_LEAVES,
};

/// Verifies that the tree of `size` leaves with this root has this leaf at this index, from 0.
///
/// The size and the root belong together and must come from a source that is trusted, such as a checkpoint.
///
/// # Errors
///
/// [`LedgerError::Root`] if the proof leads to another root. Another error if the index, the size or the length of the proof is
/// impossible.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), LedgerError> {
    if size > MOST_LEAVES {
        return Err(LedgerError::TooLarge { size });
    }
    if index >= size {
        return Err(LedgerError::Index { index, size });
    }
    let path = Path::new(index, size - 1, 0);
    let (inner, border) = path.split(proof)?;
    same(&up(path.up(*leaf, inner), border), root)
}

/// Verifies that the tree of `to` leaves with the root `to_root` begins with all leaves of the tree of `from` leaves with
/// the root `from_root`.
///
/// Every tree begins with the empty one, whose root must be [`EMPTY_ROOT`]. A tree begins with itself. Both have proofs without
/// hashes.
///
/// # Errors
///
/// [`LedgerError::Root`] if the proof leads to other roots. Another error if the sizes or the length of the proof are impossible.
pub fn verify_consistency(
    from: u64,
    to: u64,
    proof: &[Hash],
    from_root: &Hash,
    to_root: &Hash,
) -> Result<(), LedgerError> {
    if to > MOST_LEAVES {
        return Err(LedgerError::TooLarge { size: to });
    }
    if from > to {
        return Err(LedgerError::Sizes { from, to });
    }
    if from == to || from == 0 {
        if !proof.is_empty() {
            return Err(LedgerError::Length { expected: 0, found: proof.len() });
        }
        same(from_root, if from == 0 { &EMPTY_ROOT } else { to_root })?;
        return if to == 0 { same(to_root, &EMPTY_ROOT) } else { Ok(()) };
    }
    // The proof goes up from the last full subtree of the earlier tree. If that subtree is the earlier tree, its root is
    // known; else it is the first hash of the proof.
    let (last, level) = (from - 1, from.trailing_zeros());
    let path = Path::new(last, to - 1, level);
    let (start, rest) = match proof.split_first() {
        _ if from.is_power_of_two() => (from_root, proof),
        Some((first, rest)) => (first, rest),
        None => return Err(LedgerError::Length { expected: path.len() + 1, found: 0 }),
    };
    let (inner, border) = path.split(rest).map_err(|_| LedgerError::Length {
        expected: path.len() + proof.len() - rest.len(),
        found: proof.len(),
    })?;
    same(&up(path.up_left(*start, inner), border), from_root)?;
    same(&up(path.up(*start, inner), border), to_root)
}

/// The way from a node up to the root of a tree.
struct Path {
    /// The index of the node at its level.
    index: u64,
    /// The levels at which the node, or the one above it, stands below the last leaf's way: the sibling is right or left.
    inner: usize,
    /// The siblings above these, which all are left of it.
    border: usize,
}

impl Path {
    /// The way of the node above the leaf `index` at `level`, in a tree whose last leaf is `last`.
    fn new(index: u64, last: u64, level: u32) -> Self {
        let split = u64::BITS - (index ^ last).leading_zeros();
        let border = index.checked_shr(split).unwrap_or(0).count_ones();
        Self {
            index: index.checked_shr(level).unwrap_or(0),
            inner: split.saturating_sub(level) as usize,
            border: border as usize,
        }
    }

    fn len(&self) -> usize {
        self.inner + self.border
    }

    fn split<'a>(&self, proof: &'a [Hash]) -> Result<(&'a [Hash], &'a [Hash]), LedgerError> {
        let wrong = LedgerError::Length { expected: self.len(), found: proof.len() };
        if proof.len() == self.len() { proof.split_at_checked(self.inner).ok_or(wrong) } else { Err(wrong) }
    }

    /// Goes up with all siblings.
    fn up(&self, start: Hash, inner: &[Hash]) -> Hash {
        inner.iter().zip(0..u64::BITS).fold(start, |below, (beside, level)| {
            if self.index >> level & 1 == 0 { node_hash(&below, beside) } else { node_hash(beside, &below) }
        })
    }

    /// Goes up with the siblings on the left alone, which are those that the earlier tree has.
    fn up_left(&self, start: Hash, inner: &[Hash]) -> Hash {
        inner.iter().zip(0..u64::BITS).fold(start, |below, (beside, level)| {
            if self.index >> level & 1 == 0 { below } else { node_hash(beside, &below) }
        })
    }
}

fn up(below: Hash, border: &[Hash]) -> Hash {
    border.iter().fold(below, |below, left| node_hash(left, &below))
}

fn same(computed: &Hash, given: &Hash) -> Result<(), LedgerError> {
    if computed == given { Ok(()) } else { Err(LedgerError::Root) }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, HashMap},
        ops::Range,
    };

    use ct_merkle::{ConsistencyProof, InclusionProof, RootHash, mem_backed_tree::MemoryBackedTree};
    use proptest::prelude::*;
    use serde_json::Value as Json;
    use sha2::Sha256;

    use super::*;
    use crate::ledger::{Frontier, ProofShape, Subtree, leaf_hash};

    fn hash(hex: &Json) -> Hash {
        let hex = hex.as_str().unwrap();
        let bytes = hex
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap());
        bytes.collect::<Vec<_>>().try_into().unwrap()
    }

    #[test]
    fn proofs_that_hold_are_accepted_and_each_spoilt_one_is_refused() {
        let mut tried = BTreeMap::new();
        for line in include_str!("../../tests/data/ledger/probes.jsonl").lines() {
            let probe: Json = serde_json::from_str(line).unwrap();
            let proof: Vec<Hash> = probe["proof"].as_array().unwrap().iter().map(hash).collect();
            let number = |name: &str| probe[name].as_u64().unwrap();
            let kind = probe["kind"].as_str().unwrap();
            let result = if kind == "inclusion" {
                let (leaf, root) = (hash(&probe["leafHash"]), hash(&probe["root"]));
                verify_inclusion(&leaf, number("leafIdx"), number("treeSize"), &proof, &root)
            } else {
                let (from_root, to_root) = (hash(&probe["root1"]), hash(&probe["root2"]));
                verify_consistency(number("size1"), number("size2"), &proof, &from_root, &to_root)
            };
            assert_eq!(result.is_err(), probe["wantErr"].as_bool().unwrap(), "{result:?}: {line}");
            *tried.entry((kind.to_owned(), result.is_ok())).or_insert(0) += 1;
        }
        assert_eq!(tried.len(), 4, "each kind of proof, and each outcome: {tried:?}");
    }

    /// The subtrees of a tree out of all its leaves, by the recursive definition of RFC 6962.
    fn root_of(leaves: &[Hash], range: Range<usize>) -> Hash {
        match range.len() {
            0 => EMPTY_ROOT,
            1 => leaves[range.start],
            length => {
                let middle = range.start + (length.next_power_of_two() >> 1);
                node_hash(&root_of(leaves, range.start..middle), &root_of(leaves, middle..range.end))
            }
        }
    }

    fn made(shape: &ProofShape, leaves: &[Hash]) -> Vec<Hash> {
        let root = |subtree: Subtree| {
            let first = usize::try_from(subtree.index << subtree.level).unwrap();
            Ok::<_, ()>(root_of(leaves, first..first + (1 << subtree.level)))
        };
        shape.hashes(root).unwrap()
    }

    fn tree(leaves: &[Vec<u8>]) -> MemoryBackedTree<Sha256, Vec<u8>> {
        let mut tree = MemoryBackedTree::new();
        for leaf in leaves {
            tree.push(leaf.clone());
        }
        tree
    }

    fn leaves(count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|n| n.to_be_bytes().to_vec()).collect()
    }

    #[test]
    fn every_proof_of_every_small_tree_is_the_one_that_ct_merkle_makes() {
        let data = leaves(70);
        let hashes: Vec<Hash> = data.iter().map(|leaf| leaf_hash(leaf)).collect();
        let mut frontier = Frontier::new();
        for size in 1..=data.len() {
            frontier.push(hashes[size - 1]);
            let theirs = tree(&data[..size]);
            let (root, size64) = (frontier.root(), size as u64);
            assert_eq!(root, theirs.root().as_bytes()[..]);
            for index in 0..size {
                let proof = made(&ProofShape::inclusion(index as u64, size64).unwrap(), &hashes);
                assert_eq!(
                    proof.as_flattened(),
                    theirs.prove_inclusion(index).as_bytes(),
                    "{index} in {size}"
                );
                verify_inclusion(&hashes[index], index as u64, size64, &proof, &root).unwrap();
            }
            for from in 1..=size {
                let shape = ProofShape::consistency(from as u64, size64).unwrap();
                let proof = made(&shape, &hashes);
                let expected = theirs.prove_consistency(size - from);
                assert_eq!(proof.as_flattened(), expected.as_bytes(), "{from} to {size}");
                verify_consistency(from as u64, size64, &proof, &root_of(&hashes, 0..from), &root).unwrap();
            }
        }
    }

    /// A proof, which may be spoilt in one way.
    fn spoil(proof: &mut Vec<Hash>, way: u8, at: prop::sample::Index, other: Hash) {
        match way {
            1 => proof.push(other),
            2 => proof.insert(0, other),
            _ if proof.is_empty() => {}
            3 => drop(proof.pop()),
            4 => drop(proof.remove(at.index(proof.len()))),
            5 => {
                let at = at.index(proof.len());
                proof[at][0] ^= 1;
            }
            6 => proof.reverse(),
            _ => {}
        }
    }

    proptest! {
        /// Proofs of large trees, whole and spoilt, with right and wrong sizes and indexes: both accept the same ones.
        #[test]
        fn a_proof_is_accepted_exactly_if_ct_merkle_accepts_it(
            size in 1..700_usize, part: prop::sample::Index, way in 0..10_u8, at: prop::sample::Index, other: Hash,
            index_off in -2..3_i64, size_off in prop::sample::select(&[-300_i64, -1, 0, 0, 0, 0, 1, 300]),
        ) {
            let data = leaves(size);
            let hashes: Vec<Hash> = data.iter().map(|leaf| leaf_hash(leaf)).collect();
            let (index, root) = (part.index(size), root_of(&hashes, 0..size));
            let claimed = (size as u64).saturating_add_signed(size_off);
            let theirs = RootHash::<Sha256>::new(root.into(), claimed);

            let mut proof = made(&ProofShape::inclusion(index as u64, size as u64).unwrap(), &hashes);
            spoil(&mut proof, way, at, other);
            let place = (index as u64).saturating_add_signed(index_off);
            let ours = verify_inclusion(&hashes[index], place, claimed, &proof, &root);
            let bytes = InclusionProof::from_bytes(proof.as_flattened().to_vec());
            prop_assert_eq!(ours.is_ok(), theirs.verify_inclusion(&data[index], place, &bytes).is_ok(), "{:?}", ours);

            let from = index + 1;
            let mut proof = made(&ProofShape::consistency(from as u64, size as u64).unwrap(), &hashes);
            spoil(&mut proof, way, at, other);
            let from_root = root_of(&hashes, 0..from);
            let place = (from as u64).saturating_add_signed(index_off);
            let ours = verify_consistency(place, claimed, &proof, &from_root, &root);
            let bytes = ConsistencyProof::try_from_bytes(proof.as_flattened().to_vec()).unwrap();
            let earlier = RootHash::<Sha256>::new(from_root.into(), place);
            if place > 0 {
                prop_assert_eq!(ours.is_ok(), theirs.verify_consistency(&earlier, &bytes).is_ok(), "{:?}", ours);
            } else {
                prop_assert!(ours.is_err());
            }
        }

        #[test]
        fn no_input_makes_a_verifier_panic(
            a: u64, b: u64, c in 0..80_u32, proof: Vec<Hash>, leaf: Hash, root: Hash,
        ) {
            for (a, b) in [(a, b), (b, a), (a >> (c % 64), b), (a.min(b), a.max(b)), (a, a), (a, a.saturating_add(1))] {
                prop_assert!(a == 0 && b == 1 || verify_inclusion(&leaf, a, b, &proof, &root).is_err());
                let may_hold = a == b && leaf == root;
                prop_assert!(may_hold || verify_consistency(a, b, &proof, &leaf, &root).is_err());
            }
        }

        /// A proof of the shape has the length that the verifier expects, in trees larger than any that could be made.
        #[test]
        fn shapes_of_huge_trees_have_the_length_that_is_verified(a in 1..=MOST_LEAVES, b in 1..=MOST_LEAVES, shift in 0..63_u32) {
            let (a, b) = ((a >> shift).max(1), (b >> shift).max(1));
            let (from, to) = (a.min(b), a.max(b));
            let stand_in = |subtree: Subtree| {
                prop_assert!((subtree.index + 1).checked_shl(u32::from(subtree.level)).is_some_and(|end| end <= to));
                Ok([0; 32])
            };
            let shape = ProofShape::inclusion(from - 1, to).unwrap();
            let proof = shape.hashes(stand_in)?;
            prop_assert_eq!(proof.len(), shape.len());
            prop_assert_eq!(verify_inclusion(&[0; 32], from - 1, to, &proof, &[1; 32]), Err(LedgerError::Root));
            let shape = ProofShape::consistency(from, to).unwrap();
            let proof = shape.hashes(stand_in)?;
            prop_assert_eq!(proof.len(), shape.len());
            prop_assert_eq!(verify_consistency(from, to, &proof, &[1; 32], &[2; 32]), Err(LedgerError::Root));
        }
    }

    #[test]
    fn a_proof_of_the_wrong_length_says_which_length_it_must_have() {
        let error = verify_inclusion(&[0; 32], 3, 10_000_000, &[[0; 32]; 23], &[0; 32]).unwrap_err();
        assert_eq!(error, LedgerError::Length { expected: 24, found: 23 });
        let error = verify_consistency(6, 8, &[], &[0; 32], &[0; 32]).unwrap_err();
        assert_eq!(error, LedgerError::Length { expected: 3, found: 0 });
        let error = verify_consistency(6, 8, &[[0; 32]; 4], &[0; 32], &[0; 32]).unwrap_err();
        assert_eq!(error, LedgerError::Length { expected: 3, found: 4 });
    }

    #[test]
    fn a_tree_larger_than_can_be_is_named_as_such() {
        let size = MOST_LEAVES + 1;
        let too_large = LedgerError::TooLarge { size };
        assert_eq!(verify_inclusion(&[0; 32], 0, size, &[[0; 32]; 63], &[0; 32]), Err(too_large.clone()));
        assert_eq!(verify_consistency(size, size, &[], &[0; 32], &[0; 32]), Err(too_large.clone()));
        assert_eq!(ProofShape::inclusion(0, size), Err(too_large.clone()));
        assert_eq!(ProofShape::consistency(1, size), Err(too_large));
    }

    /// Nodes that are stored, and the hashes of leaves, are all that a proof is made of.
    #[test]
    fn proofs_are_made_from_stored_nodes_and_leaves_alone() {
        let hashes: Vec<Hash> = (0..70_000_u32).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let (mut frontier, mut full) = (Frontier::new(), Vec::new());
        for (part, length) in hashes.chunks(999).zip([1, 7, 999].into_iter().cycle()) {
            part.chunks(length).for_each(|batch| frontier.append(batch, &mut full));
        }
        let stored: HashMap<Subtree, Hash> = full.iter().map(|node| (node.subtree, node.hash)).collect();
        assert_eq!((full.len(), stored.len()), (70_000 / 256 + 1, 70_000 / 256 + 1));
        assert_eq!(stored[&Subtree { level: 16, index: 0 }], root_of(&hashes, 0..65_536));
        let root = |subtree: Subtree| {
            let (level, indexes) = subtree.stored();
            assert!((indexes.end - indexes.start) <= 128 && indexes.start / 256 == (indexes.end - 1) / 256);
            let mut part = Frontier::new();
            for index in indexes {
                part.push(match level {
                    0 => hashes[usize::try_from(index).unwrap()],
                    _ => *stored.get(&Subtree { level, index }).ok_or("not stored")?,
                });
            }
            Ok::<_, &str>(part.root())
        };
        for size in [70_000, 65_537, 65_536, 256, 255] {
            let all = root_of(&hashes, 0..size);
            for index in [0, 254, size - 1] {
                let path = ProofShape::inclusion(index as u64, size as u64).unwrap().hashes(root).unwrap();
                verify_inclusion(&hashes[index], index as u64, size as u64, &path, &all).unwrap();
                let from = index + 1;
                let path = ProofShape::consistency(from as u64, size as u64).unwrap().hashes(root).unwrap();
                verify_consistency(from as u64, size as u64, &path, &root_of(&hashes, 0..from), &all)
                    .unwrap();
            }
        }
    }
}
