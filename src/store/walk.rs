//! Reading by time without an index on time: from the newest batches to the oldest, a window of time at once.
//!
//! Entries of a ledger are kept in the order of commit, which is nearly the order of time. Each batch knows its least and
//! greatest `ts`. Taking batches by their greatest `ts`, newest first, every entry that comes before all of the next batch
//! lies in one that was already taken: that is a window, and only the batches that reach into it are read. Windows end
//! early for a query with a limit, keep exports in small pieces, and grow where little matches or where batches overlap, so
//! that the work stays linear.

use std::collections::VecDeque;

/// If an index finds no more than this, they are all in one window: read in some 50 ms.
const FEW: i64 = 8192;

/// Entries that the first window takes in: read in as long.
const FIRST_TARGET: u64 = 8192;

/// As many as this where little matches: looked through in a second or two.
const TARGET_MAX: u64 = 1_000_000;

/// The place of an entry in the order of time: its `ts` and `seq`. Entries of several ledgers may share one.
pub(super) type Key = (i64, i64);

/// Ranges of `seq` in one statement, and one of each ledger at least. More are joined over the smallest gaps.
const RANGES_MAX: usize = 8;

/// Batches asked for at first. Each time it is twice as many, until they are as many as this.
const FIRST_BATCHES: u32 = 256;
const BATCHES_MAX: u32 = 16_384;

/// Batches in one window, of some 80 bytes each while it is made. More where much would be read once more with each window:
/// as many as have this many entries each.
const WINDOW_BATCHES: u64 = 131_072;
const ENTRIES_OF_A_BATCH: u64 = 64;

/// What is known of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// Whose it is, where there are several: whatever number the store gives it.
    pub(super) ledger: usize,
    pub(super) first_seq: i64,
    pub(super) entries: i64,
    pub(super) least_ts: i64,
    pub(super) greatest_ts: i64,
}

impl Batch {
    /// What a ledger holds from this `seq` on and before that one, as if committed at once. None if that is nothing.
    fn at_any_time(ledger: usize, first_seq: i64, after: i64) -> Option<Self> {
        let whole = || Self {
            ledger,
            first_seq,
            entries: after - first_seq,
            least_ts: i64::MIN,
            greatest_ts: i64::MAX,
        };
        (first_seq < after).then(whole)
    }

    fn range(&self) -> Range {
        let last_seq = self.first_seq.saturating_add(self.entries - 1);
        Range { ledger: self.ledger, first_seq: self.first_seq, last_seq }
    }
}

/// Entries of a ledger, ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Range {
    pub(super) ledger: usize,
    pub(super) first_seq: i64,
    pub(super) last_seq: i64,
}

impl Range {
    fn entries(&self) -> u64 {
        self.last_seq.saturating_sub(self.first_seq).unsigned_abs() + 1
    }
}

/// A part of the order of time, and where its entries can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// All of its entries come before this place.
    pub(super) after: Key,
    /// The newest place in it.
    pub(super) through: Key,
    /// Ascending and disjoint. What else lies in them is in other windows.
    pub(super) ranges: Vec<Range>,
    /// Rows that are still wanted.
    pub(super) limit: Option<u64>,
}

/// Those that the index of a query's rarest condition finds: see [`AuditQuery::candidates`](crate::AuditQuery::candidates).
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidates {
    /// At most [`MOST`](Self::MOST): then there may be more. (Fewer where only a look is taken.)
    pub(super) count: i64,
    /// Of those that were counted.
    pub(super) least_seq: Option<i64>,
    pub(super) greatest_seq: Option<i64>,
    /// Whether the newest were counted.
    pub(super) newest: bool,
}

impl Candidates {
    /// How many are counted.
    pub(super) const MOST: i64 = FEW + 1;

    /// Before which `seq` they all are, if the ledger ends before this one.
    pub(super) fn end(&self, head: i64) -> i64 {
        let end = self.greatest_seq.map_or(0, |seq| seq + 1);
        if self.newest || self.count <= FEW { head.min(end) } else { head }
    }

    /// If they are few, where they all are: batches, of which there may be as many as entries, need not be looked at.
    pub(super) fn known(&self, ends: impl Iterator<Item = i64>) -> Option<Vec<Batch>> {
        let first_seq = self.least_seq.unwrap_or(0);
        let batch = |(ledger, end)| Batch::at_any_time(ledger, first_seq, end);
        (self.count <= FEW).then(|| ends.enumerate().filter_map(batch).collect())
    }
}

/// What a walk asks of its store.
#[derive(Debug)]
pub(super) enum Step {
    /// As many batches as this, by greatest `ts`, first `seq` and ledger, all descending, from the one on that comes after
    /// this one: for [`know`](Walk::know).
    Batches {
        after: Option<Batch>,
        limit: u32,
    },
    /// The rows in this window, newest first. How many there were is for [`found`](Walk::found).
    Window(Window),
    End,
}

