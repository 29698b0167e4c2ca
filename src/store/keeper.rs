//! Keeps a writer's tree: which one it adds to, what it does if that is not the one it left, and how it catches up.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use super::{
    growth::{Failed, Growing, Integrity, NewLeaves, altered, new_seed},
    tree::{BatchRow, LeavesRow, NodeRow, TreeHead, columns},
};
use crate::entry::Row;
use crate::error::AuditError;
use crate::ledger::{Committed, Frontier, Hash, Leaf, Node, Seeds, SeedsInOrder, Subtree};

/// The entries that an append adds to the tree before its own, if others have left them out.
const NEAR: u64 = 4096;
/// The entries that one step of catching up adds.
const STEP: u64 = 16_384;
/// More than any batch has.
const MOST_IN_BATCH: u64 = 131_072;
/// The most numbers without an entry that get a leaf. More were not given out but made up.
const MOST_ABSENT: u64 = 1 << 20;
/// The time that the ledger is written without its tree, once that could not be added to, before it is tried again.
const GIVEN_UP: Duration = Duration::from_mins(1);

/// The tables of the tree, and what it is made of, over one connection.
pub(super) trait TreeTables: Send {
    fn batches(&mut self, seqs: Range<u64>) -> impl Future<Output = Result<Vec<BatchRow>, Failed>> + Send;

    /// The `seq` at which the first batch begins that does not begin before this one.
    fn next_batch(&mut self, from: u64) -> impl Future<Output = Result<Option<u64>, Failed>> + Send;

    /// Hands over each entry of this range with its `seq`, in its order.
    fn each_entry(
        &mut self,
        seqs: Range<u64>,
        each: &mut (dyn FnMut(i64, &Row) + Send),
    ) -> impl Future<Output = Result<(), Failed>> + Send;

    fn leaves(&mut self, seqs: Range<u64>) -> impl Future<Output = Result<Vec<LeavesRow>, Failed>> + Send;

    /// The `seq` after the last leaf that is stored.
    fn leaves_end(&mut self) -> impl Future<Output = Result<i64, Failed>> + Send;

    fn nodes(
        &mut self,
        level: u8,
        indexes: Range<u64>,
    ) -> impl Future<Output = Result<Vec<NodeRow>, Failed>> + Send;

    fn add_leaves(&mut self, rows: &[NewLeaves]) -> impl Future<Output = Result<(), Failed>> + Send;

    /// Adds nodes that do not exist yet.
    fn add_nodes(&mut self, nodes: &[Node]) -> impl Future<Output = Result<(), Failed>> + Send;

    fn set_head(&mut self, tree: &Growing) -> impl Future<Output = Result<(), Failed>> + Send;
}

/// A writer's knowledge of its ledger's tree.
pub(super) struct Keeper {
    integrity: Integrity,
    /// The tree as this writer has left it.
    left: Option<Frontier>,
    /// Entries may be without a leaf.
    is_behind: bool,
    /// When the tree could not be added to.
    given_up: Option<Instant>,
    noticed: Vec<AuditError>,
}

impl Keeper {
    pub(super) fn new(integrity: Integrity) -> Self {
        Self { integrity, left: None, is_behind: true, given_up: None, noticed: Vec::new() }
    }

    /// A finding, for a notice.
    pub(super) fn noticed(&mut self) -> Option<AuditError> {
        self.noticed.pop()
    }

