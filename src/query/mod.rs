//! The questions that can be asked of a log. Knows no SQL and no database.

mod audit_query;

pub use audit_query::{AuditFilter, AuditQuery, Column};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) use audit_query::{Condition, Served, Step, after_prefix};
pub(crate) use audit_query::{spelled_path, steps};
