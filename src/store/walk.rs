//! Reads entries in the order of time without an index on `ts`: walks the commit batches from newest to oldest, or from oldest to
//! newest, one time window at a time.
//!
//! A ledger keeps entries in the order of commit, which is nearly the order of time. Each batch has its least and its
//! greatest `ts`. The walk takes batches in the order of their greatest `ts`, newest first. Every entry that is newer than
//! all of the next batch lies in a batch already taken. These entries are a window, and only the batches that reach into
//! the window are read for it.
//!
//! From oldest to newest it is the same walk, in a mirror: times and numbers are complemented on their way in and out, so
//! that the least `ts` of a batch is its greatest.
//!
//! Windows end early for a query with a limit, and they keep the pieces of an export small. They grow where few entries
//! match or where batches overlap, so that the work stays linear.

use std::collections::VecDeque;

/// The most entries found by an index that are all read in one window. Reading them takes some 50 ms.
const FEW_ENTRIES: i64 = 8192;

/// Entries in the first window, which take as long to read.
const FIRST_TARGET: u64 = 8192;

/// The most entries in a window where few of them match. Reading them takes a second or two.
const TARGET_MAX: u64 = 1_000_000;

/// The place of an entry in the order of time: its `ts` and `seq`. Entries of different ledgers may have the same place.
pub(super) type Key = (i64, i64);

/// The most ranges of `seq` in one statement, but at least one of each ledger. If there are more, those with the smallest
/// gaps between them are joined.
const RANGES_MAX: usize = 8;

/// Batches asked for first. The number doubles each time, up to [`BATCHES_MAX`].
const FIRST_BATCHES: u32 = 256;
const BATCHES_MAX: u32 = 16_384;

/// The same for a walk from oldest to newest. No index has the batches in this order, so that each time takes a look at all
/// of them.
const OLDEST_BATCHES_MAX: u32 = 262_144;

/// Batches in one window; each takes some 80 bytes while the window is made. If each window would read much again, the
/// window takes more batches: one for each [`ENTRIES_OF_A_BATCH`] entries of its target.
const WINDOW_BATCHES: u64 = 131_072;
const ENTRIES_OF_A_BATCH: u64 = 64;

/// A batch of entries that were committed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CommittedBatch {
    /// The number that the store gives the ledger of this batch, if there are several ledgers.
    pub(super) ledger: usize,
    pub(super) first_seq: i64,
    pub(super) entries: i64,
    pub(super) least_ts: i64,
    pub(super) greatest_ts: i64,
}

impl CommittedBatch {
    /// The entries of a ledger from `first_seq` on and before `after`, as if they had been committed together, or in three parts
    /// where somebody has given an entry a `seq` so far below 0 that their number could be too great. The last part comes first.
    fn at_any_time(ledger: usize, first_seq: i64, after: i64) -> impl Iterator<Item = Self> {
        let within = |seq: i64| seq.max(first_seq).min(after);
        let part = move |(first_seq, after): (i64, i64)| Self {
            ledger,
            first_seq,
            entries: after.saturating_sub(first_seq),
            least_ts: i64::MIN,
            greatest_ts: i64::MAX,
        };
        let (middle, positive) = (within(first_seq.min(0) / 2), within(0));
        let parts = [(positive, after), (middle, positive), (first_seq, middle)];
        parts.into_iter().filter(|(first_seq, after)| first_seq < after).map(part)
    }

    /// The batch in the mirror, where times and numbers run backwards.
    fn mirrored(self) -> Self {
        Self {
            first_seq: !self.range().last_seq,
            least_ts: !self.greatest_ts,
            greatest_ts: !self.least_ts,
            ..self
        }
    }

    fn range(&self) -> SeqRange {
        let last_seq = self.first_seq.saturating_add(self.entries.saturating_sub(1));
        SeqRange { ledger: self.ledger, first_seq: self.first_seq, last_seq }
    }
}

/// A range of entries in a ledger, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SeqRange {
    pub(super) ledger: usize,
    pub(super) first_seq: i64,
    pub(super) last_seq: i64,
}

