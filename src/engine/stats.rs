//! Stats: the books of a log, which count the offered entries and say where each of them is.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::entry::{Moment, from_micros};
use crate::error::AuditError;
use crate::queue::{Counts, Rejections};

/// Counts since the log was opened.
///
/// They always balance: `offered + recovered = committed + rejected + quarantined + damaged + pending`. All counts of
/// entries are read at one instant.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Events and entries that the application gave to this process, and the log's own `audit.gap` entries.
    pub offered: u64,
    /// Entries that are rows in the database.
    pub committed: u64,
    /// Entries that were never accepted. `audit.gap` entries in the ledger report them.
    pub rejected: u64,
    /// Entries set aside because the database refuses them for good.
    pub quarantined: u64,
    /// Entries that were accepted, but whose bytes in the journal are gone or fail their checksum. The bytes that are
    /// left are kept, and an `audit.gap` entry stands in their place.
    pub damaged: u64,
    /// Entries that dead processes had accepted and this log has settled: committed, quarantined or counted as damaged.
    pub recovered: u64,
    /// The entries that journals of dead processes still hold for this database and ledger, in this log's directory of
    /// journals. The books do not count them: they are offered to nobody in this process until they are
    /// [`recovered`](Self::recovered).
    pub unrecovered: Unrecovered,
    /// Entries in the queue.
    pub pending: u64,
    /// Bytes of the pending entries.
    pub pending_bytes: u64,
    /// The time that the oldest pending entry has waited. Accurate to within the few hundred entries that were accepted
    /// together with it.
    pub oldest_pending: Option<Duration>,
    /// Rejected entries by reason.
    pub rejections: Rejections,
    /// The log's own entries among the offered ones: `audit.gap` entries, which report rejected entries (at most one
    /// gap entry per commit) or lost ones.
    pub gaps: u64,
    /// Committed entries that had something wrong with them (see
    /// [`SequencedEntry::problems`](crate::SequencedEntry::problems)).
    pub malformed: u64,
    /// Commits that succeeded.
    pub batches: u64,
    /// Entries in the last commit.
    pub last_batch: u64,
    /// Entries in the largest commit.
    pub largest_batch: u64,
    /// Time of the last commit.
    pub last_commit: Option<DateTime<Utc>>,
    /// Attempts that failed and were, or will be, repeated.
    pub retries: u64,
    /// The last error, even if the trouble is over.
    pub last_error: Option<AuditError>,
    /// Time of the last error.
    pub last_error_at: Option<DateTime<Utc>>,
    /// Panics that the log's thread survived. Each is a bug in this crate or in one that it uses.
    pub panics: u64,
}

/// The contents of journals of dead processes: see [`Stats::unrecovered`].
///
/// [`AuditLog::recovered`](crate::AuditLog::recovered) waits until they are committed. All zeros for a log with a queue
/// in memory, which looks for no journals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unrecovered {
    /// Journals that are not settled yet, those included that are left alone because they cannot be read or believed.
    pub journals: u64,
    /// Entries in them that were accepted and are not committed.
    pub entries: u64,
    /// There may be more: nobody has looked yet, the database has not said yet how far a journal is committed, a journal
    /// cannot be read or ends in bytes that are no record, or another process is committing it.
    pub at_least: bool,
}

/// The part of the books that the queue does not count.
#[derive(Debug, Default)]
pub(super) struct History {
    batches: u64,
    last_batch: u64,
    largest_batch: u64,
    last_commit: Option<Moment>,
    retries: u64,
    last_error: Option<(AuditError, Moment)>,
    panics: u64,
    unrecovered: Unrecovered,
}

impl History {
    pub(super) fn left_to_recover(&mut self, unrecovered: Unrecovered) {
        self.unrecovered = unrecovered;
    }

    pub(super) fn note_commit(&mut self, entries: u64) {
        self.batches += 1;
        self.last_batch = entries;
        self.largest_batch = self.largest_batch.max(entries);
        self.last_commit = Some(Moment::now());
    }

    pub(super) fn note_error(&mut self, error: AuditError) {
        self.last_error = Some((error, Moment::now()));
    }

