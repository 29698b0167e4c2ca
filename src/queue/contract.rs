//! The contract of a queue: the trait [`Queue`], and the types that its calls take and return.
//!
//! A **position** is the number of records appended before a point in the queue: the first record lies between
//! positions 0 and 1. The number of pending records is, by definition, the number of appended records less the
//! number of acknowledged ones; nothing else counts them.

use std::{
    fmt, io,
    time::{Duration, Instant},
};

use super::{
    gap::{Refused, Rejections},
    records::Records,
};
use crate::error::AuditError;

/// The result of appending a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Appended {
    /// The position after the record.
    pub(crate) position: u64,
    /// Whether the number of pending records has reached the mark at which the flusher asked to be woken: see
    /// [`Queue::wake_at`].
    pub(crate) wake: bool,
    /// Whether background work has become due: see [`Queue::upkeep`].
    pub(crate) upkeep: bool,
}

/// When the queue's background work is due, counted from now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    /// The work should start after this time.
    pub(crate) after: Duration,
    /// Work that is not done after this time counts as failed. `None` if the work may take as long as it likes.
    pub(crate) by: Option<Duration>,
}

/// The numbers of acknowledged records, by what became of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) committed: u64,
    pub(crate) quarantined: u64,
    /// Records that were left out when the queue was read, because their bytes no longer match their checksum.
    pub(crate) damaged: u64,
    /// Committed entries that list a problem with their fields.
    pub(crate) malformed: u64,
    /// Committed entries that were never appended: `audit.gap` entries, each of which reports lost records and stands
    /// in their place.
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
    /// Appended records that report rejections.
    pub(crate) gaps: u64,
    pub(crate) outcome: Outcome,
    /// The error of the last append, if the record could not be written to disk.
    pub(crate) trouble: Option<io::ErrorKind>,
    /// Records of the outcome that were appended by processes that are now dead.
    pub(crate) recovered: u64,
    /// Size of the pending records in bytes.
    pub(crate) bytes: usize,
    /// When the oldest pending record was appended, or an earlier record of the same block.
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

/// A queue of records: many threads append, one reads and acknowledges.
pub(crate) trait Queue: Send + Sync + fmt::Debug {
    /// Appends a record or refuses it; never waits for room, and for other emitters no longer than `patience`. Calls
    /// `accepted` with the position after the record before anybody else can see it there, and holds a lock meanwhile.
    fn append(
        &self,
        record: &[u8],
        patience: Duration,
        accepted: &mut dyn FnMut(u64),
    ) -> Result<Appended, Refused>;

    /// Appends a record that nobody waits for.
    #[cfg(test)]
    fn offer(&self, record: &[u8]) -> Result<Appended, Refused> {
        self.append(record, Duration::from_mins(1), &mut |_| {})
    }

    /// Counts a record that its emitter offered and gave up on.
    fn reject(&self, why: Refused);

    /// Appends one `audit.gap` entry that reports every rejection not reported yet, if there is any. The bounds of
    /// the queue do not apply, and neither does [`close`](Self::close).
    fn report_gap(&self) -> Option<Appended>;

    /// Returns the records from position `from` on: at most `count` of them, and at most `bytes` bytes unless a single
    /// record is larger. Reading changes nothing: the same records can be read again until they are acknowledged.
    fn read(&self, from: u64, count: usize, bytes: usize) -> io::Result<Records>;

    /// Acknowledges every record up to this position: each is settled, so its space may be reused.
    fn ack(&self, upto: u64, outcome: Outcome);

    /// Counts records that a dead process had appended and that are now settled.
    fn recover(&self, outcome: Outcome);

    /// Called when the flusher has ended: nothing more will be acknowledged. Whatever the queue keeps on disk may be
    /// removed if nothing in it is pending and `may_remove` is true: the ledger knows that the writer has ended, or does not
    /// know the writer.
    fn ended(&self, _may_remove: bool) {}

    /// Gives back what is held in reserve on disk: the database has no room.
    fn give_room(&self) {}

    /// Returns when [`upkeep`](Self::upkeep) is to be called, or `None` if no work is due.
    fn upkeep_due(&self) -> Option<Due> {
        None
    }

    /// Does the background work that emitters need not do themselves; may wait for the disk.
    fn upkeep(&self) -> io::Result<()> {
        Ok(())
    }

    /// Says what is wrong with the place of the queue, if anything is, once the queue is made: the log works in spite of it.
    fn concern(&self) -> Option<AuditError> {
        None
    }

    /// Asks for a wake-up: the append that makes `pending` records pending sets [`Appended::wake`], once. Returns the
    /// current counts.
    fn wake_at(&self, pending: u64) -> Counts;

    /// Refuses every append from now on.
    fn close(&self);

    fn counts(&self) -> Counts;
}