    /// Whether there are entries for a step of catching up.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind && self.integrity != Integrity::Off && !self.has_given_up()
    }

    fn has_given_up(&self) -> bool {
        self.given_up.is_some_and(|since| since.elapsed() < GIVEN_UP)
    }

    /// The tree to which a transaction adds the leaves of the entries from `next_seq` on. `None`: it goes on without.
    pub(super) async fn begin(
        &mut self,
        tables: &mut impl TreeTables,
        head: &TreeHead,
        next_seq: i64,
    ) -> Result<Option<Growing>, Failed> {
        if self.integrity != Integrity::Inline || self.has_given_up() {
            return Ok(None);
        }
        let next_seq = next_seq.cast_unsigned();
        let mut tree = Growing::of(self.found(tables, head, next_seq).await?);
        if next_seq - tree.frontier().size() > NEAR {
            return Ok(None);
        }
        while tree.frontier().size() < next_seq {
            let rows = gap(tables, &mut tree, next_seq, NEAR).await?;
            tables.add_leaves(&rows).await?;
        }
        Ok(Some(tree))
    }

    /// A transaction was committed, with its leaves or without.
    pub(super) fn committed(&mut self, tree: Option<Growing>) {
        match tree {
            Some(tree) => {
                self.left = Some(tree.into_frontier());
                (self.is_behind, self.given_up) = (false, None);
            }
            None => self.is_behind = true,
        }
    }

    /// The tree cannot be added to. The ledger goes on without it.
    pub(super) fn give_up(&mut self, why: &str) {
        self.given_up = Some(Instant::now());
        self.is_behind = true;
        self.noticed.push(altered(format!(
            "the tree over the ledger's entries cannot be added to: {why}; entries are committed without it, it is tried \
             again every minute, and `tracing-audit verify` says what was changed"
        )));
    }

    /// Without the tree it fails as well: something else is at fault.
    pub(super) fn is_not_at_fault(&mut self) {
        self.given_up = None;
        self.noticed.pop();
    }

    /// The tree that the head names, or the one that it should name.
    async fn found(
        &mut self,
        tables: &mut impl TreeTables,
        head: &TreeHead,
        next_seq: u64,
    ) -> Result<Frontier, Failed> {
        let named = head.frontier().ok().filter(|named| named.size() <= next_seq);
        let changed = "the head of the ledger does not name the tree that was left there: somebody has changed it, or \
                       restored a part of the database";
        let named = match named {
            // With leaves beyond its end, the tree was not left so: a writer that adds leaves changes the head too.
            Some(named) if named.size() < next_seq => {
                let end = tables.leaves_end().await?;
                Some(named).filter(|named| end <= named.size().cast_signed())
            }
            named => named,
        };
        match (&self.left, named) {
            (None, Some(named)) => Ok(named),
            (Some(left), Some(named)) if named.size() > left.size() || named == *left => Ok(named),
            (Some(left), _) if head.size == left.size().cast_signed() && left.size() <= next_seq => {
                let left = left.clone();
                self.noticed.push(altered(format!("{changed}; the log goes on from the tree that it left")));
                Ok(left)
            }
            _ => {
                let rebuilt = rebuild(tables, next_seq).await?;
                if rebuilt.size().cast_signed() != head.size || rebuilt.to_bytes() != head.frontier {
                    let size = rebuilt.size();
                    let message = format!("{changed}; it was made anew from the leaves of {size} entries");
                    self.noticed.push(altered(message));
                }
                Ok(rebuilt)
            }
        }
    }

    /// Makes the leaves of the next entries that have none, outside of the transaction that adds them. `None` if there are
    /// no such entries.
    pub(super) async fn prepare(
        &mut self,
        tables: &mut impl TreeTables,
        head: Option<TreeHead>,
    ) -> Result<Option<Step>, Failed> {
        let Some(head) = head else { return Err(Failed::Tree("the ledger has no head".to_owned())) };
        let next_seq = u64::try_from(head.next_seq).unwrap_or(0);
        let mut tree = Growing::of(self.found(tables, &head, next_seq).await?);
        if tree.frontier().size() == next_seq {
            self.committed(Some(tree));
            return Ok(None);
        }
        let rows = gap(tables, &mut tree, next_seq, STEP).await?;
        Ok(Some(Step { head, rows, tree }))
    }
}

/// A step of catching up.
pub(super) struct Step {
    /// The head from which it begins.
    head: TreeHead,
    rows: Vec<NewLeaves>,
    tree: Growing,
}

