//! The log: puts the parts of the crate together, as nothing else does.
//!
//! | file | what it does |
//! |---|---|
//! | `audit_log.rs` | the log: hands out layers, writers and readers, and waits for what they wrote |
//! | `blocking.rs` | the calls of the builder, the log and the writer for code without an async runtime |
//! | `builder.rs` | the settings of a log |
//! | `open.rs` | checks the settings, chooses the queue, starts the engine |
//! | `writer.rs` | writes entries as values |

mod audit_log;
mod blocking;
mod builder;
mod open;
mod writer;

pub use audit_log::{AuditLog, ShutdownReport};
pub use blocking::{BlockingBuilder, BlockingLog, BlockingWriter};
pub use builder::AuditLogBuilder;
pub use writer::AuditWriter;
