//! Where accepted records wait for the flusher: one small trait, so that memory and disk look the same to it.
//!
//! A **position** is the number of records appended before a point in the queue: the first record lies between
//! positions 0 and 1. What is pending is, by definition, what was appended less what was acknowledged; nothing
//! else counts it.

use std::{
    fmt, io,
    time::{Duration, Instant},
};

use super::{
    gap::{Refused, Rejections},
    records::Records,
};

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
    fn report_gap(&self) -> Option<Appended>;

    /// The records from position `from` on, at most `count` of them, and at most `bytes` bytes unless a single
    /// record is larger. Reading changes nothing: the same records can be read again until acknowledged.
    fn read(&self, from: u64, count: usize, bytes: usize) -> io::Result<Records>;

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
