//! Reads the hashes of a ledger's tree, tile by tile, and makes proofs of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::chunk::signed;
use crate::error::{AuditError, ErrorKind};
use crate::ledger::{Frontier, Hash, LedgerError, ProofShape, Subtree, node_hash};
use crate::store::Evidence;

/// The hashes of a stored level that are read together, as a power of two.
const TILE_LEVELS: u8 = Subtree::STORED_EVERY;

/// The most tiles that are kept. Each takes 17 KiB.
const MOST_TILES: usize = 512;

/// The level and the index of a tile: its hashes are those of this stored level from `index << 8` on.
type Place = (u8, u64);

/// The hashes of the tree with this size.
pub(super) struct Tiles<'a> {
    evidence: &'a dyn Evidence,
    ledger: &'a str,
    size: u64,
    known: BTreeMap<Place, Tile>,
}

/// Up to 256 hashes of a stored level, and those of the seven levels above.
struct Tile {
    levels: Vec<Vec<Option<Hash>>>,
}

impl Tile {
    fn over(stored: Vec<Option<Hash>>) -> Self {
        let mut levels = vec![stored];
        while let Some(below) = levels.last().filter(|below| below.len() > 1)
            && levels.len() < usize::from(TILE_LEVELS)
        {
            let pairs = below.as_chunks::<2>().0.iter();
            let above = pairs.map(|[left, right]| Some(node_hash(left.as_ref()?, right.as_ref()?))).collect();
            levels.push(above);
        }
        Self { levels }
    }

    fn get(&self, above: u8, index: u64) -> Option<Hash> {
        let level = self.levels.get(usize::from(above))?;
        level.get(usize::try_from(index).ok()?).copied().flatten()
    }
}

/// The tile that a subtree's root is in, how far above the tile's own level it is, and its index there.
fn place(subtree: Subtree) -> (Place, u8, u64) {
    let above = subtree.level % TILE_LEVELS;
    let in_tile = TILE_LEVELS - above;
    let index = subtree.index & ((1 << in_tile) - 1);
    ((subtree.level - above, subtree.index >> in_tile), above, index)
}

/// The error of a proof for sizes that have none.
pub(super) fn impossible(cause: LedgerError) -> AuditError {
    AuditError::new(ErrorKind::Query, "there is no proof for these sizes").because(cause)
}

/// The error for hashes over these entries that are not stored.
pub(super) fn missing_hash(first: u64, until: u64) -> AuditError {
    AuditError::new(
        ErrorKind::Altered,
        format!(
            "a hash over the entries from {first} up to {until} is missing: verify the ledger, which says what was changed"
        ),
    )
}

/// The stored hashes of a level, by their index. `None` for each that is not stored.
pub(super) async fn stored_hashes(
    evidence: &dyn Evidence,
    ledger: &str,
    level: u8,
    range: Range<u64>,
) -> Result<Vec<Option<Hash>>, AuditError> {
    let first = range.start;
    let length = usize::try_from(range.end.saturating_sub(first)).unwrap_or_default();
    let mut stored = vec![None; length];
    let mut put = |index: i64, hash: Option<Hash>| {
        let place = u64::try_from(index).ok().and_then(|index| index.checked_sub(first));
        let place = place.and_then(|place| stored.get_mut(usize::try_from(place).ok()?));
        if let Some(place) = place {
            *place = hash;
        }
    };
    let range = signed(range.start)..signed(range.end);
    if level == 0 {
        let leaves = evidence.leaves(ledger, range).await?;
        for row in &leaves.rows {
            let hashes = leaves.hashes.get(row.at..row.at + row.count).unwrap_or_default();
            (row.from..).zip(hashes).for_each(|(seq, hash)| put(seq, Some(*hash)));
        }
    } else {
        let nodes = evidence.nodes(ledger, level, range).await?;
        for (index, hash) in nodes {
            put(index, hash);
        }
    }
    Ok(stored)
}

impl<'a> Tiles<'a> {
    pub(super) fn new(evidence: &'a dyn Evidence, ledger: &'a str, size: u64) -> Self {
        Self { evidence, ledger, size, known: BTreeMap::new() }
    }