    pub(super) fn note_retry(&mut self) {
        self.retries += 1;
    }

    pub(super) fn note_panic(&mut self) {
        self.panics += 1;
    }

    pub(super) fn last_error(&self) -> Option<AuditError> {
        self.last_error.as_ref().map(|(error, _)| error.clone())
    }
}

impl Stats {
    /// The books of both logs as one.
    pub(crate) fn and(mut self, other: Self) -> Self {
        let Self { unrecovered, rejections, last_commit, last_batch, last_error, last_error_at, .. } = other;
        self.offered += other.offered;
        self.committed += other.committed;
        self.rejected += other.rejected;
        self.quarantined += other.quarantined;
        self.damaged += other.damaged;
        self.recovered += other.recovered;
        self.unrecovered.journals += unrecovered.journals;
        self.unrecovered.entries += unrecovered.entries;
        self.unrecovered.at_least |= unrecovered.at_least;
        self.pending += other.pending;
        self.pending_bytes += other.pending_bytes;
        self.oldest_pending = self.oldest_pending.max(other.oldest_pending);
        self.rejections.full += rejections.full;
        self.rejections.closed += rejections.closed;
        self.rejections.too_large += rejections.too_large;
        self.gaps += other.gaps;
        self.malformed += other.malformed;
        self.batches += other.batches;
        self.largest_batch = self.largest_batch.max(other.largest_batch);
        if last_commit > self.last_commit {
            (self.last_commit, self.last_batch) = (last_commit, last_batch);
        }
        self.retries += other.retries;
        if last_error_at > self.last_error_at {
            (self.last_error, self.last_error_at) = (last_error, last_error_at);
        }
        self.panics += other.panics;
        self
    }

    pub(super) fn of(counts: Counts, history: &History) -> Self {
        let rejected = counts.rejected.total();
        let time = |at: Moment| from_micros(at.micros);
        Self {
            offered: counts.appended + rejected + counts.outcome.gaps,
            committed: counts.outcome.committed,
            rejected,
            quarantined: counts.outcome.quarantined,
            damaged: counts.outcome.damaged,
            recovered: counts.recovered,
            unrecovered: history.unrecovered,
            pending: counts.pending(),
            pending_bytes: counts.bytes as u64,
            oldest_pending: counts.oldest.map(|since| since.elapsed()),
            rejections: counts.rejected,
            gaps: counts.gaps + counts.outcome.gaps,
            malformed: counts.outcome.malformed,
            batches: history.batches,
            last_batch: history.last_batch,
            largest_batch: history.largest_batch,
            last_commit: history.last_commit.map(time),
            retries: history.retries,
            last_error: history.last_error(),
            last_error_at: history.last_error.as_ref().map(|(_, at)| time(*at)),
            panics: history.panics,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_of_two_logs_as_one_balance_and_have_what_came_last() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0);
        let error = |text| Some(AuditError::new(crate::error::ErrorKind::Store, text));
        let one = Stats {
            offered: 10,
            committed: 7,
            rejected: 2,
            pending: 1,
            last_batch: 5,
            largest_batch: 6,
            last_commit: at(20),
            last_error: error("one"),
            last_error_at: at(1),
            ..Stats::default()
        };
        let other = Stats {
            offered: 3,
            recovered: 4,
            committed: 5,
            quarantined: 1,
            damaged: 1,
            last_batch: 4,
            largest_batch: 4,
            last_commit: at(10),
            last_error: error("other"),
            last_error_at: at(2),
            unrecovered: Unrecovered { journals: 1, entries: 9, at_least: true },
            ..Stats::default()
        };
        for all in [one.clone().and(other.clone()), other.and(one)] {
            let settled = all.committed + all.rejected + all.quarantined + all.damaged + all.pending;
            assert_eq!((all.offered + all.recovered, settled), (17, 17));
            assert_eq!((all.last_batch, all.largest_batch, all.last_commit), (5, 6, at(20)));
            assert_eq!(all.last_error.map(|error| error.to_string()).as_deref(), Some("other"));
            assert_eq!(all.unrecovered, Unrecovered { journals: 1, entries: 9, at_least: true });
        }
    }
}
