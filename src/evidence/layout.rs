//! Lays out a range: which entries belong to which batch, and where their leaf hashes are.
//!
//! Somebody may have changed both tables. The rows of leaf hashes decide, because the tree holds their hashes in their order;
//! the batches must fit them.

use std::ops::Range;

use uuid::Uuid;

use super::finding::{Finding, FindingKind};
use crate::ledger::{Committed, Hash, Leaf, Seed, Seeds};
use crate::store::{LeafRow, StoredBatch, StoredLeaves};

/// The finding about the row of a batch that is no place of the ledger.
pub(super) const FOREIGN_BATCH: &str =
    "the row of a batch begins here, amid another batch or before the first entry";

/// Some of the entries of one batch.
#[derive(Clone, Debug)]
pub(super) struct Span {
    /// The entries of the batch that are in the range.
    pub(super) range: Range<u64>,
    /// The `seq` of the batch's first entry, and the number of its entries.
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) seed: Option<Seed>,
    pub(super) batch: Option<Batch>,
    /// Whether the place has no batch, nor leaf hashes of one.
    pub(super) is_bare: bool,
}

/// A batch's account of its entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    pub(super) writer: Uuid,
    pub(super) position: u64,
    pub(super) committed_at: i64,
    pub(super) times: (i64, i64),
}

impl Span {
    /// The batch's account of this entry. `None` if its row is not as a writer makes it.
    pub(super) fn committed(&self, seq: u64) -> Option<Committed> {
        let Batch { writer, position, committed_at, .. } = self.batch?;
        Committed::in_batch(writer, position, self.count, committed_at, seq.checked_sub(self.first)?).ok()
    }
}

/// A range of entries, laid out.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// The spans in the order of their entries, without gaps.
    pub(super) spans: Vec<Span>,
    /// The stored leaf hash of each entry.
    pub(super) stored: Vec<Option<Hash>>,
    pub(super) findings: Vec<Finding>,
}

/// Lays out the entries of `range`, of which those before `tree_until` have leaf hashes.
pub(super) fn lay_out(
    range: &Range<u64>,
    tree_until: u64,
    leaves: &StoredLeaves,
    batches: &[StoredBatch],
) -> Layout {
    let length = usize::try_from(range.end - range.start).unwrap_or_default();
    let layout = Layout { stored: vec![None; length], ..Layout::default() };
    let work = Work {
        range,
        tree_until,
        leaves,
        batches,
        used_leaves: vec![false; leaves.rows.len()],
        used_batches: vec![false; batches.len()],
        without_leaves: Vec::new(),
        layout,
    };
    work.run()
}

struct Work<'a> {
    range: &'a Range<u64>,
    tree_until: u64,
    leaves: &'a StoredLeaves,
    batches: &'a [StoredBatch],
    used_leaves: Vec<bool>,
    used_batches: Vec<bool>,
    /// The numbers of entries of batches whose leaf hashes are gone.
    without_leaves: Vec<u64>,
    layout: Layout,
}

/// The leaf of a number that no entry had when the tree was made.
pub(super) fn absent() -> Hash {
    Leaf::new().hash()
}

/// A number of entries that a batch can have.
fn possible(entries: i64) -> Option<u64> {
    u64::try_from(entries).ok().filter(|entries| (1..=u64::from(Seeds::MOST_ENTRIES)).contains(entries))
}

