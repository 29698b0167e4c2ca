//! Where accepted records wait for the flusher: one small trait, so that memory and disk look the same to it.
//!
//! A **position** is the number of records appended before a point in the queue: the first record lies between
//! positions 0 and 1. What is pending is, by definition, what was appended less what was acknowledged; nothing
//! else counts it.

use std::{
    fmt, io,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use super::gap::Rejections;

/// What an emitter does when the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// Wait for room, at most this long, then reject. After one such wait was in vain, further entries are
    /// rejected at once until there is room again, so that a dead database costs an application one delay.
    Block {
        /// The longest wait.
        timeout: Duration,
    },
    /// Reject at once.
    Reject,
}

impl WhenFull {
    /// Whether a wait is never longer than this.
    pub(crate) fn waits_at_most(self, patience: Duration) -> bool {
        match self {
            Self::Block { timeout } => timeout <= patience,
            Self::Reject => true,
        }
    }
}

/// What an accepted entry survives while it waits in a journal.
///
/// What `commit`, `committed` or `flush` confirmed is in the database, and on stable storage in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Whatever happens to the process: `kill -9`, a panic, `abort`, running out of memory. It costs nothing
    /// beyond the write. The machine's loss of power takes what the kernel had not written by itself and the
    /// database had not committed.
    #[default]
    ProcessCrash,
    /// The machine's loss of power too, but for the last `within`: the journal is synced in the background, one
    /// sync for all that was accepted meanwhile, which begins after half of `within`. If a sync fails, or is not
    /// done when `within` has passed, health is [`Failing`](crate::Health::Failing) until one succeeds.
    PowerLoss {
        /// The longest that an accepted entry is not on stable storage.
        within: Duration,
    },
}

/// Why a record was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Closed,
    TooLarge,
}

/// A record is in the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Appended {
    /// The position after it.
    pub(crate) position: u64,
    /// The flusher asked to be woken at this many pending records: see [`Queue::wake_at`].
    pub(crate) wake: bool,
    /// There is something to do beside it: see [`Queue::upkeep`].
    pub(crate) upkeep: bool,
}

/// When something is to be done beside appending.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    pub(crate) after: Duration,
    /// It is a failure if it is not done by then, counted from now too; if ever.
    pub(crate) by: Option<Duration>,
}

/// What became of acknowledged records.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) committed: u64,
    pub(crate) quarantined: u64,
    /// Left out of what was read, since their bytes no longer check.
    pub(crate) damaged: u64,
    pub(crate) malformed: u64,
    /// Of the committed ones, those that were never appended: they tell what was lost, in its place.
    pub(crate) gaps: u64,
}

impl Outcome {
    pub(super) fn add(&mut self, more: Self) {
        self.committed += more.committed;
        self.quarantined += more.quarantined;
        self.damaged += more.damaged;
        self.malformed += more.malformed;
        self.gaps += more.gaps;
    }
}

/// The books of a queue, read at one instant.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) appended: u64,
    pub(crate) acknowledged: u64,
    pub(crate) rejected: Rejections,
    /// Of the appended ones, those that tell of rejections.
    pub(crate) gaps: u64,
    pub(crate) outcome: Outcome,
    /// Why the last append found no room on disk, if it did not.
    pub(crate) trouble: Option<io::ErrorKind>,
    /// Of the outcome, how many were appended by processes that are dead.
    pub(crate) recovered: u64,
    /// Bytes of pending records.
    pub(crate) bytes: usize,
    /// Since when the oldest pending record waits, to within a block of records.
    pub(crate) oldest: Option<Instant>,
    pub(crate) closed: bool,
}

impl Counts {
    pub(crate) fn pending(&self) -> u64 {
        self.appended - self.acknowledged
    }

    pub(super) fn recover(&mut self, outcome: Outcome) {
        self.recovered +=
            (outcome.committed + outcome.quarantined + outcome.damaged).saturating_sub(outcome.gaps);
        self.outcome.add(outcome);
    }
}

/// A queue of records: many append, one reads and acknowledges.
pub(crate) trait Queue: Send + Sync + fmt::Debug {
    /// Takes a record or refuses it; never waits.
    fn append(&self, record: &[u8]) -> Result<Appended, Refused>;

    /// Counts a record that was offered and given up on.
    fn reject(&self, why: Refused);

    /// Appends, whatever the bounds and also when closed, one entry that tells of every rejection that none has
    /// told of yet, if there is any.
    fn tell_gap(&self) -> Option<Appended>;

    /// The records from position `from` on, at most `count` of them, and at most `bytes` bytes unless a single
    /// record is larger. Reading changes nothing: the same records can be read again until acknowledged.
    fn read(&self, from: u64, count: usize, bytes: usize) -> io::Result<Batch>;

    /// Every record up to this position has reached its end: the space may be used again.
    fn ack(&self, upto: u64, outcome: Outcome);

    /// Records that a dead process had appended have reached their end.
    fn recover(&self, outcome: Outcome);

    /// The flusher has ended: nothing more is acknowledged.
    fn ended(&self) {}

    /// When [`upkeep`](Self::upkeep) is to be called, if at all.
    fn upkeep_due(&self) -> Option<Due> {
        None
    }

    /// Does what need not be done by whoever appends; may wait for the disk.
    fn upkeep(&self) -> io::Result<()> {
        Ok(())
    }

    /// Asks that the append which makes `pending` records pending say so, once. Returns the counts of now.
    fn wake_at(&self, pending: u64) -> Counts;

    /// Refuses every append from now on.
    fn close(&self);

    fn counts(&self) -> Counts;
}

/// Consecutive records read from a queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub(super) pieces: Vec<Piece>,
    pub(super) len: usize,
    /// Positions before the first record whose records are gone or no longer check.
    pub(crate) skipped: u64,
}

/// A run of records within one shared block of bytes.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) block: Arc<Block>,
    pub(super) records: Range<usize>,
}

/// Records one after the other, and where each ends.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) bytes: Vec<u8>,
    pub(super) ends: Vec<usize>,
    /// When the first of them was appended.
    pub(super) since: Option<Instant>,
}

impl Block {
    pub(super) fn start(&self, index: usize) -> usize {
        index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0)
    }

    pub(super) fn record(&self, index: usize) -> &[u8] {
        let end = self.ends.get(index).copied().unwrap_or(0);
        self.bytes.get(self.start(index)..end).unwrap_or(&[])
    }
}

impl Batch {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds every record of a block.
    pub(super) fn push(&mut self, block: Block) {
        let records = 0..block.ends.len();
        self.len += records.len();
        self.pieces.push(Piece { block: Arc::new(block), records });
    }

    pub(super) fn bytes(&self) -> usize {
        self.pieces.iter().map(|piece| piece.block.bytes.len()).sum()
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().flat_map(|piece| piece.records.clone().map(|index| piece.block.record(index)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wait_as_long_as_configured_says_that_the_queue_stays_full() {
        let block = WhenFull::Block { timeout: Duration::from_secs(1) };
        assert!(block.waits_at_most(Duration::from_secs(1)) && block.waits_at_most(Duration::MAX));
        assert!(!block.waits_at_most(Duration::from_millis(999)));
        assert!(WhenFull::Reject.waits_at_most(Duration::ZERO));
    }
}
