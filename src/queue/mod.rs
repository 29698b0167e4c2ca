//! Accepted records, waiting for the flusher.
//!
//! | file | what it does |
//! |---|---|
//! | `contract` | the trait `Queue`, so that memory and disk look the same to the flusher |
//! | `gap` | rejections, and the `audit.gap` entry that reports them |
//! | `memory` | the queue in memory |
//! | [`journal`] | the queue on disk |

mod contract;
mod gap;
pub(crate) mod journal;
pub(crate) mod memory;

#[cfg(test)]
pub(crate) use contract::Appended;
pub(crate) use contract::{Batch, Counts, Due, Outcome, Queue, Refused};
pub use contract::{Durability, WhenFull};
pub use gap::Rejections;
pub(crate) use gap::lost;
