//! Holds accepted records until the flusher has committed them.
//!
//! There are two queues, in memory and on disk, behind one trait, so that they look the same to emitters and to the
//! flusher.
//!
//! | file | what it does |
//! |---|---|
//! | `contract` | the trait `Queue`, and what its calls take and return |
//! | `policy` | `WhenFull` and `Durability`: the user's decisions about a queue |
//! | `gap` | rejections, and the `audit.gap` entry that reports them |
//! | `records` | the records that one read of a queue returns |
//! | `memory` | the queue in memory |
//! | [`journal`] | the queue on disk |

mod contract;
mod gap;
mod journal;
mod memory;
mod policy;
mod records;

pub(crate) use contract::{Appended, Counts, Due, Outcome, Queue};
pub use gap::Rejections;
pub(crate) use gap::{Refused, altered, gone, lost};
#[cfg(any(test, fuzzing))]
pub(crate) use journal::fuzz;
pub(crate) use journal::{
    Backlog, Found, JournalEnd, JournalHome, JournalQueue, Known, Stranger, inspect_journal, journal_error,
    left_behind,
};
pub use journal::{Journal, JournalSegment, SegmentTrouble, inspect_journals};
pub(crate) use memory::MemoryQueue;
pub use policy::{Durability, WhenFull};
pub(crate) use records::Records;
