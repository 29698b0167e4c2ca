//! The layer: copies an audit event and the context of its spans into one record, on the emitting thread.
//!
//! | file | what it does |
//! |---|---|
//! | `emitter.rs` | the [`Layer`](tracing_subscriber::Layer) that records audit events |
//! | `visit.rs` | encodes the fields of events and spans, each in its type |
//! | `filter.rs` | decides which callsites matter, and filters without losing events |
//! | `wiring.rs` | checks that events arrive at the log |

mod emitter;
mod filter;
mod visit;
pub(crate) mod wiring;

pub use emitter::{AuditLayer, Emitter};
pub(crate) use filter::Interests;
pub use filter::{CallsiteFilter, NotAudit, Protect, not_audit};