impl SeqRange {
    fn entries(&self) -> u64 {
        self.last_seq.saturating_sub(self.first_seq).unsigned_abs() + 1
    }
}

/// The direction of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    LatestFirst,
    EarliestFirst,
}

/// A part of the order of time, and the ranges that can hold its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) order: Order,
    /// The first place beyond the window, in its order.
    pub(super) after: Key,
    /// The first place in the window, in its order.
    pub(super) through: Key,
    /// Ascending and disjoint ranges. Other entries in them belong to other windows.
    pub(super) ranges: Vec<SeqRange>,
    /// The number of rows that are still wanted; `None` if all are.
    pub(super) limit: Option<u64>,
}

impl Window {
    /// The places of its entries: each a bound, and the operator between a place and the bound. A bound beyond which there
    /// is no place is left out.
    pub(super) fn bounds(&self) -> impl Iterator<Item = (&'static str, Key)> {
        let (before, until) = match self.order {
            Order::LatestFirst => (">", "<="),
            Order::EarliestFirst => ("<", ">="),
        };
        let ends = [(i64::MIN, i64::MIN), (i64::MAX, i64::MAX)];
        [(before, self.after), (until, self.through)].into_iter().filter(move |(_, key)| !ends.contains(key))
    }

    /// The window, out of the mirror.
    fn mirrored(self) -> Self {
        let key = |(ts, seq): Key| (!ts, !seq);
        let range =
            |range: SeqRange| SeqRange { first_seq: !range.last_seq, last_seq: !range.first_seq, ..range };
        let mut ranges: Vec<_> = self.ranges.into_iter().map(range).collect();
        ranges.sort_unstable();
        Self { after: key(self.after), through: key(self.through), ranges, ..self }
    }
}

/// The entries that the index of a query's rarest condition finds: see [`AuditQuery::candidates`](crate::AuditQuery::candidates).
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidates {
    /// The number of entries counted, at most [`MOST`](Self::MOST), or fewer for a probe. If it is the most, there may be
    /// more entries.
    pub(super) count: i64,
    /// The least and the greatest `seq` of the entries counted.
    pub(super) least_seq: Option<i64>,
    pub(super) greatest_seq: Option<i64>,
    /// Whether the newest entries were counted.
    pub(super) newest: bool,
}

impl Candidates {
    /// The most entries that are counted.
    pub(super) const MOST: i64 = FEW_ENTRIES + 1;

    /// The `seq` before which all candidates are, in a ledger that ends before `head`.
    pub(super) fn end(&self, head: i64) -> i64 {
        let end = self.greatest_seq.map_or(0, |seq| seq.saturating_add(1));
        if self.newest || self.count <= FEW_ENTRIES { head.min(end) } else { head }
    }

    /// The range that holds all candidates, as one batch of each ledger, if they are few. Then the walk need not read the
    /// commit batches, of which there may be as many as entries.
    pub(super) fn known(&self, ends: impl Iterator<Item = i64>) -> Option<Vec<CommittedBatch>> {
        let first_seq = self.least_seq.unwrap_or(0);
        let batches = |(ledger, end)| CommittedBatch::at_any_time(ledger, first_seq, end);
        (self.count <= FEW_ENTRIES).then(|| ends.enumerate().flat_map(batches).collect())
    }
}

/// The next step of a walk, which its store carries out.
#[derive(Debug)]
pub(super) enum WalkStep {
    /// Reads at most `limit` batches, starting with the one after `after`, for [`know`](Walk::know). Their order is by
    /// greatest `ts`, first `seq` and ledger, all descending; from oldest to newest by least `ts`, first `seq` and ledger, all
    /// ascending.
    Batches {
        after: Option<CommittedBatch>,
        limit: u32,
    },
    /// Reads the rows in this window, in the order of the walk, and passes their number to [`found`](Walk::found).
    Window(Window),
    End,
}