impl Work<'_> {
    fn run(mut self) -> Layout {
        let mut at = self.range.start;
        while at < self.range.end {
            at = if let Some(index) = self.leaves_over(at) {
                self.with_leaves(index, at)
            } else if let Some((index, count)) = self.misplaced(at) {
                self.with_misplaced(index, at, count)
            } else {
                self.without(at)
            };
        }
        self.foreign();
        self.layout
    }

    fn altered(&mut self, first: u64, count: u64, text: String) {
        // The range in which a batch begins reports it.
        if self.range.contains(&first) {
            let range = first..first.saturating_add(count);
            self.layout.findings.push(Finding::new(FindingKind::BatchAltered, range, text));
        }
    }

    /// The row of leaf hashes of this entry: the one that begins with it, else one that reaches over it.
    fn leaves_over(&self, at: u64) -> Option<usize> {
        let at = i64::try_from(at).ok()?;
        let rows = &self.leaves.rows;
        let after = rows.partition_point(|row| row.first_seq <= at);
        let near = (after.saturating_sub(64)..after).rev();
        let covers = |index: &usize| {
            let Some(row) = rows.get(*index) else { return false };
            let count = self.count(*index).cast_signed();
            row.first_seq >= 0 && row.first_seq.checked_add(count).is_some_and(|until| until > at)
        };
        let mut found = near.filter(covers);
        let first = found.next()?;
        // At the beginning of the range, a row that a batch has is believed before one that somebody may have added.
        let is_known = |index: &usize| self.exact(*index).is_some();
        if at.cast_unsigned() > self.range.start || is_known(&first) {
            return Some(first);
        }
        Some(found.find(is_known).unwrap_or(first))
    }

    /// The leaf hashes of the batch that begins here, if their row says that they begin a little further on.
    fn misplaced(&self, at: u64) -> Option<(usize, u64)> {
        let first = i64::try_from(at).ok()?;
        let batch = self.batches.binary_search_by_key(&first, |batch| batch.first_seq).ok()?;
        let count = possible(self.batches.get(batch)?.entries?)?;
        let index = self.leaves.rows.partition_point(|row| row.first_seq <= first);
        let row = self.leaves.rows.get(index)?;
        let is_its = row.bytes == Some(count.cast_signed() * 32) && row.from == row.first_seq;
        let is_free =
            self.exact(index).is_none() && row.first_seq < first.saturating_add(count.cast_signed());
        (is_its && is_free).then_some((index, count))
    }

    fn with_misplaced(&mut self, index: usize, at: u64, count: u64) -> u64 {
        let Some(row) = self.leaves.rows.get(index).copied() else { return self.range.end };
        if let Some(used) = self.used_leaves.get_mut(index) {
            *used = true;
        }
        let until = (at + count).min(self.range.end);
        self.store(&LeafRow { from: at.cast_signed(), ..row }, at, count);
        let found = self.batches.binary_search_by_key(&at.cast_signed(), |batch| batch.first_seq).ok();
        let batch = found.and_then(|found| {
            if let Some(used) = self.used_batches.get_mut(found) {
                *used = true;
            }
            known(self.batches.get(found)?)
        });
        self.altered(
            at,
            count,
            format!("the leaf hashes of this batch say that they begin at {}", row.first_seq),
        );
        self.layout.spans.push(Span {
            range: at..until,
            first: at,
            count,
            seed: row.seed,
            batch,
            is_bare: false,
        });
        until
    }

    /// The place of the batch that begins with the first entry of a row of leaf hashes.
    fn exact(&self, index: usize) -> Option<usize> {
        let first = self.leaves.rows.get(index)?.first_seq;
        self.batches.binary_search_by_key(&first, |batch| batch.first_seq).ok()
    }

    /// The number of entries that a row of leaf hashes is about: what two of three say, its own length, its batch, and the
    /// next row.
    fn count(&self, index: usize) -> u64 {
        let Some(row) = self.leaves.rows.get(index) else { return 0 };
        let own = row.bytes.filter(|bytes| bytes % 32 == 0).and_then(|bytes| possible(bytes / 32));
        let of_batch = self.exact(index).and_then(|at| self.batches.get(at)?.entries).and_then(possible);
        if own.is_some() && own == of_batch {
            return own.unwrap_or(1);
        }
        let next = self.leaves.rows.get(index + 1);
        let to_next = next.and_then(|next| possible(next.first_seq.checked_sub(row.first_seq)?));
        let agreed = [of_batch, own].into_iter().flatten().find(|count| Some(*count) == to_next);
        agreed.or(own).or(of_batch).unwrap_or(1)
    }

    /// Adds the entries of a row of leaf hashes from `at` on. Returns where they end.
    fn with_leaves(&mut self, index: usize, at: u64) -> u64 {
        let Some(row) = self.leaves.rows.get(index).copied() else { return self.range.end };
        let (first, count) = (row.first_seq.cast_unsigned(), self.count(index));
        let until = (first + count).min(self.range.end);
        if let Some(used) = self.used_leaves.get_mut(index) {
            *used = true;
        }
        self.store(&row, first, count);
        if row.is_seedless && self.is_absent(&row) {
            let span = Span { range: at..until, first, count, seed: None, batch: None, is_bare: true };
            self.layout.spans.push(span);
            return until;
        }
        let batch = self.batch_of(index, first, count);
        if row.seed.is_none() {
            self.altered(first, count, "the seed of this batch is not 16 bytes".to_owned());
        }
        let span = Span { range: at..until, first, count, seed: row.seed, batch, is_bare: false };
        self.layout.spans.push(span);
        until
    }

    /// Whether the hashes of a row say that there were no entries when the tree was made.
    fn is_absent(&self, row: &LeafRow) -> bool {
        let hashes = self.leaves.hashes.get(row.at..row.at + row.count).unwrap_or_default();
        let absent = absent();
        hashes.iter().all(|hash| *hash == absent)
    }

    /// Puts the hashes of a row where they belong.
    fn store(&mut self, row: &LeafRow, first: u64, count: u64) {
        if row.bytes.map(i64::cast_unsigned) != Some(count * 32) {
            let text = format!("the leaf hashes of these entries are not {} bytes", count * 32);
            let range = first.max(self.range.start)..(first + count).min(self.range.end);
            self.layout.findings.push(Finding::new(FindingKind::TileAltered, range, text));
            return;
        }
        let hashes = self.leaves.hashes.get(row.at..row.at + row.count).unwrap_or_default();
        let start = usize::try_from(row.from.cast_unsigned().saturating_sub(self.range.start));
        let places = self.layout.stored.iter_mut().skip(start.unwrap_or(usize::MAX));
        for (place, hash) in places.zip(hashes) {
            *place = Some(*hash);
        }
    }

    /// The batch of a row of leaf hashes. If no batch begins there, it is that of a batch which somebody has moved.
    fn batch_of(&mut self, index: usize, first: u64, count: u64) -> Option<Batch> {
        let exact = self.exact(index);
        let Some(at) = exact.or_else(|| self.stray(first, count)) else {
            self.altered(first, count, "the row of this batch is gone".to_owned());
            return None;
        };
        if let Some(used) = self.used_batches.get_mut(at) {
            *used = true;
        }
        let found = self.batches.get(at)?;
        let known = known(found);
        let wrong = match (known, found.entries) {
            _ if exact.is_none() => {
                Some(format!("the row of this batch says that it begins at {}", found.first_seq))
            }
            (None, _) => Some("a column of the batch is not what a writer stores".to_owned()),
            (_, Some(entries)) if entries.cast_unsigned() != count => {
                Some(format!("the row of this batch says that it has {entries} entries"))
            }
            (Some(batch), _) if batch.position < count => Some(format!(
                "its row says that {count} entries are those up to number {} of its writer",
                batch.position
            )),
            _ => None,
        };
        if let Some(text) = wrong {
            self.altered(first, count, text);
        }
        known
    }

    /// A batch which begins where no leaf hashes do: the next one to `first`, best with as many entries.
    fn stray(&self, first: u64, count: u64) -> Option<usize> {
        let is_stray = |(at, batch): &(usize, &StoredBatch)| {
            let has_leaves =
                self.leaves.rows.binary_search_by_key(&batch.first_seq, |row| row.first_seq).is_ok();
            !has_leaves && !self.used_batches.get(*at).copied().unwrap_or(true)
        };
        let distance = |batch: &StoredBatch| batch.first_seq.abs_diff(first.cast_signed());
        let same = |batch: &StoredBatch| batch.entries.map(i64::cast_unsigned) == Some(count);
        let strays = self.batches.iter().enumerate().filter(is_stray);
        let near = strays.filter(|(_, batch)| same(batch) || distance(batch) <= count);
        near.min_by_key(|(_, batch)| (!same(batch), distance(batch))).map(|(at, _)| at)
    }

    /// Adds entries that have no leaf hashes, from `at` on. Returns where they end.
    fn without(&mut self, at: u64) -> u64 {
        let next = |seqs: &mut dyn Iterator<Item = i64>| {
            seqs.filter_map(|seq| u64::try_from(seq).ok()).find(|seq| *seq > at).unwrap_or(u64::MAX)
        };
        let next_leaves = next(&mut self.leaves.rows.iter().map(|row| row.first_seq)).min(self.range.end);
        let found = self.batches.iter().enumerate().rev().find_map(|(index, batch)| {
            let first = u64::try_from(batch.first_seq).ok()?;
            let count = possible(batch.entries?)?;
            (first <= at && at < first + count).then_some((index, first, count, known(batch)))
        });
        let Some((index, first, count, batch)) = found else {
            let next_batch = next(&mut self.batches.iter().map(|batch| batch.first_seq));
            let until = next_leaves.min(next_batch);
            let range = at..until;
            let span = Span { range, first: at, count: until - at, seed: None, batch: None, is_bare: true };
            self.layout.spans.push(span);
            return until;
        };
        if let Some(used) = self.used_batches.get_mut(index) {
            *used = true;
        }
        if at < self.tree_until && at == self.range.start.max(first) {
            self.without_leaves.push(count);
            self.altered(first, count, "the leaf hashes of this batch are gone".to_owned());
        } else if batch.is_none() {
            self.altered(first, count, "a column of the batch is not what a writer stores".to_owned());
        }
        let until = (first + count).min(next_leaves);
        let span = Span { range: at..until, first, count, seed: None, batch, is_bare: false };
        self.layout.spans.push(span);
        until
    }

    /// Reports rows that belong to no batch.
    fn foreign(&mut self) {
        let batches: Vec<_> = self.batches.iter().zip(&self.used_batches).collect();
        let of_batches = batches.iter().filter(|(_, used)| !**used).map(|(batch, _)| batch.first_seq);
        let mut found: Vec<(i64, &str)> = of_batches.map(|first| (first, FOREIGN_BATCH)).collect();
        for (index, row) in self.leaves.rows.iter().enumerate() {
            let count = self.count(index);
            if self.used_leaves.get(index).copied().unwrap_or(true) {
                continue;
            }
            // If leaf hashes of a batch are gone and others of the same number are here, they were moved. That is
            // reported at the batch.
            if let Some(at) = self.without_leaves.iter().position(|gone| *gone == count) {
                self.without_leaves.remove(at);
            } else {
                found.push((row.first_seq, "leaf hashes begin here, amid another batch"));
            }
        }
        let is_here = |first: i64| match u64::try_from(first) {
            Ok(first) => self.range.contains(&first),
            Err(_) => self.range.start == 0,
        };
        found.retain(|(first, _)| is_here(*first));
        let told = found.into_iter().map(|(first, text)| Finding::at(FindingKind::BatchAltered, first, text));
        self.layout.findings.extend(told);
    }
}

