//! The queue in memory: bounded in entries and in bytes, and lost with the process.

use std::{
    collections::VecDeque,
    io, mem,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use super::{
    contract::{Appended, Counts, Outcome, Queue},
    gap::{Gap, Refused},
    records::{Block, Records},
};
use crate::platform::lock;

/// Size in bytes at which a block is sealed and the next one begins. Large enough that allocation is rare, small
/// enough that acknowledged memory is returned in small steps.
const BLOCK_BYTES: usize = 256 * 1024;

/// Number of emptied blocks that are kept for further records (4 MiB): fresh memory costs a page fault every twelve
/// events.
const SPARE_BLOCKS: usize = 16;

/// A queue that holds its records in blocks of memory.
#[derive(Debug)]
pub(crate) struct MemoryQueue {
    entries_max: u64,
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Blocks to which nothing is appended any more, oldest first.
    sealed: VecDeque<Arc<Block>>,
    /// The block that records are appended to; it follows the sealed ones.
    filling: Block,
    /// Emptied blocks, for further records.
    spare: Vec<Block>,
    /// Position before the first record of the oldest block.
    first: u64,
    counts: Counts,
    wake_at: Option<u64>,
    gap: Option<Gap>,
}

impl MemoryQueue {
    pub(crate) fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self { entries_max: entries_max as u64, bytes_max, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn seal(&mut self) {
        if !self.filling.ends.is_empty() {
            // Reserve as much for the next block as this one used: little while few records arrive.
            let Block { bytes, ends, .. } = &self.filling;
            let (bytes, ends) = (bytes.len(), ends.len());
            let new =
                || Block { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(ends), since: None };
            let next = self.spare.pop().unwrap_or_else(new);
            self.sealed.push_back(Arc::new(mem::replace(&mut self.filling, next)));
        }
    }

    fn append(&mut self, record: &[u8]) -> Appended {
        let pending = self.counts.pending();
        if self.filling.bytes.len() + record.len() > BLOCK_BYTES {
            self.seal();
        }
        if self.filling.ends.is_empty() {
            self.filling.since = Some(Instant::now());
        }
        self.filling.bytes.extend_from_slice(record);
        let end = self.filling.bytes.len();
        self.filling.ends.push(end);
        self.counts.bytes += record.len();
        self.counts.appended += 1;
        let wake = self.wake_at.is_some_and(|at| pending + 1 >= at);
        if wake {
            self.wake_at = None;
        }
        Appended { position: self.counts.appended, wake, upkeep: false }
    }

    fn counts(&self) -> Counts {
        let oldest = self.sealed.front().map_or(self.filling.since, |block| block.since);
        Counts { oldest: oldest.filter(|_| self.counts.pending() > 0), ..self.counts }
    }
}

impl Queue for MemoryQueue {
    fn append(
        &self,
        record: &[u8],
        _patience: Duration,
        accepted: &mut dyn FnMut(u64),
    ) -> Result<Appended, Refused> {
        let mut state = self.lock();
        if state.counts.closed {
            return Err(Refused::Closed);
        }
        let pending = state.counts.pending();
        // A record that is larger than the bound itself is accepted when the queue is empty.
        let too_many_bytes = state.counts.bytes + record.len() > self.bytes_max && pending > 0;
        if pending >= self.entries_max || too_many_bytes {
            return Err(Refused::Full);
        }
        accepted(state.counts.appended + 1);
        Ok(state.append(record))
    }

    fn reject(&self, why: Refused) {
        let mut state = self.lock();
        state.counts.rejected.count(why);
        Gap::widen(&mut state.gap, why);
    }

    fn report_gap(&self) -> Option<Appended> {
        let mut state = self.lock();
        let gap = state.gap.take()?;
        state.counts.gaps += 1;
        Some(state.append(&gap.record(None)))
    }

    fn read(&self, from: u64, count: usize, bytes: usize) -> io::Result<Records> {
        let mut state = self.lock();
        state.seal();
        let mut records = Records::default();
        let (mut block_from, mut bytes_left) = (state.first, bytes);
        for block in &state.sealed {
            let block_until = block_from + block.ends.len() as u64;
            if block_until > from {
                let start = usize::try_from(from.saturating_sub(block_from)).unwrap_or(usize::MAX);
                let mut end = start;
                let taken = |end: usize| records.len() + (end - start);
                while end < block.ends.len() && taken(end) < count {
                    let size = block.record(end).len();
                    if size > bytes_left && taken(end) > 0 {
                        break;
                    }
                    bytes_left = bytes_left.saturating_sub(size);
                    end += 1;
                }
                records.push_part(Arc::clone(block), start..end);
                if end < block.ends.len() {
                    break;
                }
            }
            block_from = block_until;
        }
        Ok(records)
    }

    fn ack(&self, upto: u64, outcome: Outcome) {
        let mut state = self.lock();
        let State { sealed, first, counts, spare, .. } = &mut *state;
        let mut block_from = *first;
        for block in sealed.iter() {
            let until = block_from + block.ends.len() as u64;
            let done = |position: u64| {
                usize::try_from(position.clamp(block_from, until) - block_from).unwrap_or(block.ends.len())
            };
            let (before, after) = (block.start(done(counts.acknowledged)), block.start(done(upto)));
            counts.bytes = counts.bytes.saturating_sub(after.saturating_sub(before));
            block_from = until;
            if block_from >= upto {
                break;
            }
        }
        counts.acknowledged = upto;
        counts.outcome.add(outcome);
        while let Some(block) = sealed.front()
            && *first + block.ends.len() as u64 <= upto
        {
            *first += block.ends.len() as u64;
            if let Some(mut block) = sealed.pop_front().and_then(Arc::into_inner)
                && spare.len() < SPARE_BLOCKS
                && block.bytes.capacity() <= 2 * BLOCK_BYTES
            {
                block.bytes.clear();
                block.ends.clear();
                spare.push(block);
            }
        }
    }

    fn recover(&self, outcome: Outcome) {
        self.lock().counts.recover(outcome);
    }

    fn wake_at(&self, pending: u64) -> Counts {
        let mut state = self.lock();
        state.wake_at = Some(pending);
        state.counts()
    }

    fn close(&self) {
        self.lock().counts.closed = true;
    }

    fn counts(&self) -> Counts {
        self.lock().counts()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn committed(count: u64) -> Outcome {
        Outcome { committed: count, ..Outcome::default() }
    }

    #[test]
    fn a_full_queue_refuses_until_something_is_acknowledged() {
        let queue = MemoryQueue::new(2, 1000);
        queue.offer(b"a").unwrap();
        queue.offer(b"b").unwrap();
        assert_eq!(queue.offer(b"c").unwrap_err(), Refused::Full);
        queue.read(0, 1, 1000).unwrap();
        queue.ack(1, committed(1));
        assert_eq!(queue.offer(b"c").unwrap().position, 3);
    }

    #[test]
    fn bytes_are_bounded_but_one_large_record_passes_an_empty_queue() {
        let queue = MemoryQueue::new(100, 10);
        queue.offer(&[0; 50]).unwrap();
        assert_eq!(queue.offer(b"x").unwrap_err(), Refused::Full);
        queue.read(0, 9, 1).unwrap();
        queue.ack(1, committed(1));
        assert_eq!(queue.counts().bytes, 0);
        queue.offer(b"x").unwrap();
    }

    #[test]
    fn outcomes_add_up_and_the_age_of_the_oldest_record_is_known_while_one_is_pending() {
        let queue = MemoryQueue::new(100, 1000);
        assert!(queue.counts().oldest.is_none());
        let before = Instant::now();
        for _ in 0..9 {
            queue.offer(b"x").unwrap();
        }
        assert!(queue.counts().oldest.is_some_and(|oldest| oldest >= before && oldest <= Instant::now()));
        queue.read(0, 9, 1000).unwrap();
        assert!(queue.counts().oldest.is_some());
        for upto in [4, 9] {
            queue.ack(upto, Outcome { committed: 1, quarantined: 2, damaged: 3, malformed: 4, gaps: 5 });
        }
        let counts = queue.counts();
        assert!(counts.oldest.is_none());
        let Outcome { committed, quarantined, damaged, malformed, gaps } = counts.outcome;
        assert_eq!((committed, quarantined, damaged, malformed, gaps), (2, 4, 6, 8, 10));
    }

    #[test]
    fn only_the_append_that_reaches_the_mark_asks_for_a_wake_up() {
        let queue = MemoryQueue::new(100, 1000);
        queue.wake_at(2);
        let wakes: Vec<bool> = (0..4).map(|_| queue.offer(b"x").unwrap().wake).collect();
        assert_eq!(wakes, [false, true, false, false]);
    }

    #[test]
    fn a_closed_queue_still_returns_its_records() {
        let queue = MemoryQueue::new(100, 1000);
        queue.offer(b"x").unwrap();
        queue.close();
        assert_eq!(queue.offer(b"y").unwrap_err(), Refused::Closed);
        assert_eq!(queue.read(0, 10, 1000).unwrap().records().collect::<Vec<_>>(), [b"x"]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Append(Vec<u8>),
        Read { ahead: u64, count: usize, bytes: usize },
        Ack { count: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => prop_oneof![0..40_usize, Just(BLOCK_BYTES / 2), Just(BLOCK_BYTES + 1)]
                .prop_map(|size| Step::Append(vec![u8::try_from(size % 251).unwrap(); size])),
            2 => (0..5_u64, 1..8_usize, 1..400_000_usize)
                .prop_map(|(ahead, count, bytes)| Step::Read { ahead, count, bytes }),
            2 => (1..6_u64).prop_map(|count| Step::Ack { count }),
        ]
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_list(steps in proptest::collection::vec(step(), 1..80)) {
            let queue = MemoryQueue::new(1000, usize::MAX);
            let (mut list, mut acked) = (Vec::<Vec<u8>>::new(), 0_u64);
            for step in steps {
                match step {
                    Step::Append(record) => {
                        prop_assert_eq!(queue.offer(&record).unwrap().position, list.len() as u64 + 1);
                        list.push(record);
                    }
                    Step::Read { ahead, count, bytes } => {
                        let from = (acked + ahead).min(list.len() as u64);
                        let batch = queue.read(from, count, bytes).unwrap();
                        let records: Vec<&[u8]> = batch.records().collect();
                        prop_assert_eq!(batch.len(), records.len());
                        let there = list.get(usize::try_from(from).unwrap()..).unwrap();
                        prop_assert!(records.len() <= count && records.len() <= there.len());
                        prop_assert!(!records.is_empty() || there.is_empty());
                        prop_assert!(records.iter().zip(there).all(|(got, want)| got == want));
                        let size: usize = records.iter().map(|record| record.len()).sum();
                        prop_assert!(size <= bytes.max(records.first().map_or(0, |first| first.len())));
                    }
                    Step::Ack { count } => {
                        acked = (acked + count).min(list.len() as u64);
                        queue.read(acked, 1, 1).unwrap();
                        queue.ack(acked, committed(0));
                    }
                }
                let counts = queue.counts();
                let waiting = list.get(usize::try_from(acked).unwrap()..).unwrap();
                prop_assert_eq!(counts.pending(), waiting.len() as u64);
                prop_assert_eq!(counts.bytes, waiting.iter().map(Vec::len).sum::<usize>());
            }
        }
    }
}