/// A walk over the commit batches, and how far it has come.
#[derive(Debug)]
pub(super) struct Walk {
    order: Order,
    /// The newest place that was in no window yet.
    through: Key,
    one_ledger: bool,
    /// Batches that are known and not yet taken, the next one first.
    known: VecDeque<CommittedBatch>,
    /// The batch to continue after; `None` at the beginning.
    after: Option<CommittedBatch>,
    /// The number of batches to ask for next.
    asked: u32,
    knows_all: bool,
    /// Batches taken that have entries older than every window so far.
    open: Vec<CommittedBatch>,
    /// Batches taken since the last window.
    batches: u64,
    /// Entries in these batches.
    taken: u64,
    /// Entries that the present window reads; earlier windows may have read some of them.
    read: u64,
    /// Entries to take for the next window.
    target: u64,
    /// Rows that are still wanted; `None` if all are.
    left: Option<u64>,
    done: bool,
}

impl Walk {
    /// A walk for at most `limit` rows. If all batches are of one ledger, fewer entries are read twice.
    pub(super) fn new(limit: Option<u32>, one_ledger: bool, order: Order) -> Self {
        let target = limit.map_or(FIRST_TARGET, |limit| FIRST_TARGET.min(u64::from(limit).saturating_mul(2)));
        Self {
            order,
            through: (i64::MAX, i64::MAX),
            one_ledger,
            known: VecDeque::new(),
            after: None,
            asked: FIRST_BATCHES,
            knows_all: false,
            open: Vec::new(),
            batches: 0,
            taken: 0,
            read: 0,
            target: target.max(256),
            left: limit.map(u64::from),
            done: false,
        }
    }

    /// The next step to carry out.
    pub(super) fn next(&mut self) -> WalkStep {
        loop {
            if self.done || self.left == Some(0) {
                return WalkStep::End;
            }
            if self.known.is_empty() && !self.knows_all {
                return WalkStep::Batches { after: self.after, limit: self.asked };
            }
            let most = WINDOW_BATCHES.max(self.target / ENTRIES_OF_A_BATCH);
            if self.taken < self.target
                && self.batches < most
                && let Some(batch) = self.known.pop_front()
            {
                self.batches += 1;
                self.taken = self.taken.saturating_add(batch.entries.unsigned_abs());
                self.open.push(batch);
                continue;
            }
            self.done = self.known.is_empty();
            match self.window() {
                Some(window) if self.order == Order::EarliestFirst => {
                    return WalkStep::Window(window.mirrored());
                }
                Some(window) => return WalkStep::Window(window),
                None => self.found(0),
            }
        }
    }

    /// Takes in the batches asked for by [`WalkStep::Batches`], unwanted ones left out, and the batch to continue after;
    /// `None` if these were the last.
    pub(super) fn know(&mut self, batches: Vec<CommittedBatch>, after: Option<CommittedBatch>) {
        self.knows_all = after.is_none();
        self.after = after;
        (self.known, self.asked) = match self.order {
            Order::LatestFirst => (batches.into(), self.asked.saturating_mul(2).min(BATCHES_MAX)),
            Order::EarliestFirst => (
                batches.into_iter().map(CommittedBatch::mirrored).collect(),
                self.asked.saturating_mul(16).min(OLDEST_BATCHES_MAX),
            ),
        };
    }

    /// The window of all entries that are newer than the next batch, or of all that are left if there is no next batch.
    /// `None` if the window would be empty.
    fn window(&mut self) -> Option<Window> {
        let after = match self.known.front() {
            None => (i64::MIN, i64::MIN),
            // In one ledger, all batches with the same ts and a greater seq were taken.
            Some(next) if self.one_ledger => (next.greatest_ts, next.range().last_seq),
            Some(next) => (next.greatest_ts, i64::MAX),
        };
        if after >= self.through || self.open.is_empty() {
            return None;
        }
        let through = std::mem::replace(&mut self.through, after);
        let ranges = ranges(&self.open);
        self.read = ranges.iter().map(SeqRange::entries).fold(0, u64::saturating_add);
        self.open.retain(|batch| (batch.least_ts, batch.first_seq) <= after);
        Some(Window { order: self.order, after, through, ranges, limit: self.left })
    }

