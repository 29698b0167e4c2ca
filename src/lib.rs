//! An audit log for services that use [`tracing`]: typed entries in SQLite or PostgreSQL, queried and exported.
//!
//! Code that already uses `tracing` says what happened; one layer, installed at start-up, keeps it:
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
//! # What becomes of an event
//!
//! An event is **accepted** when `info!` returns: it is in the queue. A thread of the log's own **commits** what
//! is queued in batches; a committed entry is a row with a `seq`, contiguous from 0. What was never accepted
//! was **rejected** (the queue was full or closed); what the database refuses for good is **quarantined**,
//! kept whole in a table of its own. [`Stats`] counts each, and the books always balance. [`failure`] says what
//! happens when something fails, case by case.
//!
//! Where a file is opened by path, the queue is on disk beside it: a [`journal`](AuditLogBuilder::journal), from
//! which the next log commits what this process had accepted, however it ended. With
//! [`in_memory_queue`](AuditLogBuilder::in_memory_queue), and by default for a SQLite pool, what is accepted and not yet
//! committed is lost if the process is killed, aborts or calls `process::exit`. Returning from `main` with the
//! [`AuditLog`] in scope loses nothing that can be committed within five seconds in either case, and what
//! [`flush`](AuditLog::flush) or [`commit`](AuditWriter::commit) confirmed is on stable storage.
//!
//! Order is `seq`, the order of commit. The clock is read once per event and believed: where it steps back, `ts`
//! and `id` do too, and `seq` does not.
//!
//! # What an event means
//!
//! | field | becomes |
//! |---|---|
//! | `workspace_id`, `session_id`, `agent_id` | a UUID as it is; any other text `t` as [`audit_id`]`(t)`, the text kept in the metadata |
//! | `action`, `resource`, `resource_id`, `reason` | text |
//! | `decision` | `Allow`, `Deny` or `Mask` in any letter case; another word is kept and is a problem |
//! | `risk_score` | a number; without one, none is stored and an entry reads 0.0 |
//! | `occurred_at` | `ts`, from RFC 3339; without it, the moment of emission |
//! | `metadata` | merged into the metadata if it is a JSON object |
//! | the message | `reason` if there is none, otherwise `message` in the metadata |
//! | `name:` | `action` if there is none; without either, `action` is empty and that is a problem |
//! | any other | metadata, its JSON type kept; what JSON cannot hold (128-bit numbers, NaN) as text |
//!
//! From the spans around an event come only `workspace_id`, `session_id`, `agent_id`, `action`, `resource`,
//! `resource_id`, `request_id`, `user_id`, `trace_id` and what
//! [`span_fields`](AuditLogBuilder::span_fields) adds, each only if the span is at the log's level or above.
//! The event beats its spans, an inner span an outer one, the last of several equal fields the others.
//!
//! Nothing is dropped for being malformed: it is stored, the raw value stays in the metadata, and the entry
//! lists its `problems`.
//!
//! # Defaults
//!
//! | setting | default | why |
//! |---|---|---|
//! | [`journal`](AuditLogBuilder::journal), of a file opened by path | `audit.db.queue` beside `audit.db` | what is accepted should survive the process, and whoever copies the one sees the other |
//! | [`journal_max_bytes`](AuditLogBuilder::journal_max_bytes) | 1 GiB | some three million entries: an hour without the database at a thousand a second |
//! | segments of a journal | 16 MiB | a new one is rare, and space comes back in small steps |
//! | [`durability`](AuditLogBuilder::durability) | the process's crash, not the machine's loss of power | costs no sync; what is committed is synced in any case |
//! | where entries wait for a PostgreSQL server | none: say it | a server can be away for long, and what that may cost is yours to decide |
//! | [`queue_max_entries`](AuditLogBuilder::queue_max_entries) and [`queue_max_bytes`](AuditLogBuilder::queue_max_bytes), of a queue in memory, the default of a SQLite pool | 100 000 entries, 64 MiB | about a second of SQLite at its fastest |
//! | [`when_full`](AuditLogBuilder::when_full) | block for 1 s, then reject | rides out a slow commit, short enough for a request |
//! | [`batch_entries`](AuditLogBuilder::batch_entries) | 512 entries | the fixed cost of a transaction vanishes |
//! | [`flush_interval`](AuditLogBuilder::flush_interval) | 100 ms | nobody who looks for what just happened notices |
//! | [`commit_timeout`](AuditLogBuilder::commit_timeout) | 5 s | as long as a connection waits for another's lock |
//! | [`value_max_bytes`](AuditLogBuilder::value_max_bytes) and [`entry_max_bytes`](AuditLogBuilder::entry_max_bytes) | 64 KiB a value, 1 MiB an entry | a large JSON document, several of them |
//! | [`on_notice`](AuditLogBuilder::on_notice) | `warn!` with the target `tracing_audit` | reaches whoever reads the service's log, once a second at most |
//! | [`target`](AuditLogBuilder::target) | `audit` | short, and nobody else's |
//! | [`level`](AuditLogBuilder::level) | `INFO` | what `info!` says is meant for keeping |
//! | [`ledger`](AuditLogBuilder::ledger) | `main` | a file holds one |
//! | [`index`](AuditLogBuilder::index) | none but those of every log | each is paid for at every insert: see [`indexes`] |
//! | [`default_workspace`](AuditLogBuilder::default_workspace) | the nil UUID | a service without tenants has none |
//! | [`default_decision`](AuditLogBuilder::default_decision) | none | a log does not assert what nobody said |
//! | entries in one commit | at most 16 384, 8 MiB | a tenth faster than half as many; keeps a transaction around 150 ms |
//! | pause between attempts | 20 ms, doubled up to 2 s, shortened at random by up to half | soon back, and several processes not in step |
//! | PostgreSQL | a connection of its own, `READ COMMITTED`, `synchronous_commit` at least `on` | a commit is durable when it returns |
//! | SQLite | WAL and pages of 8 KiB in files we create, `synchronous = FULL`, 5 s for another's lock, checkpoints of 32 MiB | a commit is durable when it returns; the sizes are the fastest measured |
//!
//! # Features
//!
//! - `sqlite` (default): SQLite as a store, compiled in. An [`SqlitePool`](https://docs.rs/sqlx/0.9) of sqlx
//!   0.9 can be given instead of a path; sqlx is a public dependency through that conversion only.
//! - `postgres`: PostgreSQL as a store, from a URL or a `PgPool`; with TLS, `tls-rustls` or `tls-native-tls`. See
//!   [`server`].
//! - `cli`: the command `tracing-audit`, which queries, follows, counts and exports; for both databases. [`questions`]
//!   shows what it answers.
//! - `testing`: `testing::capture`, for asserting in tests what code audits.
//! - `valuable`: structured values as JSON, under `--cfg tracing_unstable` as in `tracing` itself. Without
//!   that cfg they arrive as their `Debug` text.
//!
//! # `log::info!(target: "audit")`
//!
//! is not audited: the bridge from the `log` crate sends such a record under the target `log`. Use `tracing`'s
//! macros. [`check_wiring`](AuditLog::check_wiring) reports it when it happens.