impl Step {
    /// Adds what was prepared, within a transaction that holds this head. False: somebody else has added to the tree.
    pub(super) async fn take(
        &mut self,
        tables: &mut impl TreeTables,
        head: Option<TreeHead>,
    ) -> Result<bool, Failed> {
        let Some(head) = head else { return Ok(false) };
        if (head.size, &head.frontier) != (self.head.size, &self.head.frontier) {
            return Ok(false);
        }
        tables.add_leaves(&self.rows).await?;
        tables.add_nodes(&self.tree.take_full()).await?;
        tables.set_head(&self.tree).await?;
        self.head = head;
        Ok(true)
    }

    /// The step was committed.
    pub(super) fn done(self, keeper: &mut Keeper) {
        let is_behind = self.tree.size() < self.head.next_seq;
        keeper.committed(Some(self.tree));
        keeper.is_behind = is_behind;
    }
}

/// The tree over all leaves that are stored, from nodes and leaves.
async fn rebuild(tables: &mut impl TreeTables, next_seq: u64) -> Result<Frontier, Failed> {
    let end = tables.leaves_end().await?;
    let size = u64::try_from(end).ok().filter(|size| *size <= next_seq).ok_or_else(|| {
        Failed::Tree(format!("leaves are stored up to {end}, and the ledger ends at {next_seq}"))
    })?;
    let mut peaks = Vec::new();
    for level in (0..=63_u8).rev().filter(|level| size >> level & 1 == 1) {
        let (stored, range) = Subtree { level, index: (size >> level) - 1 }.stored();
        let hashes = if stored == 0 {
            leaves_of(&tables.leaves(range.start.saturating_sub(MOST_IN_BATCH)..range.end).await?, &range)
        } else {
            nodes_of(tables.nodes(stored, range.clone()).await?, &range)
        };
        let hashes = hashes.filter(|hashes| hashes.len() as u64 == range.end - range.start);
        let missing = || {
            let what = if stored == 0 { "leaves" } else { "nodes" };
            Failed::Tree(format!("{what} {} to {} are missing or malformed", range.start, range.end - 1))
        };
        let mut part = Frontier::new();
        part.append(&hashes.ok_or_else(missing)?, &mut Vec::new());
        peaks.extend_from_slice(&part.root());
    }
    Frontier::from_bytes(size, &peaks).map_err(|cause| Failed::Tree(cause.to_string()))
}

/// The leaves of this range, out of rows in their order.
fn leaves_of(rows: &[LeavesRow], range: &Range<u64>) -> Option<Vec<Hash>> {
    let (mut hashes, mut next) = (Vec::new(), range.start);
    for row in rows {
        let (leaves, rest) = row.leaves.as_chunks::<32>();
        let first = u64::try_from(row.first_seq).ok().filter(|_| rest.is_empty())?;
        let Some(skipped) = next.checked_sub(first) else { break };
        let after = leaves.get(usize::try_from(skipped).ok()?..).unwrap_or_default();
        let taken = after.len().min(usize::try_from(range.end.checked_sub(next)?).ok()?);
        hashes.extend_from_slice(after.get(..taken)?);
        next += taken as u64;
    }
    Some(hashes)
}

/// The hashes of these nodes, if they are those of the range.
fn nodes_of(rows: Vec<NodeRow>, range: &Range<u64>) -> Option<Vec<Hash>> {
    let hash = |(index, row): (u64, NodeRow)| {
        (row.index == index.cast_signed()).then(|| row.hash.try_into().ok()).flatten()
    };
    range.clone().zip(rows).map(hash).collect()
}

