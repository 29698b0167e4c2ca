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
pub(crate) mod journal;
pub(crate) mod memory;
mod policy;
mod records;

#[cfg(test)]
pub(crate) use contract::Appended;
pub(crate) use contract::{Counts, Due, Outcome, Queue};
pub use gap::Rejections;
pub(crate) use gap::{Refused, lost};
pub use policy::{Durability, WhenFull};
pub(crate) use records::Records as Batch;
