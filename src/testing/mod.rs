//! For the tests of code that audits: what did it audit, exactly?
//!
//! ```
//! use tracing::info;
//! use tracing_audit::{Decision, testing::{Expected, capture}};
//!
//! fn read_document(user: &str, id: u64) {
//!     info!(target: "audit", agent_id = user, action = "document.read", resource = "document",
//!           resource_id = id, decision = "Allow");
//! }
//!
//! // #[test]
//! fn reading_a_document_is_audited() {
//!     let audit = capture();
//!     std::thread::spawn(|| read_document("alice", 42)).join().unwrap();
//!     audit.assert_audited([
//!         Expected::action("document.read").agent_id("alice").resource_id(42).decision(Decision::Allow),
//!     ]);
//! }
//! # reading_a_document_is_audited();
//! ```
//!
//! [`capture`] is for events, whatever thread or task emits them. A [`Recorder`] is a store for code that is
//! given an [`AuditLog`](crate::AuditLog) with settings of its own.

// The files of this room:
//
// | file | what it does |
// |---|---|
// | `capture.rs` | captures the events of the process |
// | `expected.rs` | expectations, and the report of an assertion that failed |
// | `recorder.rs` | a store that keeps committed entries in memory |

mod capture;
mod expected;
mod recorder;

pub use capture::{Capture, capture, layer};
pub use expected::{Expected, assert_audited};
pub use recorder::Recorder;
