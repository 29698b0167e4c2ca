//! The test kit for code that audits: assertions on the exact entries that the code leaves behind.
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
//!     read_document("alice", 42);
//!     audit.assert_audited([
//!         Expected::action("document.read").agent_id("alice").resource_id(42).decision(Decision::Allow),
//!     ]);
//! }
//! # reading_a_document_is_audited();
//! ```
//!
//! [`capture`] is for events. A [`Recorder`] is a store for code that is given an
//! [`AuditLog`](crate::AuditLog) with settings of its own.
//!
//! # Which events a capture sees
//!
//! An event belongs to one capture: that of its thread, otherwise that of the process, otherwise none, and then it is
//! discarded.
//!
//! | the event is emitted | it belongs to |
//! |---|---|
//! | on the thread that called [`capture`] | that capture |
//! | by a task of a current-thread runtime, such as that of a plain `#[tokio::test]` | the same: its tasks run on the thread of the test |
//! | on another thread, inside [`CaptureScope::in_scope`] | the scope's capture |
//! | by a task on a runtime with several threads, whose future is from [`CaptureScope::instrument`] | the scope's capture |
//! | on any thread that called [`CaptureScope::attach_thread`], for instance in a runtime's `on_thread_start` | the scope's capture |
//! | on any other thread, `spawn_blocking` included | the capture of the process, by [`capture_process`], if one runs |
//!
//! The thread decides, because the test harness gives each test a thread. So tests run in parallel, and no test sees
//! what another one audits. A span could not decide: it does not follow a spawned task or thread by itself either, and
//! code under test may open root spans of its own.
//!
//! Entries that are written as values, by [`Capture::log`] and its writers, belong to that capture on any thread.

// The files of this room:
//
// | file | what it does |
// |---|---|
// | `capture.rs` | captures the events of one test, or of the whole process |
// | `scope.rs` | makes other threads and their tasks a part of a capture |
// | `current.rs` | decides which capture an event belongs to |
// | `expected.rs` | expectations, and the report of an assertion that failed |
// | `recorder.rs` | a store that keeps committed entries in memory |

mod capture;
mod current;
mod expected;
mod recorder;
mod scope;

pub use capture::{Capture, capture, capture_process, layer};
pub use expected::{Expected, assert_audited};
pub use recorder::Recorder;
pub use scope::CaptureScope;
