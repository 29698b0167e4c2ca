//! The builder's defaults, each with its reason.

use std::time::Duration;

use crate::entry::Limits;

pub(crate) const LEDGER: &str = "main";
/// Large enough that the fixed cost of a transaction does not matter; small enough that a batch starts while more
/// entries arrive.
pub(crate) const BATCH_ENTRIES: usize = 512;
/// Short enough that nobody who looks for what just happened notices it.
pub(crate) const FLUSH_INTERVAL: Duration = Duration::from_millis(100);
/// The time that a connection waits for the lock of another process.
pub(crate) const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than a database that is locked, or slow, takes to answer; short enough for a service that starts.
pub(crate) const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// Long enough to ride out a slow commit; short enough for a request.
pub(crate) const FULL_TIMEOUT: Duration = Duration::from_secs(1);
/// About one second's entries of the fastest database.
pub(crate) const QUEUE_ENTRIES: usize = 100_000;
/// 640 bytes for each entry of a full queue.
pub(crate) const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// Some three million entries: an hour without the database at a thousand entries a second.
pub(crate) const JOURNAL_BYTES: u64 = 1024 * 1024 * 1024;
/// A value can hold a large JSON document, and an entry several of them.
pub(crate) const LIMITS: Limits = Limits { value: 64 * 1024, entry: 1024 * 1024 };
