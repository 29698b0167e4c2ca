//! Reading by time without an index on time: from the newest batches to the oldest, a window of time at once.
//!
//! Entries are kept in the order of commit, which is nearly the order of time. Each batch knows its least and
//! greatest `ts`. Taking batches by their greatest `ts`, newest first, every entry that is newer than the
//! greatest `ts` of the next batch lies in one that was already taken: that is a window, and only the batches
//! that reach into it are read. Windows end early for a query with a limit, keep exports in small pieces, and
//! grow where little matches or where batches overlap, so that the work stays linear.

/// Entries that the first window takes in: read in some 50 ms.
const FIRST_TARGET: u64 = 8192;

/// Ranges of `seq` in one statement. More are joined over the smallest gaps.
const RANGES_MAX: usize = 8;

/// What is known of one batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    pub(super) first_seq: i64,
    pub(super) entries: i64,
    pub(super) least_ts: i64,
    pub(super) greatest_ts: i64,
}

impl Batch {
    fn last_seq(&self) -> i64 {
        self.first_seq.saturating_add(self.entries - 1)
    }
}

/// A part of the time, ends included, and where in the ledger its entries can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) least_ts: i64,
    pub(super) greatest_ts: i64,
    /// Ascending, disjoint, ends included.
    pub(super) seqs: Vec<(i64, i64)>,
}

/// How far a walk has come.
#[derive(Debug)]
pub(super) struct Walk {
    /// Entries newer than this are in windows before.
    greatest_ts: i64,
    /// Batches taken that reach below every window so far.
    open: Vec<Batch>,
    taken: u64,
    target: u64,
}

impl Walk {
    pub(super) fn new(limit: Option<u32>) -> Self {
        let target = limit.map_or(FIRST_TARGET, |limit| FIRST_TARGET.min(u64::from(limit).saturating_mul(2)));
        Self { greatest_ts: i64::MAX, open: Vec::new(), taken: 0, target: target.max(256) }
    }

    /// Whether more batches should be taken before the next window.
    pub(super) fn wants_more(&self) -> bool {
        self.taken < self.target
    }

    /// Takes the batch with the greatest `ts` of those not yet taken.
    pub(super) fn take(&mut self, batch: Batch) {
        self.taken = self.taken.saturating_add(batch.entries.unsigned_abs());
        self.open.push(batch);
    }

    /// The window down to, but without, the greatest `ts` of the next batch, if there is a next one. None if no
    /// time lies in it.
    pub(super) fn window(&mut self, next: Option<&Batch>) -> Option<Window> {
        let least_ts = next.map_or(i64::MIN, |next| next.greatest_ts.saturating_add(1));
        if least_ts > self.greatest_ts {
            return None;
        }
        let window = Window { least_ts, greatest_ts: self.greatest_ts, seqs: ranges(&self.open) };
        self.open.retain(|batch| batch.least_ts < least_ts);
        self.greatest_ts = least_ts.saturating_sub(1);
        Some(window)
    }

    /// Learns from the window before: how many of the entries it took in were found.
    pub(super) fn found(&mut self, rows: u64) {
        if rows < self.taken / 8 {
            self.target = self.target.saturating_mul(4);
        } else if rows > FIRST_TARGET {
            self.target = FIRST_TARGET;
        }
        // What stays open is read again with the next window: let that be worth it.
        let open: u64 = self.open.iter().map(|batch| batch.entries.unsigned_abs()).sum();
        self.target = self.target.max(open.saturating_mul(2));
        self.taken = 0;
    }
}

