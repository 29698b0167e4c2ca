//! Tiles: the files into which the hashes of a tree are cut, and their names.

use super::{ledger_error::LedgerError, subtree::MOST_LEAVES};

/// The levels of a tree that are between those of two tiles.
const LEVELS: u8 = 8;

/// The highest level that a tree with [`MOST_LEAVES`] has.
const TOP: u8 = 7;

/// Up to 256 hashes of a tree that stand beside each other: a file of the C2SP's
/// [tlog-tiles](https://c2sp.org/tlog-tiles).
///
/// At level 0 they are those of leaves, and above that each is the root of a full tile of the level below. A tile with
/// fewer than 256 is at the right edge of a tree.
///
/// ```
/// use tracing_audit::ledger::Tile;
///
/// let tile = Tile::new(0, 1_234_067, 256)?;
/// assert_eq!(tile.path(), "tile/0/x001/x234/067");
/// assert_eq!(tile.entries_path(), "tile/entries/x001/x234/067");
/// let edge: Vec<String> = Tile::edges(70_000).map(|tile| tile.path()).collect();
/// assert_eq!(edge, ["tile/2/000.p/1", "tile/1/001.p/17", "tile/0/273.p/112"]);
/// # Ok::<(), tracing_audit::ledger::LedgerError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    level: u8,
    index: u64,
    width: u16,
}

impl Tile {
    /// The number of hashes of a full tile.
    pub const FULL: u16 = 256;

    /// The tile with this index, from 0, among those of its level, with this number of hashes.
    ///
    /// # Errors
    ///
    /// If no tree has such a tile.
    pub fn new(level: u8, index: u64, width: u16) -> Result<Self, LedgerError> {
        let last = u128::from(index) * u128::from(Self::FULL) + u128::from(width);
        let leaves = last.checked_mul(1 << (level.min(TOP) * LEVELS));
        let is_within = leaves.is_some_and(|leaves| leaves <= u128::from(MOST_LEAVES));
        if level > TOP || width == 0 || width > Self::FULL || !is_within {
            let problem = format!("no tree has a tile {index} of level {level} with {width} hashes");
            return Err(LedgerError::malformed("tile", problem));
        }
        Ok(Self { level, index, width })
    }

    /// The tiles of a tree of this size that are not full, one or none of each level, that of the highest level first.
    pub fn edges(size: u64) -> impl Iterator<Item = Self> {
        (0..=TOP).rev().filter_map(move |level| {
            let hashes = size >> (level * LEVELS);
            let width = u16::try_from(hashes % u64::from(Self::FULL)).ok().filter(|width| *width > 0)?;
            Some(Self { level, index: hashes / u64::from(Self::FULL), width })
        })
    }

    /// The level: 0 for the hashes of leaves.
    #[must_use]
    pub fn level(self) -> u8 {
        self.level
    }

    /// The number of tiles of the same level that stand left of it.
    #[must_use]
    pub fn index(self) -> u64 {
        self.index
    }

    /// The number of hashes, from 1 to 256.
    #[must_use]
    pub fn width(self) -> u16 {
        self.width
    }

    /// The path of the file with the hashes, 32 bytes each.
    #[must_use]
    pub fn path(self) -> String {
        format!("tile/{}/{}", self.level, self.spelled())
    }

    /// The path of the file with the data of the leaves whose hashes these are, each after its length in two bytes.
    /// Only a tile of level 0 has one.
    #[must_use]
    pub fn entries_path(self) -> String {
        format!("tile/entries/{}", self.spelled())
    }

    /// The index in parts of three digits, and the width if the tile is not full.
    fn spelled(self) -> String {
        let mut spelled = format!("{:03}", self.index % 1000);
        let mut above = self.index / 1000;
        while above > 0 {
            spelled = format!("x{:03}/{spelled}", above % 1000);
            above /= 1000;
        }
        if self.width < Self::FULL { format!("{spelled}.p/{}", self.width) } else { spelled }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tile_that_no_tree_has_is_refused() {
        let last = MOST_LEAVES / 256;
        for (level, index, width) in
            [(0, 0, 1), (0, 0, 256), (7, 0, 1), (7, 0, 127), (0, last - 1, 256), (0, last, 255)]
        {
            assert!(Tile::new(level, index, width).is_ok(), "{level} {index} {width}");
        }
        for (level, index, width) in [
            (0, 0, 0),
            (0, 0, 257),
            (8, 0, 1),
            (255, 0, 1),
            (0, last, 256),
            (0, u64::MAX, 1),
            (7, 0, 128),
            (7, u64::MAX, 256),
        ] {
            let error = Tile::new(level, index, width).unwrap_err().to_string();
            assert!(error.starts_with("malformed tile: no tree has a tile"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn the_edge_of_a_tree_has_all_its_hashes_that_are_in_no_full_tile(size in 0..=MOST_LEAVES) {
            let (mut left, mut above) = (size, u8::MAX);
            for tile in Tile::edges(size) {
                prop_assert!(tile.level() < above && tile.width() < Tile::FULL);
                prop_assert_eq!(Tile::new(tile.level(), tile.index(), tile.width()), Ok(tile));
                left -= u64::from(tile.width()) << (tile.level() * LEVELS);
                let end = (tile.index() * 256 + u64::from(tile.width())) << (tile.level() * LEVELS);
                prop_assert_eq!(end, size - left);
                above = tile.level();
            }
            prop_assert_eq!(left, 0);
        }

        #[test]
        fn a_path_spells_its_index_in_parts_of_three_digits(index in 0..=MOST_LEAVES / 512, width in 1..=256_u16) {
            let path = Tile::new(0, index, width).unwrap().path();
            let (name, partial) = path.split_once(".p/").unwrap_or((&path, "256"));
            prop_assert_eq!(partial.parse::<u16>(), Ok(width));
            let parts: Vec<&str> = name.strip_prefix("tile/0/").unwrap().split('/').collect();
            let (last, above) = parts.split_last().unwrap();
            prop_assert!(last.len() == 3 && above.iter().all(|part| part.len() == 4 && part.starts_with('x')));
            let digits = parts.concat().replace('x', "");
            prop_assert_eq!(digits.parse::<u64>(), Ok(index));
        }
    }
}