    /// Keeps the leaf hashes of entries that were read otherwise, from a multiple of 256 on, in place of all leaf hashes that
    /// were kept before.
    pub(super) fn keep_leaves(&mut self, first: u64, hashes: &[Option<Hash>]) {
        self.known.retain(|(level, _), _| *level > 0);
        if self.known.len() > MOST_TILES {
            self.known.clear();
        }
        for (tile, hashes) in (first >> TILE_LEVELS..).zip(hashes.chunks(1 << TILE_LEVELS)) {
            self.known.insert((0, tile), Tile::over(hashes.to_vec()));
        }
    }

    /// Reads the tiles that the roots of these subtrees are in, unless they are known.
    pub(super) async fn load(&mut self, subtrees: impl Iterator<Item = Subtree>) -> Result<(), AuditError> {
        let places = subtrees.map(|subtree| place(subtree).0);
        let wanted: BTreeSet<Place> = places.filter(|place| !self.known.contains_key(place)).collect();
        for place in wanted {
            let tile = self.read(place).await?;
            self.known.insert(place, tile);
        }
        Ok(())
    }

    async fn read(&self, (level, index): Place) -> Result<Tile, AuditError> {
        let first = index << TILE_LEVELS;
        let until = (first + (1 << TILE_LEVELS)).min(self.size >> level);
        Ok(Tile::over(stored_hashes(self.evidence, self.ledger, level, first..until.max(first)).await?))
    }

    /// The root of a subtree whose tile is known.
    pub(super) fn root(&self, subtree: Subtree) -> Result<Hash, AuditError> {
        let (place, above, index) = place(subtree);
        let found = self.known.get(&place).and_then(|tile| tile.get(above, index));
        found.ok_or_else(|| {
            let first = subtree.index << subtree.level;
            missing_hash(first, first + (1 << subtree.level))
        })
    }

    /// Makes a proof of this shape.
    pub(super) async fn proof(&mut self, shape: &ProofShape) -> Result<Vec<Hash>, AuditError> {
        self.load(shape.subtrees()).await?;
        shape.hashes(|subtree| self.root(subtree))
    }

    /// The right edge of the tree when it had this size, which is not larger.
    pub(super) async fn frontier(&mut self, size: u64) -> Result<Frontier, AuditError> {
        let subtrees: Vec<Subtree> = Frontier::subtrees(size).collect();
        self.load(subtrees.iter().copied()).await?;
        let peaks: Vec<Hash> =
            subtrees.into_iter().map(|subtree| self.root(subtree)).collect::<Result<_, _>>()?;
        Frontier::from_bytes(size, peaks.as_flattened()).map_err(impossible)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::leaf_hash;

    #[test]
    fn a_tile_has_the_roots_of_all_subtrees_in_it_that_are_known() {
        let hashes: Vec<Hash> = (0..250_u8).map(|n| leaf_hash(&[n])).collect();
        let tile = Tile::over(hashes.iter().copied().map(Some).collect());
        for level in 0..8_u8 {
            for index in 0..250 >> level {
                let mut part = Frontier::new();
                let first = index << level;
                (first..first + (1 << level)).for_each(|n| part.push(hashes[n]));
                let subtree = Subtree { level, index: index as u64 };
                assert_eq!(place(subtree), ((0, 0), level, index as u64));
                assert_eq!(tile.get(level, index as u64), Some(part.root()), "{subtree:?}");
            }
            assert_eq!(tile.get(level, 250 >> level), None);
        }
        let mut gone: Vec<_> = hashes.into_iter().map(Some).collect();
        gone[5] = None;
        let tile = Tile::over(gone);
        assert!(tile.get(1, 2).is_none() && tile.get(2, 1).is_none() && tile.get(1, 3).is_some());
        assert_eq!(place(Subtree { level: 9, index: 300 }), ((8, 2), 1, 44));
        assert_eq!(place(Subtree { level: 16, index: 256 }), ((16, 1), 0, 0));
    }
}