/// How far a walk has come.
#[derive(Debug)]
pub(super) struct Walk {
    /// The newest place that is not in a window before.
    through: Key,
    one_ledger: bool,
    /// Batches not yet taken, the next one first.
    known: VecDeque<Batch>,
    /// After which one to go on; none at the beginning.
    after: Option<Batch>,
    asked: u32,
    knows_all: bool,
    /// Batches taken that reach below every window so far.
    open: Vec<Batch>,
    /// Batches since the last window and the entries in them, and those that this one reads, some of them once more.
    batches: u64,
    taken: u64,
    read: u64,
    target: u64,
    left: Option<u64>,
    done: bool,
}

impl Walk {
    /// Of one ledger only, a walk reads fewer entries twice.
    pub(super) fn new(limit: Option<u32>, one_ledger: bool) -> Self {
        let target = limit.map_or(FIRST_TARGET, |limit| FIRST_TARGET.min(u64::from(limit).saturating_mul(2)));
        Self {
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

    pub(super) fn next(&mut self) -> Step {
        loop {
            if self.done || self.left == Some(0) {
                return Step::End;
            }
            if self.known.is_empty() && !self.knows_all {
                return Step::Batches { after: self.after, limit: self.asked };
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
                Some(window) => return Step::Window(window),
                None => self.found(0),
            }
        }
    }

    /// Learns of the batches that it has asked for, but for those that are not to be read, and after which one to go on; none
    /// if there are no more.
    pub(super) fn know(&mut self, batches: Vec<Batch>, after: Option<Batch>) {
        self.knows_all = after.is_none();
        self.after = after;
        self.known = batches.into();
        self.asked = self.asked.saturating_mul(2).min(BATCHES_MAX);
    }

    /// The window of all that comes before the next batch, if there is a next one. None if nothing lies in it.
    fn window(&mut self) -> Option<Window> {
        let after = match self.known.front() {
            None => (i64::MIN, i64::MIN),
            // Of those of one ledger with the same ts, all that have a greater seq were taken.
            Some(next) if self.one_ledger => (next.greatest_ts, next.range().last_seq),
            Some(next) => (next.greatest_ts, i64::MAX),
        };
        if after >= self.through || self.open.is_empty() {
            return None;
        }
        let through = std::mem::replace(&mut self.through, after);
        let ranges = ranges(&self.open);
        self.read = ranges.iter().map(Range::entries).sum();
        self.open.retain(|batch| (batch.least_ts, batch.first_seq) <= after);
        Some(Window { after, through, ranges, limit: self.left })
    }

    /// Learns how many rows the window had: of the entries that were read for it, few or many.
    pub(super) fn found(&mut self, rows: u64) {
        self.left = self.left.map(|left| left.saturating_sub(rows));
        if rows < self.read / 8 {
            self.target = self.target.saturating_mul(4).min(TARGET_MAX.max(self.target));
        } else if rows > FIRST_TARGET {
            self.target = FIRST_TARGET;
        }
        // What other windows read too is read again with the next one: let that be worth it.
        self.target = self.target.max(self.read.saturating_sub(self.taken).saturating_mul(2));
        (self.batches, self.taken, self.read) = (0, 0, 0);
    }
}

/// The batches' ranges, joined where they touch, and beyond that until they are few.
fn ranges(batches: &[Batch]) -> Vec<Range> {
    let mut all: Vec<Range> = batches.iter().map(Batch::range).collect();
    all.sort_unstable();
    let of_ledgers = || all.chunk_by(|before, after| before.ledger == after.ledger);
    let most = (RANGES_MAX / of_ledgers().count().max(1)).max(1);
    of_ledgers().flat_map(|all| joined(all, most)).collect()
}

fn joined(all: &[Range], most: usize) -> Vec<Range> {
    let gap = |before: &Range, after: &Range| after.first_seq.saturating_sub(before.last_seq);
    let mut gaps: Vec<i64> = all.iter().zip(all.iter().skip(1)).map(|(a, b)| gap(a, b)).collect();
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    // Gaps up to this wide are joined over.
    let joined = gaps.get(most - 1).copied().unwrap_or(1).max(1);
    let mut ranges: Vec<Range> = Vec::new();
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
            // Nearly in order, all alike, and anyhow.
            (0..50_i64).prop_flat_map(|base| proptest::collection::vec(base..base + 3, 1..12)),
            proptest::collection::vec(Just(7_i64), 1..12),
            proptest::collection::vec(-5..60_i64, 1..12),
        ];
        // Few at very different times, so that there are more ranges than a statement takes, and others' entries between them.
        let apart = (prop_oneof![Just(0_i64), Just(50), Just(100)], 1..4_usize, 0..3_i64);
        let apart = apart.prop_map(|(base, entries, more)| vec![base + more; entries]);
        // One at the beginning that reaches to the end of time, and full ones after it.
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

    /// Walks over the batches and returns the entries, as `(ts, seq, ledger)`, in the order in which it meets them, and how
    /// many were read for that.
    fn walk(
        batches: &[(usize, Vec<i64>)],
        limit: Option<u32>,
        target: u64,
        asked: u32,
        one_ledger: bool,
    ) -> (Vec<(i64, i64, usize)>, u64) {
        let (mut next_seq, mut entries, mut all) = ([0; 3], Vec::new(), Vec::new());
        for (ledger, times) in batches {
            let seq = &mut next_seq[*ledger];
            all.push(Batch {
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
        let key = |batch: &Batch| std::cmp::Reverse((batch.greatest_ts, batch.first_seq, batch.ledger));
        all.sort_by_key(key);
        let mut walk = Walk { asked, target, ..Walk::new(limit, one_ledger) };
        let (mut met, mut read) = (Vec::new(), 0);
        loop {
            match walk.next() {
                Step::Batches { after, limit } => {
                    let left = all.iter().filter(|batch| after.is_none_or(|after| key(batch) > key(&after)));
                    let batches: Vec<_> = left.take(limit as usize).copied().collect();
                    let last = batches.last().copied().filter(|_| batches.len() == limit as usize);
                    let wanted = batches.into_iter().filter(|batch| batch.ledger != UNWANTED).collect();
                    walk.know(wanted, last);
                }
                Step::Window(window) => {
                    read += window.ranges.iter().map(Range::entries).sum::<u64>();
                    let within = |(ts, seq, ledger): &(i64, i64, usize)| {
                        (*ts, *seq) > window.after
                            && (*ts, *seq) <= window.through
                            && window.ranges.iter().any(|range| {
                                range.ledger == *ledger && (range.first_seq..=range.last_seq).contains(seq)
                            })
                    };
                    let mut rows: Vec<_> = entries.iter().copied().filter(within).collect();
                    rows.sort_unstable_by_key(|(ts, seq, ledger)| (std::cmp::Reverse((*ts, *seq)), *ledger));
                    rows.truncate(window.limit.map_or(usize::MAX, |limit| limit.try_into().unwrap()));
                    walk.found(rows.len() as u64);
                    met.extend(rows);
                }
                Step::End => return (met, read),
            }
        }
    }

    proptest! {
        #[test]
        fn a_walk_meets_every_entry_once_newest_first_and_reads_few_twice(
            batches in batches(),
            limit in proptest::option::of(0..100_u32),
            target in 1..40_u64,
            asked in 1..6_u32,
            one_ledger in any::<bool>(),
        ) {
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
            expected.sort_unstable_by_key(|(ts, seq, ledger)| (std::cmp::Reverse((*ts, *seq)), *ledger));
            expected.truncate(limit.map_or(usize::MAX, |limit| limit as usize));
            let (met, read) = walk(&batches, limit, target, asked, one_ledger);
            prop_assert_eq!(met, expected);
            // What a window reads in vain is at most half of what the next one takes.
            let entries: u64 = batches.iter().map(|(_, times)| times.len() as u64).sum();
            prop_assert!(2 * read <= 5 * entries, "{} of {} read", read, entries);
        }

        #[test]
        fn candidates_are_all_before_their_end_and_in_what_is_known_of_them(
            seqs in proptest::collection::btree_set(0..30_000_i64, 0..40),
            head in 0..30_000_i64,
            newest in any::<bool>(),
            more in any::<bool>(),
        ) {
            // Of more than are counted, the newest or any.
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
        fn ranges_are_few_disjoint_and_hold_every_batch(
            starts in proptest::collection::btree_map((0..3_usize, 0..100_000_i64), 1..50_i64, 0..40),
        ) {
            let mut end = (0, -1);
            let batches: Vec<Batch> = starts
                .into_iter()
                .filter_map(|((ledger, first_seq), entries)| {
                    let batch = Batch { ledger, first_seq, entries, least_ts: 0, greatest_ts: 0 };
                    ((ledger, first_seq) > end).then(|| { end = (ledger, batch.range().last_seq); batch })
                })
                .collect();
            let ranges = ranges(&batches);
            prop_assert!(ranges.len() <= RANGES_MAX);
            prop_assert!(ranges.windows(2).all(|pair| (pair[0].ledger, pair[0].last_seq) < (pair[1].ledger, pair[1].first_seq)));
            for batch in &batches {
                let holds = |range: &Range| {
                    range.ledger == batch.ledger
                        && range.first_seq <= batch.first_seq
                        && batch.range().last_seq <= range.last_seq
                };
                prop_assert!(ranges.iter().any(holds));
            }
        }
    }
}
