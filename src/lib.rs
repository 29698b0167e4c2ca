//! An audit log for services that use [`tracing`]: typed entries in SQLite or PostgreSQL, queried and exported.
//!
//! Your code already says what happened, through `tracing`. Install one layer at start-up and the audit log keeps it:
//!
//! ```standalone_crate
//! use tracing::{info, info_span};
//! use tracing_audit::{AuditFilter, AuditLog, not_audit};
//! use tracing_subscriber::{EnvFilter, prelude::*};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("audit.db");
//! let audit = AuditLog::open(path).await?;
//! tracing_subscriber::registry()
//!     .with(audit.protect(EnvFilter::new("warn"))) // a global filter that cannot silence audit
//!     .with(tracing_subscriber::fmt::layer().with_filter(not_audit()))
//!     .with(audit.layer())
//!     .init();
//! audit.check_wiring()?;
//!
//! let _request = info_span!("request", agent_id = "alice").entered();
//! info!(target: "audit", action = "document.read", resource = "document", resource_id = 42,
//!       decision = "Allow", risk_score = 0.12, "default policy matched");
//!
//! audit.flush().await?;
//! let entries = audit.reader().query(AuditFilter::default()).await?;
//! assert_eq!(entries[0].action, "document.read");
//! assert_eq!(entries[0].agent_id, Some(tracing_audit::audit_id("alice")));
//! # Ok(())
//! # }
//! ```
//!
//! # What happens to an entry
//!
//! An event is **accepted** when `info!` returns: it is in the queue. A thread of the log's own **commits** what is queued
//! in batches, and a committed entry is a row with a `seq`, contiguous from 0. An entry that was never accepted was
//! **rejected** (the queue was full or closed). An entry that the database refuses for good is **quarantined**: kept whole
//! in a table of its own. [`Stats`] counts each state, and the books always balance.
//!
//! For a file opened by path, the queue is on disk beside it: a [`journal`](AuditLogBuilder::journal), from which the next
//! log commits what this process had accepted, however the process ended. With
//! [`in_memory_queue`](AuditLogBuilder::in_memory_queue), and by default for a SQLite pool, accepted entries that are not yet
//! committed are lost if the process is killed, aborts or calls `process::exit`. In either case, returning from `main` with
//! the [`AuditLog`] in scope loses nothing that can be committed within five seconds, and what
//! [`flush`](AuditLog::flush) or [`commit`](AuditWriter::commit) confirmed is on stable storage.
//!
//! # The guide
//!
//! - [`events`](guide::events): what becomes of each field, and which context spans lend.
//! - [`defaults`](guide::defaults): every default and its reason.
//! - [`cookbook`](guide::cookbook): common things, each as a short program.
//! - [`failure`](guide::failure): what happens when something fails, each case with its test.
//! - [`integrity`](guide::integrity): how a change of what was committed is found, and what that does not promise.
//! - [`postgres`](guide::postgres), [`indexes`](guide::indexes), [`growth`](guide::growth): running it with many services and
//!   entries.
//! - [`questions`](guide::questions), [`operator`](guide::operator): the command `tracing-audit`, what it answers, and how to use it.
//! - [`performance`](guide::performance), [`compatibility`](guide::compatibility), [`comparison`](guide::comparison),
//!   [`architecture`](guide::architecture).
//!
//! # Features
//!
//! - `sqlite` (default): SQLite as a store, compiled in. A [`SqlitePool`](https://docs.rs/sqlx/0.9) of sqlx 0.9 can be given
//!   instead of a path. sqlx is a public dependency through the conversions from its pools only.
//! - `sqlite-unbundled`: the same with the SQLite library of the system.
//! - `postgres`: PostgreSQL as a store, from a URL or a `PgPool`. With TLS: `tls-rustls` or `tls-native-tls`.
//! - `cli`: the command `tracing-audit`, for both databases.
//! - `signing`: keys, checkpoints that are signed, and trust in keys. `cli` has it.
//! - `testing`: `testing::capture`, which asserts in tests what code audits.
//! - `valuable`: structured values as JSON, under `--cfg tracing_unstable` as in `tracing` itself. Without that flag they
//!   arrive as their `Debug` text.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(any(feature = "_sqlite", feature = "postgres")),
    allow(dead_code, reason = "without a database nothing can be built, and the crate must still compile")
)]

mod defaults;
mod engine;
mod entry;
mod error;
pub mod evidence;
pub mod export;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub mod guide;
mod layer;
pub mod ledger;
mod log;
#[cfg(measuring)]
#[doc(hidden)]
pub mod measure;
mod platform;
pub mod query;
mod queue;
pub mod reader;
mod store;
#[cfg(feature = "testing")]
pub mod testing;

pub use engine::{Health, Notice, Stats, Unrecovered};
pub use entry::{AuditEntry, Decision, SequencedEntry, UnknownDecision, audit_id};
pub use error::{AuditError, ErrorKind};
pub use layer::{AuditLayer, CallsiteFilter, Emitter, NotAudit, Protect, WiringReport, not_audit};
pub use log::{AuditLog, AuditLogBuilder, AuditWriter, ShutdownReport};
pub use query::{AuditFilter, AuditQuery};
pub use queue::{Durability, Rejections, WhenFull};
pub use reader::AuditReader;
#[cfg(feature = "postgres")]
pub use store::PostgresStore;
pub use store::{Integrity, Period, QuarantineRetried, Store};

/// The handling of a ledger that has ended, once its entries are kept elsewhere.
pub mod archive {
    pub use crate::log::Archived;
    #[cfg(feature = "_sqlite")]
    pub use crate::store::UnusedFile;
}

/// The calls of each type for code without an async runtime.
///
/// The method `blocking` of a type gives them. They have the names of the async calls. Each blocks the thread until it is
/// done. They work on any thread, also on one of an async runtime, whose other tasks wait meanwhile.
pub mod blocking {
    #[cfg(feature = "_sqlite")]
    pub use crate::export::opened::open_export;
    pub use crate::{
        log::{BlockingBuilder, BlockingLog, BlockingWriter},
        reader::blocking::BlockingReader,
        store::BlockingStore,
    };
}

/// Indexes of the entries, and what they are on.
pub mod index {
    pub use crate::{query::IndexOn, store::Index};
}

/// Journals on disk, for people and tools that look into them.
pub mod journal {
    pub use crate::queue::{Journal, JournalSegment as Segment, SegmentTrouble, inspect_journals as inspect};
}

/// The steps that create the tables, and who takes them.
pub mod migrate {
    pub use crate::store::{Migrate, Migration};
}

#[cfg(all(doctest, feature = "_sqlite"))]
#[doc = include_str!("../README.md")]
struct Readme;
