//! Turns accepted records into commits: the flusher's thread, the clock's, and the signals that wake them and their callers.
//!
//! | file | what it does |
//! |---|---|
//! | `settings.rs` | the settings of a log, and their defaults |
//! | `shared.rs` | the state that emitters and the flusher share, and its signals |
//! | `status.rs` | health, books and notices: what the log says about itself |
//! | `intake.rs` | the emitters' side: accepts entries, and waits for their commit |
//! | `schedule.rs` | the flusher's side: when a batch starts, and how a commit is settled |
//! | `flusher` | the loop: reads, interprets, commits, retries, acknowledges |
//! | `upkeep.rs` | the queue's background work, when it is due |
//! | `indexing.rs` | creates the indexes that the builder was asked for |
//! | `watch.rs` | reports an answer that the flusher waits for too long |
//! | `thread.rs` | starts the threads, and runs all of these on them |
//! | `health.rs`, `stats.rs`, `notice.rs` | the values that users see: `Health`, `Stats`, `Notice` |
//!
//! Two threads: the flusher's may block, on a disk, a lock or a database. The clock's never does. Every limit of a call, the
//! watch over the flusher and the notices are the clock's.
//!
//! Three promises are kept here:
//!
//! - A record is acknowledged only after the database has committed or quarantined it.
//! - The books are written before the callers that await a `seq` are answered.
//! - No lock is held while code of the application runs.

mod flusher;
mod health;
mod indexing;
mod intake;
mod notice;
mod schedule;
mod settings;
mod shared;
mod stats;
mod status;
mod thread;
mod upkeep;
mod watch;

pub use health::Health;
pub use notice::Notice;
pub(crate) use notice::OnNotice;
pub(crate) use settings::Settings;
pub(crate) use shared::{Choose, Engine, EngineHandle};
pub use stats::{Stats, Unrecovered};