#![cfg_attr(
    not(any(feature = "sqlite", feature = "postgres")),
    allow(dead_code, reason = "without a database nothing can be built, and the crate must still compile")
)]

mod defaults;
mod engine;
mod entry;
mod error;
pub mod export;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
pub mod guide;
mod layer;
mod log;
mod platform;
pub mod query;
mod queue;
pub mod reader;
mod store;
#[cfg(feature = "testing")]
pub mod testing;

pub use engine::{Health, Notice, Stats};
pub use entry::{AuditEntry, Decision, SequencedEntry, UnknownDecision, audit_id};
pub use error::{AuditError, ErrorKind};
pub use layer::{AuditLayer, CallsiteFilter, Emitter, NotAudit, Protect, WiringReport, not_audit};
pub use log::{AuditLog, AuditLogBuilder, AuditWriter, ShutdownReport};
pub use query::{AuditFilter, AuditQuery};
pub use queue::{Durability, Rejections, WhenFull};
pub use reader::AuditReader;
#[cfg(feature = "postgres")]
pub use store::PostgresStore;
pub use store::{QuarantineRetried, Store};

/// The calls of each type for code without an async runtime.
///
/// The method `blocking` of a type gives them. They have the names of the async calls. Each blocks the thread until it is
/// done. They work on any thread, also on one of an async runtime, whose other tasks wait meanwhile.
pub mod blocking {
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

#[cfg(all(doctest, feature = "sqlite"))]
#[doc = include_str!("../README.md")]
struct Readme;
