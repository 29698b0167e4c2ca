//! Publishes the tree of a ledger as tiles. What is published was led to the checkpoint before.

use std::ops::Range;

use super::{
    opened::Opened,
    tile_directory::{TileDirectory, TileFiles},
    tiles::{impossible, missing_hash, stored_hashes},
};
use crate::error::{AuditError, ErrorKind};
use crate::ledger::{Checkpoint, Frontier, Hash, LedgerError, Tile};
use crate::reader::AuditReader;
use crate::store::Evidence;

/// The tiles that are read at a time.
const AT_ONCE: u64 = 16;

/// The binary logarithm of the number of hashes of a tile.
const LEVELS: u8 = 8;

/// Writes the tiles of a checkpoint that are not published yet, and then the checkpoint itself. Does nothing if a
/// larger one is published.
pub(super) async fn publish(
    directory: &TileDirectory,
    reader: &AuditReader,
    checkpoint: &Checkpoint,
    text: &str,
) -> Result<(), AuditError> {
    let Some(before) = directory.before(checkpoint)? else { return Ok(()) };
    let lacks_entries = directory.has_leaf_data() && before > 0 && !directory.has_entries(before);
    let growth = Growth {
        evidence: reader.store.backend().evidence()?,
        ledger: &reader.ledger,
        from: if lacks_entries { 0 } else { before },
        has_leaf_data: directory.has_leaf_data(),
    };
    let mut files = directory.open()?;
    growth.write(checkpoint, &mut files).await?;
    files.put_checkpoint(text)?;
    remove_partial(&mut files, before, directory.has_leaf_data())
}

/// Removes the partial tiles that both this checkpoint and the one of the size `before` have a full tile for.
fn remove_partial(files: &mut TileFiles, before: u64, has_leaf_data: bool) -> Result<(), AuditError> {
    for level in 0..=7 {
        let full = (before >> (level * LEVELS)) >> LEVELS;
        files.remove_partial(level, full, Tile::path)?;
        if level == 0 && has_leaf_data {
            files.remove_partial(0, full, Tile::entries_path)?;
        }
    }
    Ok(())
}

/// The tiles that a tree has got since it had the size `from`.
struct Growth<'a> {
    evidence: &'a dyn Evidence,
    ledger: &'a str,
    from: u64,
    has_leaf_data: bool,
}

/// A tile with its hashes, which were led to the checkpoint.
type Proven = (Tile, Vec<Hash>);

impl Growth<'_> {
    /// Writes all of them. From the right edge of the tree, whose root must be that of the checkpoint, it goes down:
    /// each tile must have the root that the one above says.
    async fn write(&self, checkpoint: &Checkpoint, files: &mut TileFiles) -> Result<(), AuditError> {
        let mut left: Vec<Proven> = self.edge(checkpoint).await?;
        while let Some((tile, hashes)) = left.pop() {
            files.put(&tile.path(), hashes.as_flattened())?;
            if tile.level() > 0 {
                self.below(tile, &hashes, &mut left).await?;
            } else if self.has_leaf_data {
                files.put(&tile.entries_path(), &self.entries(tile, &hashes).await?)?;
            }
        }
        Ok(())
    }

    /// The tiles at the right edge, which are not full.
    async fn edge(&self, checkpoint: &Checkpoint) -> Result<Vec<Proven>, AuditError> {
        let (mut edge, mut peaks) = (Vec::new(), Vec::new());
        for tile in Tile::edges(checkpoint.size()) {
            let first = tile.index() << LEVELS;
            let hashes = self.stored(tile.level(), first..first + u64::from(tile.width())).await?;
            peaks.extend_from_slice(frontier(&hashes).peaks());
            edge.push((tile, hashes));
        }
        let all = Frontier::from_bytes(checkpoint.size(), peaks.as_flattened()).map_err(impossible)?;
        if all.root() == *checkpoint.root() {
            return Ok(edge);
        }
        let message = format!(
            "nothing is published: the stored hashes do not lead to the checkpoint of {} entries: verify the ledger, which says what \
             was changed",
            checkpoint.size()
        );
        Err(AuditError::new(ErrorKind::Altered, message))
    }

    /// Reads the tiles whose roots these hashes are, but for those that the tree had before.
    async fn below(&self, tile: Tile, hashes: &[Hash], left: &mut Vec<Proven>) -> Result<(), AuditError> {
        let (level, first) = (tile.level() - 1, tile.index() << LEVELS);
        let had = self.from >> (tile.level() * LEVELS);
        let (mut at, end) = (first.max(had), first + u64::from(tile.width()));
        while at < end {
            let until = end.min(at + AT_ONCE);
            let below = self.stored(level, at << LEVELS..until << LEVELS).await?;
            for (index, hashes_below) in (at..until).zip(below.chunks(usize::from(Tile::FULL))) {
                let place = usize::try_from(index - first).ok();
                let expected = place.and_then(|place| hashes.get(place));
                if Some(&frontier(hashes_below).root()) != expected {
                    let leaves = index << (tile.level() * LEVELS);
                    return Err(altered(leaves, leaves + (1 << (tile.level() * LEVELS))));
                }
                let tile = Tile::new(level, index, Tile::FULL).map_err(impossible)?;
                left.push((tile, hashes_below.to_vec()));
            }
            at = until;
        }
        Ok(())
    }

    /// The data of the leaves of a tile, each after its length.
    async fn entries(&self, tile: Tile, hashes: &[Hash]) -> Result<Vec<u8>, AuditError> {
        let first = tile.index() << LEVELS;
        let range = first..first + u64::from(tile.width());
        let opened = Opened::read(self.evidence, self.ledger, range.clone()).await?;
        let seqs: Vec<u64> = range.collect();
        let (mut bytes, mut proven) = (Vec::new(), hashes.iter());
        opened
            .each(&seqs, |seq, opening| {
                let leaf = opening.leaf();
                if proven.next() != Some(&leaf.hash()) {
                    return Err(altered(seq, seq + 1));
                }
                let too_long = |_| {
                    impossible(LedgerError::Length {
                        expected: usize::from(u16::MAX),
                        found: leaf.data().len(),
                    })
                };
                bytes.extend_from_slice(&u16::try_from(leaf.data().len()).map_err(too_long)?.to_be_bytes());
                bytes.extend_from_slice(leaf.data());
                Ok(())
            })
            .await?;
        Ok(bytes)
    }

    /// The stored hashes of a level of tiles. All of them must be there.
    async fn stored(&self, level: u8, range: Range<u64>) -> Result<Vec<Hash>, AuditError> {
        let bits = level * LEVELS;
        let (first, until) = (range.start << bits, range.end << bits);
        let stored = stored_hashes(self.evidence, self.ledger, bits, range).await?;
        let whole: Option<Vec<Hash>> = stored.into_iter().collect();
        whole.ok_or_else(|| missing_hash(first, until))
    }
}

/// The tree over these hashes.
fn frontier(hashes: &[Hash]) -> Frontier {
    let mut frontier = Frontier::new();
    for hash in hashes {
        frontier.push(*hash);
    }
    frontier
}

fn altered(first: u64, until: u64) -> AuditError {
    let message = format!(
        "nothing is published: the stored hashes over the entries from {first} up to {until} do not lead to the checkpoint: verify the \
         ledger, which says what was changed"
    );
    AuditError::new(ErrorKind::Altered, message)
}
