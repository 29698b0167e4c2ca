//! The log: hands out layers, writers and readers, and waits for what they wrote.

use std::{sync::Arc, time::Duration};

use tracing::Subscriber;
use tracing_subscriber::registry::LookupSpan;

use super::{builder::AuditLogBuilder, engines::Engines, writer::AuditWriter};
#[cfg(feature = "testing")]
use crate::engine::EngineHandle;
use crate::engine::{Health, Stats};
use crate::error::AuditError;
use crate::evidence::{Sealed, Sealing};
use crate::layer::{AuditLayer, Destination, Emitter, Interests, NotAudit, Protect, WiringReport};
use crate::ledger::Checkpoint;
use crate::reader::{AuditReader, PeriodReader};

/// An audit log: opens a store, runs the thread that writes to it, and hands out layers, writers and readers.
///
/// Dropping it is a blocking flush of at most five seconds. If the database is failing and the pending entries are
/// safe in a journal, it does not wait at all. Dropping it does not stop the log: layers and writers keep the log
/// running, and a layer that is part of the global subscriber does so until the process ends or
/// [`shutdown`](Self::shutdown) is called.
#[derive(Debug)]
pub struct AuditLog {
    pub(super) writer: AuditWriter,
    pub(super) reader: AuditReader,
    pub(super) interests: Arc<Interests>,
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        // If this drops the last writer too, the writer flushes.
        if !self.writer.is_last() {
            self.writer.engines().flush_when_dropped();
        }
    }
}

impl AuditLog {
    /// A builder with every default.
    #[must_use]
    pub fn builder() -> AuditLogBuilder {
        AuditLogBuilder::default()
    }

