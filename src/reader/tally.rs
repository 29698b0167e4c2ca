//! Compares entries and batches piece by piece: which numbers have no entry, which have no batch, and which batches overlap.

use serde::{Deserialize, Serialize};

use crate::store::{BatchRow, PIECE, Piece};

/// Numbers of entries that follow each other: from the first to before the second, as `--from-seq` and `--before-seq` of the
/// command say it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SeqRange {
    /// The first of them.
    pub from_seq: u64,
    /// The one after the last of them.
    pub before_seq: u64,
}

impl SeqRange {
    pub(super) fn new(from: i64, before: i64) -> Self {
        let number = |seq: i64| u64::try_from(seq).unwrap_or(0);
        Self { from_seq: number(from), before_seq: number(before.max(from)) }
    }

    /// The number of numbers in the range.
    #[must_use]
    pub fn numbers(&self) -> u64 {
        self.before_seq.saturating_sub(self.from_seq)
    }

    /// Whether all of them are in the other range.
    pub(super) fn is_in(&self, other: &Self) -> bool {
        other.from_seq <= self.from_seq && self.before_seq <= other.before_seq
    }
}

/// The most ranges that are kept; the numbers in all of them are counted.
const KEPT: usize = 10_000;

/// Ranges in ascending order.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges {
    pub(super) kept: Vec<SeqRange>,
    pub(super) numbers: u64,
}

impl Ranges {
    pub(super) fn add(&mut self, from: i64, before: i64) {
        let range = SeqRange::new(from, before);
        if range.numbers() == 0 {
            return;
        }
        self.numbers = self.numbers.saturating_add(range.numbers());
        let room = self.kept.len() < KEPT;
        match self.kept.last_mut() {
            Some(last) if last.before_seq == range.from_seq => last.before_seq = range.before_seq,
            _ if room => self.kept.push(range),
            _ => {}
        }
    }

    /// Takes out the numbers that are in the other ranges. Numbers that were not kept stay counted.
    pub(super) fn without(&self, others: &Self) -> Self {
        let mut left = Self { kept: Vec::new(), numbers: self.numbers };
        let mut others = others.kept.iter().peekable();
        for range in &self.kept {
            let mut from = range.from_seq;
            while let Some(other) = others.peek().filter(|other| other.from_seq < range.before_seq) {
                let (begin, end) = (other.from_seq.max(from), other.before_seq.min(range.before_seq));
                if begin < end {
                    left.kept
                        .extend((from < begin).then_some(SeqRange { from_seq: from, before_seq: begin }));
                    left.numbers -= end - begin;
                    from = end;
                }
                if other.before_seq > range.before_seq {
                    break;
                }
                others.next();
            }
            left.kept.extend((from < range.before_seq).then_some(SeqRange { from_seq: from, ..*range }));
        }
        left
    }
}

/// A part of a ledger that is looked through from its beginning to its end.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The part: from this `seq`, and before this one, which is not beyond the head.
    from: i64,
    before: i64,
    /// The next `seq` of the ledger.
    head: i64,
    /// The positions up to which it was looked through, and up to which batches cover it.
    at: i64,
    covered: i64,
    last_batch: Option<BatchRow>,
    pub(super) batches: u64,
    /// The numbers without an entry, and those without a batch.
    pub(super) holes: Ranges,
    pub(super) uncovered: Ranges,
    /// The numbers that the database gives twice, or not in their order.
    pub(super) disorder: Ranges,
    /// The first numbers of batches that are empty, repeat the entries of another one, or have none of their own.
    pub(super) faulty: Ranges,
    /// The first numbers of batches that were committed more than a second before the one before them.
    pub(super) earlier: Ranges,
    /// The greatest time between `ts` and the commit, in microseconds.
    pub(super) lag: Option<i64>,
}

/// The most that a clock may go backwards from one batch to the next, in microseconds: time servers correct clocks by
/// less.
const MOMENT: i64 = 1_000_000;

impl Tally {
    /// `before` is not beyond `head`.
    pub(super) fn new(from: i64, before: i64, head: i64) -> Self {
        Self { from, before, head, at: from, covered: from, ..Self::default() }
    }

    /// The part that is to be looked at next.
    pub(super) fn next(&self) -> Option<(i64, i64)> {
        (self.at < self.before).then(|| (self.at, self.before.min(self.at.saturating_add(PIECE))))
    }

    /// Whether that part has each number once.
    pub(super) fn is_full((from, before): (i64, i64), piece: &Piece) -> bool {
        let numbers = before - from;
        piece.count == numbers && piece.sum == numbers * (numbers - 1) / 2
    }

    /// Adds the part. `seqs` are the numbers that it has, if it has not each of them once.
    pub(super) fn add(&mut self, (from, before): (i64, i64), piece: &Piece, seqs: Option<&[i64]>) {
        if let Some(seqs) = seqs {
            let mut expected = from;
            for seq in seqs {
                if *seq < expected {
                    self.disorder.add(*seq, seq.saturating_add(1));
                } else {
                    self.holes.add(expected, *seq);
                    expected = seq.saturating_add(1);
                }
            }
            self.holes.add(expected, before);
        }
        for batch in &piece.batches {
            self.add_batch(batch);
        }
        // A head that somebody has raised, or an entry that was moved far away, must not make us look at everything
        // between.
        let next = [piece.next_entry, piece.next_batch].into_iter().flatten().min();
        let next = next.unwrap_or(self.before).clamp(before, self.before);
        self.holes.add(before, next);
        self.at = next;
        if self.at >= self.before {
            self.uncovered.add(self.covered, self.before);
        }
    }

