//! The log: puts the parts of the crate together.
//!
//! | file | what it does |
//! |---|---|
//! | `audit_log.rs` | the log and its builder |
//! | `writer.rs` | writes entries as values |

mod audit_log;
mod writer;

pub(crate) use audit_log::defaults;
pub use audit_log::{AuditLog, AuditLogBuilder, ShutdownReport};
pub use writer::AuditWriter;