    /// A layer that records audit events. It has its filter already, so give it no further one. It may stand anywhere
    /// among other layers. Each call creates a layer of its own.
    ///
    /// The layer needs a `Registry` below it. A ready-made subscriber, such as that of `tracing_subscriber::fmt()`,
    /// does not support layers with a filter, and adding this one to it **panics**. Turn the ready-made subscriber into
    /// a layer of the registry. Before:
    ///
    /// ```should_panic
    /// # use tracing_subscriber::prelude::*;
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let store = tracing_audit::Store::sqlite(directory.path().join("audit.db")).unwrap();
    /// # let audit = tracing_audit::AuditLog::builder().store(store).blocking().open().unwrap();
    /// tracing_subscriber::fmt().finish().with(audit.layer()).init(); // panics
    /// ```
    ///
    /// After:
    ///
    /// ```standalone_crate
    /// use tracing_subscriber::prelude::*;
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let store = tracing_audit::Store::sqlite(directory.path().join("audit.db")).unwrap();
    /// # let audit = tracing_audit::AuditLog::builder().store(store).blocking().open().unwrap();
    /// tracing_subscriber::registry()
    ///     .with(tracing_subscriber::fmt::layer().with_filter(tracing_audit::not_audit()))
    ///     .with(audit.layer())
    ///     .init();
    /// ```
    ///
    /// `tracing_subscriber::fmt().init()` installs a global subscriber by itself. A second `init()` after it panics as
    /// well, so replace it in the same way; its settings (`.json()`, `.with_target(..)`, `.with_writer(..)`) are the
    /// same on `fmt::layer()`, and a maximum level becomes a filter:
    /// `.with_filter(LevelFilter::INFO.and(tracing_audit::not_audit()))`.
    #[must_use]
    pub fn layer<S>(&self) -> AuditLayer<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let limits = self.writer.engine().settings.limits;
        let destination = match self.writer.engines() {
            Engines::One(engine) => Destination::Engine(Arc::clone(engine)),
            Engines::Several(several) => {
                let several = Arc::clone(several);
                Destination::Period(several)
            }
        };
        Emitter::new(destination, limits, Arc::clone(&self.interests)).into_layer()
    }

    /// Wraps a *global* filter layer, such as `EnvFilter`, so that it cannot silence audit events or the spans that
    /// give them context. For everything else the filter decides as before.
    #[must_use]
    pub fn protect<L>(&self, filter: L) -> Protect<L> {
        Protect::new(filter, Arc::clone(&self.interests))
    }

    /// A per-layer filter for *other* layers that keeps the events of this log out of them: the same as
    /// [`not_audit`](crate::not_audit), for a log whose target was changed. As with that one, the fields of spans
    /// still reach the other layer.
    #[must_use]
    pub fn not_audit(&self) -> NotAudit {
        NotAudit::new(self.interests.target().to_owned())
    }

    /// Sends a canary event, inside a span, through the current subscriber and reports whether this log's layer saw
    /// both. The canary is never stored and never counted; other layers see it as an event with the audit target,
    /// whose message says what it is. Call it once after the subscriber is installed.
    ///
    /// # Errors
    /// [`is_wiring`](AuditError::is_wiring), naming what is in the way and what to do: no subscriber, no
    /// layer, a global filter, an empty `Vec` of layers, a `release_max_level_*` feature, or spans that are
    /// filtered out. [`is_closed`](AuditError::is_closed) in a process that was forked after the log was opened.
    pub fn check_wiring(&self) -> Result<WiringReport, AuditError> {
        self.writer.engine().check_process()?;
        self.interests.check()
    }

    /// The same log with the wiring of a layer that serves several logs.
    #[cfg(feature = "testing")]
    pub(crate) fn wired_as(mut self, interests: Arc<Interests>) -> Self {
        self.interests = interests;
        self
    }

    #[cfg(feature = "testing")]
    pub(crate) fn engine(&self) -> Arc<EngineHandle> {
        self.writer.engine()
    }

    /// A writer to the same queue.
    #[must_use]
    pub fn writer(&self) -> AuditWriter {
        self.writer.clone()
    }

    /// A reader of the same store; of a log with [periods](AuditLogBuilder::period), of the period of now.
    #[must_use]
    pub fn reader(&self) -> AuditReader {
        match self.writer.engines() {
            Engines::One(_) => self.reader.clone(),
            Engines::Several(several) => several.reader(),
        }
    }

    /// A reader of all [periods](AuditLogBuilder::period). `None`: the log has none.
    #[must_use]
    pub fn period_reader(&self) -> Option<PeriodReader> {
        match self.writer.engines() {
            Engines::One(_) => None,
            Engines::Several(several) => Some(several.all_readers()),
        }
    }

    /// The books: how many entries were offered, and what became of them.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.writer.stats()
    }

    /// The health of the log. This is one atomic load, so a service can ask on every request.
    ///
    /// A service decides for itself what to do while the log is not [`Healthy`](Health::Healthy): see
    /// [What happens when](crate::guide::failure#what-a-service-does).
    #[must_use]
    pub fn health(&self) -> Health {
        self.writer.health()
    }

    /// Waits until every entry that was accepted before this call is committed, for at most `commit_timeout`.
    ///
    /// # Errors
    /// [`is_pending`](AuditError::is_pending), with how many entries are left; they stay queued.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn flush(&self) -> Result<(), AuditError> {
        self.writer.flush().await
    }

    /// Waits until the entries are committed that journals of dead processes held at this call, for at most `timeout`:
    /// these are the entries that [`Stats::unrecovered`] counts. A log commits them by itself, in addition to its own
    /// entries, so this is for a service that must know that this is done, for instance before it answers an auditor.
    /// [`flush`](Self::flush) waits for this log's own entries alone.
    ///
    /// These are the journals in this log's own directory of journals, for its database and ledger; those that another log
    /// has adopted count too. A log with a queue in memory looks for none, and there this returns at once.
    ///
    /// ```
    /// # async fn ready(audit: &tracing_audit::AuditLog) -> Result<(), tracing_audit::AuditError> {
    /// audit.recovered(std::time::Duration::from_secs(60)).await?;
    /// // Whatever a process that was killed had accepted is in the ledger now.
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`is_pending`](AuditError::is_pending) if it is not done in time, with how many entries are left: they are committed
    /// later. [`is_store`](AuditError::is_store) once the rest is committed, if a journal is left alone because it cannot be
    /// read or believed, or hangs: the error names it and the remedy. [`is_closed`](AuditError::is_closed) if the log has
    /// ended.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn recovered(&self, timeout: Duration) -> Result<(), AuditError> {
        self.writer.engines().recovered(timeout).await
    }

    /// Runs `emit`, which emits audit events with `tracing`'s macros, and waits until all of them are durable. Use it
    /// for an act that must not happen unless its entry is certain to stay. Returns the `seq` of each event, in order.
    ///
    /// ```
    /// # use tracing::info;
    /// # use tracing_audit::AuditLog;
    /// # async fn handler(audit: &AuditLog) -> Result<(), tracing_audit::AuditError> {
    /// audit.committed(|| info!(target: "audit", action = "key.destroy", resource = "key", decision = "Allow")).await?;
    /// // Only now is the key destroyed.
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Only events of this log that `emit` itself emits, on this thread, count. A batch starts at once; concurrent
    /// calls share a transaction.
    ///
    /// **Do not call it inside a write transaction of the application on the same SQLite database.** SQLite has one
    /// writer at a time, and the log commits on a connection of its own, also if it was opened on the application's
    /// pool. (A database in memory lives in its pool: there the log borrows one of the pool's connections.) The log's
    /// commit waits for the application's transaction, which waits for this call. After `commit_timeout` the call
    /// returns [`is_pending`](AuditError::is_pending), and the entry is committed once the transaction has ended. Call
    /// it before the transaction begins. A transaction on PostgreSQL, which has many writers, is not in the way.
    ///
    /// # Errors
    /// [`is_wiring`](AuditError::is_wiring) if no event arrived, [`is_rejected`](AuditError::is_rejected) if an event
    /// will never be stored, [`is_duplicate`](AuditError::is_duplicate) and
    /// [`is_quarantined`](AuditError::is_quarantined) if the database refuses its entry,
    /// [`is_pending`](AuditError::is_pending) if it was accepted but not committed within `commit_timeout`: it may be
    /// committed later. With several events the error is that of the first event that has one; the others may be
    /// stored.
    ///
    /// # Cancel safety
    /// `emit` runs when the future is first polled. Dropping it after that withdraws nothing.
    pub async fn committed(&self, emit: impl FnOnce()) -> Result<Vec<u64>, AuditError> {
        self.writer.engines().committed(emit).await
    }

    /// The size and the root of the tree over all entries that are committed in this log's ledger, also those of others:
    /// [`AuditReader::checkpoint`]. Call [`flush`](Self::flush) first to have this log's own entries in it. With
    /// [`Integrity::Deferred`](crate::Integrity::Deferred) they come into the tree a moment later.
    ///
    /// # Errors
    /// [`is_store`](AuditError::is_store) if the database cannot be read or no log has written to the ledger yet,
    /// [`is_altered`](AuditError::is_altered) if what the ledger's head holds of the tree is malformed.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn checkpoint(&self) -> Result<Checkpoint, AuditError> {
        self.reader().checkpoint().await
    }

    /// Seals the ledger: commits an entry with the action `audit.sealed`, which has a root over the entries of each workspace. From then
    /// on a customer can be handed all of their entries before it, with the proof that none is withheld:
    /// [`AuditReader::bundle_part`].
    ///
    /// The seal covers what is committed, so call [`flush`](Self::flush) first to have this log's own entries in it. If nothing was
    /// committed since the last seal, that one is returned. Nothing but this call costs anything: it reads the workspace and the leaf
    /// hash of every entry, and takes some 400 bytes of memory for each workspace. A seal each night, or each hour, is enough.
    ///
    /// The metadata of the entry are `until`, `workspaces`, `root` and `seed`. The seed hides the workspaces from each other: withhold
    /// `metadata.seed` where the entry is handed over.
    ///
    /// # Errors
    /// [`is_query`](AuditError::is_query) if there is no entry, [`is_altered`](AuditError::is_altered) if an entry is gone or the
    /// hashes do not lead to the root of the ledger: nothing is sealed then. Otherwise those of [`checkpoint`](Self::checkpoint) and
    /// of [`AuditWriter::commit`].
    ///
    /// # Cancel safety
    /// Dropping the future does not withdraw a seal that was accepted.
    pub async fn seal(&self) -> Result<Sealed, AuditError> {
        match self.reader.sealing().await? {
            Sealing::Declared(sealed) => Ok(sealed),
            Sealing::New { seal, seed } => {
                let seq = self.writer.declare_seal(&seal, &seed).await?;
                Ok(Sealed::new(seq, seal))
            }
        }
    }

    /// Accepts nothing more, commits pending entries for at most `deadline`, and ends the log's thread, which closes
    /// its connection. The report says how many entries are left.
    ///
    /// # Errors
    /// [`is_closed`](AuditError::is_closed) if the log's thread had ended before everything was committed.
    ///
    /// # Cancel safety
    /// If the future is dropped, the log stays closed and its thread continues to commit pending entries.
    pub async fn shutdown(&self, deadline: Duration) -> Result<ShutdownReport, AuditError> {
        let engines = self.writer.engines();
        let flushed = engines.shutdown(deadline).await;
        let stats = engines.stats();
        match flushed {
            Err(error) if error.is_closed() => Err(error),
            _ => Ok(ShutdownReport { stats }),
        }
    }
}

/// The result of a shutdown: what it left uncommitted.
#[derive(Debug, Clone)]
#[must_use = "it says whether entries were left uncommitted"]
#[non_exhaustive]
pub struct ShutdownReport {
    /// The books at the end. `pending` counts the entries that were not committed in time. The next log commits them
    /// from the journal; from a queue in memory they are lost when the process ends, except for a batch that was
    /// being committed.
    pub stats: Stats,
}