/// Makes leaves for the next entries that have none and adds them to the tree: some `most` of them, and at least a batch.
///
/// A number for which there is no entry, or no batch that has added one, gets the leaf without fields.
async fn gap(
    tables: &mut impl TreeTables,
    tree: &mut Growing,
    next_seq: u64,
    most: u64,
) -> Result<Vec<NewLeaves>, Failed> {
    let from = tree.frontier().size();
    let before = next_seq.min(from.saturating_add(most));
    let batches = tables.batches(from..before).await?;
    let beyond = tables.next_batch(before).await?.map_or(next_seq, |beyond| beyond.min(next_seq));
    let begins = |batch: &BatchRow| batch.first_seq.cast_unsigned();
    let following = batches.iter().skip(1).map(begins).chain([beyond]);
    let (mut pieces, mut end) = (Vec::new(), from);
    for (batch, following) in batches.iter().zip(following) {
        let entries = u64::try_from(batch.entries).unwrap_or(0).min(following - begins(batch));
        if entries > MOST_IN_BATCH {
            let why =
                format!("the batch at seq {} says that it has {} entries", batch.first_seq, batch.entries);
            return Err(Failed::Tree(why));
        }
        let after = begins(batch) + entries;
        if end > from && after > before {
            // The next step begins with it.
            return made(tables, tree, pieces).await;
        }
        pieces.extend(Piece::absent(end..begins(batch)));
        pieces.push(Piece::of(batch, entries)?);
        end = after;
    }
    if end < before {
        if beyond - end > MOST_ABSENT {
            return Err(Failed::Tree(format!("no batch has added the numbers from {end} to {}", beyond - 1)));
        }
        pieces.extend(Piece::absent(end..before));
    }
    made(tables, tree, pieces).await
}

/// Adds the leaves of the pieces to the tree, once each entry has its leaf.
async fn made(
    tables: &mut impl TreeTables,
    tree: &mut Growing,
    mut pieces: Vec<Piece<'_>>,
) -> Result<Vec<NewLeaves>, Failed> {
    let from = tree.frontier().size();
    let entries = pieces.iter().map(|piece| piece.rows.leaves.len() as u64).sum::<u64>();
    let (mut leaf, mut current) = (Leaf::new(), 0);
    let mut add = |seq: i64, row: &Row| {
        while let Some(piece) = pieces.get_mut(current) {
            if piece.add(seq, row, &mut leaf) {
                return;
            }
            current += 1;
        }
    };
    tables.each_entry(from..from + entries, &mut add).await?;
    let rows = pieces.into_iter().map(|piece| piece.rows);
    Ok(rows.inspect(|rows| tree.add(&rows.leaves)).collect())
}

/// The leaves of a batch, or of a range without one, while they are made from what is stored.
struct Piece<'b> {
    batch: Option<(&'b BatchRow, SeedsInOrder)>,
    rows: NewLeaves,
}

impl<'b> Piece<'b> {
    fn of(batch: &'b BatchRow, entries: u64) -> Result<Self, Failed> {
        let root = new_seed()?;
        let leaves = vec![Leaf::new().hash(); usize::try_from(entries).unwrap_or(0)];
        let rows = NewLeaves { first_seq: batch.first_seq, seeds: root.to_vec(), leaves };
        Ok(Self { batch: Some((batch, Seeds::of_root(root).iter())), rows })
    }

    fn absent(range: Range<u64>) -> Option<Self> {
        let leaves = vec![Leaf::new().hash(); usize::try_from(range.end.checked_sub(range.start)?).ok()?];
        let rows = NewLeaves { first_seq: range.start.cast_signed(), seeds: Vec::new(), leaves };
        (!rows.leaves.is_empty()).then_some(Self { batch: None, rows })
    }

    /// Makes the leaf of an entry. False: its place is not here.
    fn add(&mut self, seq: i64, row: &Row, leaf: &mut Leaf) -> bool {
        let place = seq - self.rows.first_seq;
        let Some(hash) = usize::try_from(place).ok().and_then(|place| self.rows.leaves.get_mut(place)) else {
            return false;
        };
        let Some((batch, seeds)) = &mut self.batch else { return true };
        let committed = Committed::in_batch(
            batch.writer.unwrap_or_default(),
            batch.position.cast_unsigned(),
            batch.entries.cast_unsigned(),
            batch.committed_at,
            place.cast_unsigned(),
        );
        let seed = seeds.find(|(entry, _)| i64::from(*entry) == place);
        if let (Ok(committed), Some((_, seed))) = (committed, seed) {
            let columns = columns(row);
            leaf.prepare(&columns, &seed);
            *hash = leaf.finish(&columns, &committed);
        }
        true
    }
}