    fn add_batch(&mut self, batch: &BatchRow) {
        if self.last_batch.is_some_and(|last| batch.first_seq <= last.first_seq) {
            return;
        }
        let before = self.last_batch.replace(*batch);
        let end = batch.first_seq.saturating_add(batch.entries.max(0));
        if batch.first_seq < self.from {
            self.covered = self.covered.max(end);
            return;
        }
        self.batches += 1;
        self.uncovered.add(self.covered, batch.first_seq.min(self.before));
        if batch.entries < 1 || batch.first_seq < self.covered || end > self.head {
            self.faulty.add(batch.first_seq, batch.first_seq.saturating_add(1));
        }
        if before.is_some_and(|before| batch.committed_at < before.committed_at.saturating_sub(MOMENT)) {
            self.earlier.add(batch.first_seq, batch.first_seq.saturating_add(1));
        }
        self.covered = self.covered.max(end);
        let lag = batch.committed_at.saturating_sub(batch.least_ts).max(0);
        self.lag = self.lag.max(Some(lag));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Looks through a ledger that has these entries and batches.
    fn tally(entries: &[i64], batches: &[(i64, i64)], (from, before, head): (i64, i64, i64)) -> Tally {
        let mut tally = Tally::new(from, before, head);
        while let Some((begin, end)) = tally.next() {
            let within: Vec<i64> = entries.iter().copied().filter(|seq| (begin..end).contains(seq)).collect();
            let row = |(first_seq, entries): &(i64, i64)| BatchRow {
                first_seq: *first_seq,
                entries: *entries,
                committed_at: 0,
                least_ts: 0,
            };
            let earlier = batches.iter().rev().find(|batch| batch.0 < begin).map(row);
            let starting = batches.iter().filter(|batch| (begin..end).contains(&batch.0)).map(row);
            let piece = Piece {
                count: i64::try_from(within.len()).unwrap(),
                sum: within.iter().map(|seq| seq - begin).sum(),
                next_entry: entries.iter().copied().find(|seq| *seq >= end),
                batches: earlier.into_iter().chain(starting).collect(),
                next_batch: batches.iter().map(|batch| batch.0).find(|first| *first >= end),
            };
            let full = Tally::is_full((begin, end), &piece);
            tally.add((begin, end), &piece, (!full).then_some(&within));
        }
        tally
    }

    fn numbers(ranges: &Ranges) -> Vec<i64> {
        let all = ranges.kept.iter().flat_map(|range| range.from_seq..range.before_seq);
        all.map(u64::cast_signed).collect()
    }

    proptest! {
        #[test]
        fn every_number_without_an_entry_and_every_one_without_a_batch_is_found(
            sizes in proptest::collection::vec(1..5_i64, 0..20),
            gone in proptest::collection::btree_set(0..60_i64, 0..8),
            batches_gone in proptest::collection::btree_set(0..20_usize, 0..4),
            (from, before) in (0..60_i64, 0..60_i64),
        ) {
            let head: i64 = sizes.iter().sum();
            let (from, before) = (from.min(head), before.min(head));
            let entries: Vec<i64> = (0..head).filter(|seq| !gone.contains(seq)).collect();
            let mut batches = Vec::new();
            let mut covered = std::collections::BTreeSet::new();
            let mut first = 0;
            for (index, size) in sizes.iter().enumerate() {
                if !batches_gone.contains(&index) {
                    batches.push((first, *size));
                    covered.extend(first..first + size);
                }
                first += size;
            }
            let tally = tally(&entries, &batches, (from, before, head));
            let holes: Vec<i64> = (from..before).filter(|seq| gone.contains(seq)).collect();
            let uncovered: Vec<i64> = (from..before).filter(|seq| !covered.contains(seq)).collect();
            prop_assert_eq!(numbers(&tally.holes), holes.clone());
            prop_assert_eq!(numbers(&tally.uncovered), uncovered.clone());
            prop_assert_eq!(tally.faulty.numbers + tally.disorder.numbers, 0);
            let only: Vec<i64> = uncovered.into_iter().filter(|seq| !holes.contains(seq)).collect();
            let without = tally.uncovered.without(&tally.holes);
            prop_assert_eq!(without.numbers, only.len() as u64);
            prop_assert_eq!(numbers(&without), only);
        }
    }

    #[test]
    fn a_raised_head_and_an_entry_far_away_are_told_without_a_look_at_each_number_between() {
        let far = i64::MAX / 4;
        let found = tally(&[0, 1, 2, far], &[(0, 3), (far, 1)], (0, far * 2, far * 2));
        assert_eq!(found.holes.kept, [SeqRange::new(3, far), SeqRange::new(far + 1, far * 2)]);
        assert_eq!(found.uncovered.numbers, found.holes.numbers);
        assert_eq!(found.uncovered.without(&found.holes).numbers, 0);
    }

    #[test]
    fn batches_that_overlap_hold_nothing_or_reach_beyond_the_head_are_named() {
        let entries: Vec<i64> = (0..10).collect();
        let found = tally(&entries, &[(0, 4), (2, 2), (4, 0), (5, 9)], (0, 10, 10));
        assert_eq!(numbers(&found.faulty), [2, 4, 5]);
        assert_eq!(numbers(&found.uncovered), [4]);
    }

    #[test]
    fn a_page_of_the_file_in_place_of_another_one_is_found() {
        let mut tally = Tally::new(0, 6, 6);
        let seqs = [0, 1, 0, 1, 4, 5];
        let piece = Piece { count: 6, sum: 11, batches: Vec::new(), ..Piece::default() };
        assert!(!Tally::is_full((0, 6), &piece));
        tally.add((0, 6), &piece, Some(&seqs));
        assert_eq!((numbers(&tally.holes), numbers(&tally.disorder)), (vec![2, 3], vec![0, 1]));
    }
}
