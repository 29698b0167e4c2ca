//! The layer: copies an audit event and the context of its spans into one record, on the emitting thread.
//!
//! | file | what it does |
//! |---|---|
//! | `emitter.rs` | the `Layer` that records audit events; reads top-down |
//! | `context.rs` | keeps the fields that spans lend to the events inside them |
//! | `visit.rs` | encodes the fields of events and spans, each in its type |
//! | `interests.rs` | decides which callsites matter to a log, and notes near misses |
//! | `filter.rs` | filters that lose no audit event |
//! | `canary.rs` | a span and an event that are sent to see whether they arrive |
//! | `wiring.rs` | checks that events arrive at the log |
//!
//! Two invariants hold in this room: it never emits an event, and it holds no lock while code of the application (a
//! value's `Debug` or `Display`) runs.

mod canary;
mod context;
mod emitter;
mod filter;
mod interests;
mod visit;
mod wiring;

pub(crate) use emitter::Destination;
pub use emitter::{AuditLayer, Emitter};
pub use filter::{CallsiteFilter, NotAudit, Protect, not_audit};
pub(crate) use interests::Interests;
pub use wiring::WiringReport;
