//! The books: how many entries were offered, and where each of them is.

use crate::queue::Counts;

/// Counts since the log was opened, all read at one instant.
///
/// They always balance: `offered = committed + rejected + quarantined + pending`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Events and entries that the application gave.
    pub offered: u64,
    /// Rows in the database.
    pub committed: u64,
    /// Never accepted: the queue was full or closed, or the entry too large.
    pub rejected: u64,
    /// Set aside because the database refuses them for good.
    pub quarantined: u64,
    /// In the queue.
    pub pending: u64,
    /// Bytes that the pending ones take.
    pub pending_bytes: u64,
    /// Of the committed ones, how many had something wrong with them (see
    /// [`SequencedEntry::problems`](crate::SequencedEntry::problems)).
    pub malformed: u64,
}

impl Stats {
    pub(crate) fn of(counts: Counts) -> Self {
        Self {
            offered: counts.appended + counts.rejected,
            committed: counts.outcome.committed,
            rejected: counts.rejected,
            quarantined: counts.outcome.quarantined,
            pending: counts.pending(),
            pending_bytes: counts.bytes as u64,
            malformed: counts.outcome.malformed,
        }
    }
}
