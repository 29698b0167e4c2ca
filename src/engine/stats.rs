//! The books: how many entries were offered, and where each of them is.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::{
    entry::{Moment, from_micros},
    error::AuditError,
    queue::{Counts, Rejections},
};

/// Counts since the log was opened.
///
/// They always balance: `offered + recovered = committed + rejected + quarantined + damaged + pending`. These and everything else
/// that counts entries are read at one instant.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Events and entries that the application gave to this process, and the log's own `audit.gap` entries.
    pub offered: u64,
    /// Rows in the database.
    pub committed: u64,
    /// Never accepted. The log tells of them itself, by `audit.gap` entries.
    pub rejected: u64,
    /// Set aside because the database refuses them for good.
    pub quarantined: u64,
    /// Accepted, and their bytes in the journal are gone or no longer check. What is left of the bytes is kept, and
    /// an `audit.gap` entry stands in their place.
    pub damaged: u64,
    /// What dead processes had accepted and this one has brought to its end: committed, quarantined or damaged.
    pub recovered: u64,
    /// In the queue.
    pub pending: u64,
    /// Bytes that the pending ones take.
    pub pending_bytes: u64,
    /// How long the oldest pending one has waited, to within the few hundred that came with it.
    pub oldest_pending: Option<Duration>,
    /// The rejected ones by reason.
    pub rejected_because: Rejections,
    /// Of the offered ones, how many are the log's own: `audit.gap` entries, which tell what was rejected (one per
    /// commit at most) or lost.
    pub gaps: u64,
    /// Of the committed ones, how many had something wrong with them (see
    /// [`SequencedEntry::problems`](crate::SequencedEntry::problems)).
    pub malformed: u64,
    /// Commits that succeeded.
    pub batches: u64,
    /// Entries in the last of them.
    pub last_batch: u64,
    /// Entries in the largest of them.
    pub largest_batch: u64,
    /// When the last of them was.
    pub last_commit: Option<DateTime<Utc>>,
    /// Attempts that failed and were, or will be, made again.
    pub retries: u64,
    /// What went wrong last, also if it is over.
    pub last_error: Option<AuditError>,
    /// When that was.
    pub last_error_at: Option<DateTime<Utc>>,
    /// Panics of the log's thread that it survived. Each is a bug of this crate, or of one below it.
    pub panics: u64,
}

/// What a log has been through, beyond what its queue counts.
#[derive(Debug, Default)]
pub(super) struct History {
    batches: u64,
    last_batch: u64,
    largest_batch: u64,
    last_commit: Option<Moment>,
    retries: u64,
    last_error: Option<(AuditError, Moment)>,
    panics: u64,
}

impl History {
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
            pending: counts.pending(),
            pending_bytes: counts.bytes as u64,
            oldest_pending: counts.oldest.map(|since| since.elapsed()),
            rejected_because: counts.rejected,
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
