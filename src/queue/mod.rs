//! Accepted records, waiting for the flusher.
//!
//! | file | what it does |
//! |---|---|
//! | `contract` | the trait `Queue`, and what its calls take and return |
//! | `policy` | the user's decisions: what happens when the queue is full, and what an entry in it survives |
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