/// The batches' ranges of `seq`, joined where they touch, and beyond that until they are few.
fn ranges(batches: &[Batch]) -> Vec<(i64, i64)> {
    let mut all: Vec<(i64, i64)> = batches.iter().map(|batch| (batch.first_seq, batch.last_seq())).collect();
    all.sort_unstable();
    let gap = |before: (i64, i64), after: (i64, i64)| after.0.saturating_sub(before.1);
    let mut gaps: Vec<i64> = all.iter().zip(all.iter().skip(1)).map(|(a, b)| gap(*a, *b)).collect();
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    // Gaps up to this wide are joined over.
    let joined = gaps.get(RANGES_MAX - 1).copied().unwrap_or(1).max(1);
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for range in all {
        match ranges.last_mut() {
            Some(last) if gap(*last, range) <= joined => last.1 = last.1.max(range.1),
            _ => ranges.push(range),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batches() -> impl Strategy<Value = Vec<Vec<i64>>> {
        let times = prop_oneof![
            // Nearly in order, all alike, and anyhow.
            (0..50_i64).prop_flat_map(|base| proptest::collection::vec(base..base + 3, 1..12)),
            proptest::collection::vec(Just(7_i64), 1..12),
            proptest::collection::vec(-5..60_i64, 1..12),
        ];
        proptest::collection::vec(times, 0..30)
    }

    /// Walks over the batches and returns the entries, as `(ts, seq)`, in the order in which it meets them.
    fn walk(batches: &[Vec<i64>], limit: Option<u32>, target: u64) -> Vec<(i64, i64)> {
        let (mut seq, mut entries, mut left) = (0, Vec::new(), Vec::new());
        for times in batches {
            left.push(Batch {
                first_seq: seq,
                entries: i64::try_from(times.len()).unwrap(),
                least_ts: *times.iter().min().unwrap(),
                greatest_ts: *times.iter().max().unwrap(),
            });
            for ts in times {
                entries.push((*ts, seq));
                seq += 1;
            }
        }
        left.sort_by_key(|batch| (batch.greatest_ts, batch.first_seq));
        let (mut walk, mut met) = (Walk::new(limit), Vec::new());
        walk.target = target;
        loop {
            while walk.wants_more()
                && let Some(batch) = left.pop()
            {
                walk.take(batch);
            }
            if let Some(window) = walk.window(left.last()) {
                let within = |(ts, seq): &(i64, i64)| {
                    (window.least_ts..=window.greatest_ts).contains(ts)
                        && window.seqs.iter().any(|(first, last)| (first..=last).contains(&seq))
                };
                let mut rows: Vec<(i64, i64)> = entries.iter().copied().filter(within).collect();
                rows.sort_unstable_by(|a, b| b.cmp(a));
                walk.found(rows.len() as u64);
                met.extend(rows);
            } else {
                walk.found(0);
            }
            if left.is_empty() && walk.greatest_ts == i64::MIN.saturating_sub(1) {
                return met;
            }
        }
    }

    proptest! {
        #[test]
        fn a_walk_meets_every_entry_once_newest_first(
            batches in batches(), limit in proptest::option::of(0..100_u32), target in 1..40_u64,
        ) {
            let mut expected: Vec<(i64, i64)> =
                batches.iter().flatten().copied().zip(0..).collect();
            expected.sort_unstable_by(|a, b| b.cmp(a));
            prop_assert_eq!(walk(&batches, limit, target), expected);
        }

        #[test]
        fn ranges_are_few_disjoint_and_hold_every_batch(
            starts in proptest::collection::btree_map(0..100_000_i64, 1..50_i64, 0..40),
        ) {
            let mut end = -1;
            let batches: Vec<Batch> = starts
                .into_iter()
                .filter_map(|(first_seq, entries)| {
                    let batch = Batch { first_seq, entries, least_ts: 0, greatest_ts: 0 };
                    (first_seq > end).then(|| { end = batch.last_seq(); batch })
                })
                .collect();
            let ranges = ranges(&batches);
            prop_assert!(ranges.len() <= RANGES_MAX);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
            for batch in &batches {
                prop_assert!(ranges.iter().any(|(a, b)| *a <= batch.first_seq && batch.last_seq() <= *b));
            }
        }
    }
}