    /// Takes in the number of rows that the last window had, and sets the size of the next one.
    pub(super) fn found(&mut self, rows: u64) {
        self.left = self.left.map(|left| left.saturating_sub(rows));
        if rows < self.read / 8 {
            self.target = self.target.saturating_mul(4).min(TARGET_MAX.max(self.target));
        } else if rows > FIRST_TARGET {
            self.target = FIRST_TARGET;
        }
        // Batches that overlap several windows are read once per window. Widen the next window, so that re-reading stays a
        // bounded share of the work.
        self.target = self.target.max(self.read.saturating_sub(self.taken).saturating_mul(2));
        (self.batches, self.taken, self.read) = (0, 0, 0);
    }
}

/// The ranges of the batches. Ranges that touch are joined, and then the closest ones, until there are at most
/// [`RANGES_MAX`].
fn ranges(batches: &[CommittedBatch]) -> Vec<SeqRange> {
    let mut all: Vec<SeqRange> = batches.iter().map(CommittedBatch::range).collect();
    all.sort_unstable();
    let of_ledgers = || all.chunk_by(|before, after| before.ledger == after.ledger);
    let most = (RANGES_MAX / of_ledgers().count().max(1)).max(1);
    of_ledgers().flat_map(|all| joined(all, most)).collect()
}

