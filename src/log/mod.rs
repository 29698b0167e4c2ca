//! The log: puts the parts of the crate together, as nothing else does.
//!
//! | file | what it does |
//! |---|---|
//! | `archived.rs` | what an entry tells of a ledger that was archived |
//! | `audit_log.rs` | the log: hands out layers, writers and readers, and waits for what they wrote |
//! | `blocking.rs` | the calls of the builder, the log and the writer for code without an async runtime |
//! | `builder.rs` | the settings of a log |
//! | `earlier.rs` | commits what dead processes have left of earlier periods |
//! | `engines.rs` | the engines behind a log: one, or that of each period in turn |
//! | `latest.rs` | finds the latest period that there is |
//! | `open.rs` | checks the settings, chooses the queue, starts the engine |
//! | `periods.rs` | a log whose ledger changes with the period |
//! | `signal.rs` | wakes a thread that waits |
//! | `writer.rs` | writes entries as values |

mod archived;
mod audit_log;
mod blocking;
mod builder;
mod earlier;
mod engines;
mod latest;
mod open;
mod periods;
mod signal;
mod writer;

pub use archived::Archived;
pub use audit_log::{AuditLog, ShutdownReport};
pub use blocking::{BlockingBuilder, BlockingLog, BlockingWriter};
pub use builder::AuditLogBuilder;
pub use writer::AuditWriter;