/// The account of a batch, if each column has a value that a writer stores there.
fn known(batch: &StoredBatch) -> Option<Batch> {
    Some(Batch {
        writer: batch.writer?,
        position: u64::try_from(batch.position?).ok()?,
        committed_at: batch.committed_at?,
        times: (batch.least_ts?, batch.greatest_ts?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(rows: &[(i64, usize)]) -> StoredLeaves {
        let mut leaves = StoredLeaves::default();
        for (first, count) in rows {
            let bytes = vec![u8::try_from(*first).unwrap_or(255); count * 32];
            leaves.add((*first, *first), i64::try_from(bytes.len()).ok(), &bytes, Some(&[7; 16]));
        }
        leaves
    }

    fn batches(rows: &[(i64, i64)]) -> Vec<StoredBatch> {
        rows.iter()
            .map(|(first_seq, entries)| StoredBatch {
                first_seq: *first_seq,
                entries: Some(*entries),
                writer: Some(Uuid::nil()),
                position: Some(first_seq + entries),
                committed_at: Some(0),
                least_ts: Some(0),
                greatest_ts: Some(0),
            })
            .collect()
    }

    type Shown = (Range<u64>, bool, bool);

    /// The entries of each span, whether they have a batch and leaf hashes, and what was found.
    fn shown(stored: &[(i64, usize)], rows: &[(i64, i64)]) -> (Vec<Shown>, Vec<String>) {
        let layout = lay_out(&(0..10), 10, &leaves(stored), &batches(rows));
        let spans = layout.spans.iter().map(|span| {
            let hash = layout.stored[usize::try_from(span.range.start).unwrap()];
            (span.range.clone(), span.batch.is_some(), hash.is_some())
        });
        (
            spans.collect(),
            layout.findings.iter().map(|found| format!("{} {}", found.kind, found.from)).collect(),
        )
    }

    #[test]
    fn batches_and_leaf_hashes_that_do_not_fit_are_named_once() {
        let (all, none): ([(i64, usize); 3], [String; 0]) = ([(0, 3), (3, 1), (4, 6)], []);
        let whole = vec![(0..3, true, true), (3..4, true, true), (4..10, true, true)];
        let rows = [(0, 3), (3, 1), (4, 6)];
        assert_eq!(shown(&all, &rows), (whole.clone(), none.to_vec()));
        for (rows, told) in [
            (vec![(0, 3), (3, 1), (4, 5)], "BatchAltered 4"),
            (vec![(0, 3), (3, 2), (4, 6)], "BatchAltered 3"),
            (vec![(0, 3), (2, 1), (4, 6)], "BatchAltered 3"),
            (vec![(0, 3), (3, 1), (8, 6)], "BatchAltered 4"),
            (vec![(0, 3), (3, 1), (4, 6), (7, 1)], "BatchAltered 7"),
        ] {
            assert_eq!(shown(&all, &rows), (whole.clone(), vec![told.to_owned()]), "{rows:?}");
        }
        let gone = vec![(0..3, true, true), (3..4, false, true), (4..10, true, true)];
        assert_eq!(shown(&all, &[(0, 3), (4, 6)]), (gone, vec!["BatchAltered 3".to_owned()]));
        let without = vec![(0..3, true, true), (3..4, true, false), (4..10, true, true)];
        for stored in [vec![(0, 3), (4, 6)], vec![(0, 3), (4, 6), (9, 1)]] {
            let told = vec!["BatchAltered 3".to_owned()];
            assert_eq!(shown(&stored, &rows), (without.clone(), told), "{stored:?}");
        }
        assert_eq!(
            shown(&[(1, 3), (3, 1), (4, 6)], &rows),
            (whole.clone(), vec!["BatchAltered 0".to_owned()])
        );
        // Cut off, or too long: the next row says how many there must be.
        let unknown = vec![(0..3, true, false), (3..4, true, true), (4..10, true, true)];
        for length in [2, 4] {
            let told = vec!["TileAltered 0".to_owned()];
            assert_eq!(shown(&[(0, length), (3, 1), (4, 6)], &rows), (unknown.clone(), told));
        }
        // Nothing at all.
        assert_eq!(shown(&[], &[]), (vec![(0..10, false, false)], none.to_vec()));
    }

    proptest::proptest! {
        #[test]
        fn any_rows_are_laid_out_without_gaps(
            stored in proptest::collection::vec((-3..40_i64, 0..9_usize), 0..9),
            rows in proptest::collection::vec((-3..40_i64, -2..9_i64), 0..9),
            start in 0..12_u64, length in 1..30_u64, tree_until in 0..40_u64,
        ) {
            let (mut stored, mut rows) = (stored, rows);
            stored.sort_unstable();
            stored.dedup_by_key(|row| row.0);
            rows.sort_unstable();
            rows.dedup_by_key(|row| row.0);
            let range = start..start + length;
            let layout = lay_out(&range, tree_until, &leaves(&stored), &batches(&rows));
            let mut at = range.start;
            for span in &layout.spans {
                proptest::prop_assert!(span.range.start == at && span.range.end > at);
                at = span.range.end;
            }
            proptest::prop_assert_eq!((at, layout.stored.len() as u64), (range.end, length));
        }
    }
}