/// Joins ascending ranges of one ledger, the closest ones first, until there are at most `most`.
fn joined(all: &[SeqRange], most: usize) -> Vec<SeqRange> {
    let gap = |before: &SeqRange, after: &SeqRange| after.first_seq.saturating_sub(before.last_seq);
    let mut gaps: Vec<i64> = all.iter().zip(all.iter().skip(1)).map(|(a, b)| gap(a, b)).collect();
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    // The widest gap over which ranges are joined.
    let joined = gaps.get(most - 1).copied().unwrap_or(1).max(1);
    let mut ranges: Vec<SeqRange> = Vec::new();
    for range in all {
        match ranges.last_mut() {
            Some(last) if gap(last, range) <= joined => last.last_seq = last.last_seq.max(range.last_seq),
            _ => ranges.push(*range),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batches() -> impl Strategy<Value = Vec<(usize, Vec<i64>)>> {
        let times = prop_oneof![
            // Nearly in order, all equal, or in any order.
            (0..50_i64).prop_flat_map(|base| proptest::collection::vec(base..base + 3, 1..12)),
            proptest::collection::vec(Just(7_i64), 1..12),
            proptest::collection::vec(-5..60_i64, 1..12),
        ];
        // Small batches at very different times give more ranges than a statement takes, with other batches' entries between
        // them.
        let apart = (prop_oneof![Just(0_i64), Just(50), Just(100)], 1..4_usize, 0..3_i64);
        let apart = apart.prop_map(|(base, entries, more)| vec![base + more; entries]);
        // A batch at the beginning reaches to the end of time, and full batches follow.
        let reaching = (2..60_i64, 40..200_usize).prop_map(|(batches, entries)| {
            let mut all = vec![(0, vec![0, i64::MAX]), (1, vec![0, i64::MAX])];
            all.extend((0..batches).map(|n| (usize::try_from(n % 2).unwrap(), vec![n; entries])));
            all
        });
        prop_oneof![
            proptest::collection::vec((0..3_usize, times), 0..30),
            proptest::collection::vec((0..3_usize, apart), 0..60),
            reaching,
        ]
    }

    const UNWANTED: usize = 2;

    fn in_order(entries: &mut [(i64, i64, usize)], order: Order) {
        entries.sort_unstable_by_key(|(ts, seq, ledger)| match order {
            Order::LatestFirst => (!*ts, !*seq, *ledger),
            Order::EarliestFirst => (*ts, *seq, *ledger),
        });
    }

    /// Walks over the batches. Returns the entries, as `(ts, seq, ledger)`, in the order in which the walk meets them, and
    /// the number of entries read for that.
    fn walk(
        batches: &[(usize, Vec<i64>)],
        limit: Option<u32>,
        target: u64,
        asked: u32,
        (one_ledger, order): (bool, Order),
    ) -> (Vec<(i64, i64, usize)>, u64) {
        let (mut next_seq, mut entries, mut all) = ([0; 3], Vec::new(), Vec::new());
        for (ledger, times) in batches {
            let seq = &mut next_seq[*ledger];
            all.push(CommittedBatch {
                ledger: *ledger,
                first_seq: *seq,
                entries: i64::try_from(times.len()).unwrap(),
                least_ts: *times.iter().min().unwrap(),
                greatest_ts: *times.iter().max().unwrap(),
            });
            for ts in times {
                entries.push((*ts, *seq, *ledger));
                *seq += 1;
            }
        }
        let key = |batch: &CommittedBatch| match order {
            Order::LatestFirst => (!batch.greatest_ts, !batch.first_seq, !batch.ledger),
            Order::EarliestFirst => (batch.least_ts, batch.first_seq, batch.ledger),
        };
        all.sort_by_key(key);
        let mut walk = Walk { asked, target, ..Walk::new(limit, one_ledger, order) };
        let (mut met, mut read) = (Vec::new(), 0);
        loop {
            match walk.next() {
                WalkStep::Batches { after, limit } => {
                    let left = all.iter().filter(|batch| after.is_none_or(|after| key(batch) > key(&after)));
                    let batches: Vec<_> = left.take(limit as usize).copied().collect();
                    let last = batches.last().copied().filter(|_| batches.len() == limit as usize);
                    let wanted = batches.into_iter().filter(|batch| batch.ledger != UNWANTED).collect();
                    walk.know(wanted, last);
                }
                WalkStep::Window(window) => {
                    read += window.ranges.iter().map(SeqRange::entries).sum::<u64>();
                    let within = |(ts, seq, ledger): &(i64, i64, usize)| {
                        window.bounds().all(|(than, bound)| match than {
                            ">" => (*ts, *seq) > bound,
                            "<=" => (*ts, *seq) <= bound,
                            "<" => (*ts, *seq) < bound,
                            _ => (*ts, *seq) >= bound,
                        }) && window.ranges.iter().any(|range| {
                            range.ledger == *ledger && (range.first_seq..=range.last_seq).contains(seq)
                        })
                    };
                    let mut rows: Vec<_> = entries.iter().copied().filter(within).collect();
                    in_order(&mut rows, order);
                    rows.truncate(window.limit.map_or(usize::MAX, |limit| limit.try_into().unwrap()));
                    walk.found(rows.len() as u64);
                    met.extend(rows);
                }
                WalkStep::End => return (met, read),
            }
        }
    }

    proptest! {
        #[test]
        fn a_walk_meets_every_entry_once_in_its_order_and_reads_few_twice(
            batches in batches(),
            limit in proptest::option::of(0..100_u32),
            target in 1..40_u64,
            asked in 1..6_u32,
            one_ledger in any::<bool>(),
            earliest in any::<bool>(),
        ) {
            let order = if earliest { Order::EarliestFirst } else { Order::LatestFirst };
            let mut batches = batches;
            if one_ledger {
                for (ledger, _) in &mut batches {
                    *ledger = 0;
                }
            }
            let mut next_seq = [0; 3];
            let mut expected = Vec::new();
            for (ledger, times) in &batches {
                for ts in times {
                    expected.push((*ts, next_seq[*ledger], *ledger));
                    next_seq[*ledger] += 1;
                }
            }
            expected.retain(|(_, _, ledger)| *ledger != UNWANTED);
            in_order(&mut expected, order);
            expected.truncate(limit.map_or(usize::MAX, |limit| limit as usize));
            let (met, read) = walk(&batches, limit, target, asked, (one_ledger, order));
            prop_assert_eq!(met, expected);
            // A window reads at most half as many other windows' entries as the next window takes.
            let entries: u64 = batches.iter().map(|(_, times)| times.len() as u64).sum();
            prop_assert!(2 * read <= 5 * entries, "{} of {} read", read, entries);
        }

        #[test]
        fn candidates_are_all_before_their_end_and_in_their_known_range(
            seqs in proptest::collection::btree_set(0..30_000_i64, 0..40),
            head in 0..30_000_i64,
            newest in any::<bool>(),
            more in any::<bool>(),
        ) {
            // If there are more than are counted, the newest are counted, or any others.
            let counted: Vec<i64> = seqs.iter().copied().rev().skip(usize::from(more && !newest)).collect();
            let candidates = Candidates {
                count: if more { Candidates::MOST } else { i64::try_from(counted.len()).unwrap() },
                least_seq: counted.iter().min().copied(),
                greatest_seq: counted.iter().max().copied(),
                newest,
            };
            let end = candidates.end(head);
            prop_assert!(end <= head && seqs.iter().all(|seq| *seq >= head || *seq < end));
            let known = candidates.known([end].into_iter());
            prop_assert_eq!(known.is_some(), !more);
            if !more || newest {
                prop_assert_eq!(end, head.min(seqs.last().map_or(0, |seq| seq + 1)));
            }
            if let Some(batches) = known {
                let within = |seq: &i64| batches.iter().any(|batch| (batch.range().first_seq..=batch.range().last_seq).contains(seq));
                prop_assert!(seqs.iter().all(|seq| *seq >= head || within(seq)));
                prop_assert!(batches.iter().all(|batch| Some(&batch.first_seq) == seqs.first() && batch.range().last_seq < end));
            }
        }

        #[test]
        fn a_number_that_somebody_has_changed_is_found_among_those_that_are_known(
            least in prop_oneof![Just(i64::MIN), Just(i64::MIN + 1), Just(-1), any::<i64>()],
            greatest in prop_oneof![Just(i64::MAX), Just(i64::MIN), Just(0), any::<i64>()],
            head in prop_oneof![Just(i64::MAX), Just(0), Just(i64::MIN), any::<i64>()],
            seq: i64,
        ) {
            let (least, greatest) = (least.min(greatest), least.max(greatest));
            let candidates = Candidates { count: 3, least_seq: Some(least), greatest_seq: Some(greatest), newest: true };
            let end = candidates.end(head);
            let batches = candidates.known([end].into_iter()).unwrap();
            for seq in [least, greatest, seq.max(least).min(greatest)] {
                let is_within = batches.iter().any(|batch| batch.range().first_seq <= seq && seq <= batch.range().last_seq);
                prop_assert_eq!(is_within, seq < end);
            }
            for order in [Order::LatestFirst, Order::EarliestFirst] {
                let mut walk = Walk::new(None, true, order);
                walk.know(batches.clone(), None);
                while let WalkStep::Window(_) = walk.next() {
                    walk.found(0);
                }
            }
        }

        #[test]
        fn ranges_are_few_disjoint_and_hold_every_batch(
            starts in proptest::collection::btree_map((0..3_usize, 0..100_000_i64), 1..50_i64, 0..40),
        ) {
            let mut end = (0, -1);
            let batches: Vec<CommittedBatch> = starts
                .into_iter()
                .filter_map(|((ledger, first_seq), entries)| {
                    let batch = CommittedBatch { ledger, first_seq, entries, least_ts: 0, greatest_ts: 0 };
                    ((ledger, first_seq) > end).then(|| { end = (ledger, batch.range().last_seq); batch })
                })
                .collect();
            let ranges = ranges(&batches);
            prop_assert!(ranges.len() <= RANGES_MAX);
            prop_assert!(ranges.windows(2).all(|pair| (pair[0].ledger, pair[0].last_seq) < (pair[1].ledger, pair[1].first_seq)));
            for batch in &batches {
                let holds = |range: &SeqRange| {
                    range.ledger == batch.ledger
                        && range.first_seq <= batch.first_seq
                        && batch.range().last_seq <= range.last_seq
                };
                prop_assert!(ranges.iter().any(holds));
            }
        }
    }
}
