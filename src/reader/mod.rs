//! Answers for people's code: entries, pages, counts, and the record of who read the log.

mod audit_reader;
mod blocking;
mod counts;
mod follow;
mod page;
mod quarantine;
mod recorded_reads;

pub use audit_reader::AuditReader;
pub(crate) use audit_reader::sequenced;
pub use blocking::BlockingReader;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) use counts::spelled;
pub use counts::{Change, CountBy, Counted, Ledger};
pub use page::{Cursor, Page};
pub use quarantine::QuarantinedEntry;
pub use recorded_reads::RecordedRead;

// For the store, until it imports from `query` itself.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) use crate::query::{Column, Condition, Served, Step, after_prefix};
pub(crate) use crate::query::{spelled_path, steps};
