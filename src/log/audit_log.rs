//! The log and its builder: the only place that wires the parts together.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use serde_json::{Map, Value};
use tracing::{Level, Subscriber};
use tracing_subscriber::registry::LookupSpan;
use uuid::Uuid;

use crate::{
    AuditError, AuditLayer, AuditReader, AuditWriter, Column, Decision, Durability, Health, IndexOn,
    NotAudit, Notice, Protect, Stats, Store, WhenFull, WiringReport,
    engine::{Engine, Settings},
    error::Kind,
    interpret::Defaults,
    layer::{Emitter, Interests},
    notice::OnNotice,
    platform::block_on,
    queue::{
        Queue,
        journal::{JournalQueue, Place},
        memory::MemoryQueue,
    },
    record::Limits,
    store::QueueByDefault,
};

/// What is taken where the builder is not told otherwise, each with its reason.
pub(crate) mod defaults {
    use std::time::Duration;

    use crate::record::Limits;

    pub(crate) const LEDGER: &str = "main";
    /// Wide enough that the transaction's fixed cost vanishes, small enough to start while more arrives.
    pub(crate) const BATCH_SIZE: usize = 512;
    /// A person who looks for what just happened does not notice it.
    pub(crate) const FLUSH_INTERVAL: Duration = Duration::from_millis(100);
    /// As long as a connection waits for another process's lock.
    pub(crate) const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
    /// Rides out a slow commit, and is short enough for a request.
    pub(crate) const FULL_TIMEOUT: Duration = Duration::from_secs(1);
    /// About a second of the fastest database.
    pub(crate) const QUEUE_ENTRIES: usize = 100_000;
    /// 640 bytes for each of those.
    pub(crate) const QUEUE_BYTES: usize = 64 * 1024 * 1024;
    /// Some three million entries: an hour without the database at a thousand a second.
    pub(crate) const JOURNAL_BYTES: u64 = 1024 * 1024 * 1024;
    /// A value holds a large JSON document, an entry several of them.
    pub(crate) const LIMITS: Limits = Limits { value: 64 * 1024, entry: 1024 * 1024 };
}

/// An audit log: opens a store, runs the thread that writes to it, and hands out layers, writers and readers.
///
/// Dropping it is a blocking flush of at most five seconds, and of none if the database is failing and what waits
/// is safe in a journal. It does not stop the log: layers and writers keep
/// it running, and a layer that is part of the global subscriber does so until the process ends or
/// [`shutdown`](Self::shutdown) is called.
#[derive(Debug)]
pub struct AuditLog {
    writer: AuditWriter,
    reader: AuditReader,
    interests: Arc<Interests>,
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        // As the last writer goes with it, that one flushes.
        if !self.writer.is_last() {
            self.writer.engine().flush_when_dropped();
        }
    }
}

impl AuditLog {
    /// Opens the SQLite file at `path`, which is created if need be, with every default.
    ///
    /// # Errors
    /// Those of [`AuditLogBuilder::open`].
    #[cfg(feature = "sqlite")]
    pub async fn open(path: impl AsRef<std::path::Path>) -> Result<Self, AuditError> {
        Self::builder().store(Store::sqlite(path)?).open().await
    }

    /// [`open`](Self::open) for code without an async runtime. Blocks the thread.
    ///
    /// # Errors
    /// As `open`.
    #[cfg(feature = "sqlite")]
    pub fn open_blocking(path: impl AsRef<std::path::Path>) -> Result<Self, AuditError> {
        Self::builder().store(Store::sqlite(path)?).open_blocking()
    }

    /// Starts from the defaults.
    #[must_use]
    pub fn builder() -> AuditLogBuilder {
        AuditLogBuilder::default()
    }

    /// A layer that records audit events, filtered already; it may stand anywhere among the others. Each call
    /// makes a layer of its own. Give it no further filter. It needs a `Registry` below it: `fmt().finish()` and
    /// other ready-made subscribers of tracing-subscriber do not support filtered layers.
    #[must_use]
    pub fn layer<S>(&self) -> AuditLayer<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        Emitter::new(Arc::clone(self.writer.engine()), Arc::clone(&self.interests)).into_layer()
    }

    /// Wraps a *global* filter layer, such as `EnvFilter`, so that it cannot silence audit events or the spans
    /// that give them context. Everything else it decides as before.
    #[must_use]
    pub fn protect<L>(&self, filter: L) -> Protect<L> {
        Protect::new(filter, Arc::clone(&self.interests))
    }

    /// A per-layer filter for *other* layers that keeps the events of this log out of them. Like
    /// [`not_audit`](crate::not_audit), for a log whose target was changed.
    #[must_use]
    pub fn not_audit(&self) -> NotAudit {
        NotAudit::new(self.interests.target().to_owned())
    }

    /// Sends a canary, inside a span, through the current subscriber and reports whether this log's layer saw
    /// both. The canary is never stored and never counted; other layers see an event with the audit target
    /// that says what it is. Call it once after the subscriber is installed.
    ///
    /// # Errors
    /// [`is_wiring`](AuditError::is_wiring), naming what is in the way and what to do: no subscriber, no
    /// layer, a global filter, an empty `Vec` of layers, a `release_max_level_*` feature, or spans that are
    /// filtered out.
    pub fn check_wiring(&self) -> Result<WiringReport, AuditError> {
        self.interests.check()
    }

    /// Whether any subscriber was built with this log's layer.
    #[cfg(feature = "testing")]
    pub(crate) fn is_attached(&self) -> bool {
        self.interests.is_attached()
    }

    /// A writer to the same queue.
    #[must_use]
    pub fn writer(&self) -> AuditWriter {
        self.writer.clone()
    }

    /// A reader of the same store.
    #[must_use]
    pub fn reader(&self) -> AuditReader {
        self.reader.clone()
    }

    /// The books.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.writer.stats()
    }

    /// How the log is doing: one atomic load, for every request if need be.
    ///
    /// What a service does when it is not [`Healthy`](Health::Healthy) is its own to decide: see
    /// [What happens when](crate::failure#what-a-service-does).
    #[must_use]
    pub fn health(&self) -> Health {
        self.writer.health()
    }

    /// Waits until everything that was accepted before this call is committed, at most `commit_timeout`.
    ///
    /// # Errors
    /// [`is_pending`](AuditError::is_pending), with how many entries are left; they stay queued.
    ///
    /// # Cancel safety
    /// Nothing is lost by dropping the future.
    pub async fn flush(&self) -> Result<(), AuditError> {
        self.writer.flush().await
    }

    /// [`flush`](Self::flush) for code without an async runtime. Blocks the thread.
    ///
    /// # Errors
    /// As `flush`.
    pub fn flush_blocking(&self) -> Result<(), AuditError> {
        self.writer.flush_blocking()
    }

    /// Runs `emit`, which emits audit events with `tracing`'s macros, and waits until all of them are durable: for
    /// an act that must not happen unless its entry is certain to stay. Returns the `seq` of each, in order.
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
    /// What counts are events of this log that `emit` itself emits, on this thread. A batch starts at once;
    /// concurrent calls share a transaction.
    ///
    /// # Errors
    /// [`is_wiring`](AuditError::is_wiring) if no event arrived, [`is_rejected`](AuditError::is_rejected) if it will
    /// never be stored, [`is_duplicate`](AuditError::is_duplicate) and [`is_quarantined`](AuditError::is_quarantined),
    /// [`is_pending`](AuditError::is_pending) if it was accepted but not committed within `commit_timeout`, and may
    /// be committed later. Of several events the error is the first one's that has any; the others may be stored.
    ///
    /// # Cancel safety
    /// `emit` runs when the future is first polled. Dropping it after that withdraws nothing.
    pub async fn committed(&self, emit: impl FnOnce()) -> Result<Vec<u64>, AuditError> {
        self.writer.engine().committed(emit).await
    }

    /// [`committed`](Self::committed) for code without an async runtime. Blocks the thread.
    ///
    /// # Errors
    /// As `committed`.
    pub fn committed_blocking(&self, emit: impl FnOnce()) -> Result<Vec<u64>, AuditError> {
        block_on(self.committed(emit))
    }

    /// Accepts nothing more, commits what is pending for at most `deadline`, and ends the log's thread, which
    /// closes its connection. The report says what is left.
    ///
    /// # Errors
    /// [`is_closed`](AuditError::is_closed) if the log's thread had ended before everything was committed.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the log closed and its thread committing what is pending.
    pub async fn shutdown(&self, deadline: Duration) -> Result<ShutdownReport, AuditError> {
        let engine = self.writer.engine();
        let flushed = engine.shutdown(deadline).await;
        let stats = engine.stats();
        match flushed {
            Err(error) if error.is_closed() => Err(error),
            _ => Ok(ShutdownReport { stats }),
        }
    }

    /// [`shutdown`](Self::shutdown) for code without an async runtime. Blocks the thread.
    ///
    /// # Errors
    /// As `shutdown`.
    pub fn shutdown_blocking(&self, deadline: Duration) -> Result<ShutdownReport, AuditError> {
        block_on(self.shutdown(deadline))
    }
}

/// What a shutdown left behind.
#[derive(Debug, Clone)]
#[must_use = "it says whether entries were left uncommitted"]
#[non_exhaustive]
pub struct ShutdownReport {
    /// The books at the end. `pending` is what was not committed in time: from a journal the next log commits it;
    /// with a queue in memory it is lost when the process ends, except for a batch that was on its way.
    pub stats: Stats,
}

/// Makes an [`AuditLog`]. Everything but the store has a default.
#[derive(Clone)]
pub struct AuditLogBuilder {
    store: Option<Store>,
    in_memory: Option<(usize, usize)>,
    journal: Option<PathBuf>,
    journal_bytes: u64,
    durability: Durability,
    when_full: WhenFull,
    batch_size: usize,
    flush_interval: Duration,
    commit_timeout: Duration,
    limits: Limits,
    ledger: String,
    target: String,
    level: Level,
    span_fields: Vec<String>,
    defaults: Defaults,
    on_notice: OnNotice,
    indexes: Vec<IndexOn>,
}

impl fmt::Debug for AuditLogBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLogBuilder").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Default for AuditLogBuilder {
    fn default() -> Self {
        Self {
            store: None,
            in_memory: None,
            journal: None,
            journal_bytes: defaults::JOURNAL_BYTES,
            durability: Durability::default(),
            when_full: WhenFull::Block { timeout: defaults::FULL_TIMEOUT },
            batch_size: defaults::BATCH_SIZE,
            flush_interval: defaults::FLUSH_INTERVAL,
            commit_timeout: defaults::COMMIT_TIMEOUT,
            limits: defaults::LIMITS,
            ledger: defaults::LEDGER.to_owned(),
            target: "audit".to_owned(),
            level: Level::INFO,
            span_fields: Vec::new(),
            defaults: Defaults::default(),
            on_notice: OnNotice::default(),
            indexes: Vec::new(),
        }
    }
}

impl AuditLogBuilder {
    /// Where entries go: a [`Store`] or an sqlx pool. There is no default.
    #[must_use]
    pub fn store(mut self, store: impl Into<Store>) -> Self {
        self.store = Some(store.into());
        self
    }

    /// Queues in memory, within these bounds. What is accepted and not yet committed is lost when the process dies;
    /// accepting costs a third of what it costs on disk.
    ///
    /// It is the default for a SQLite pool, with 100 000 entries and 64 MiB.
    #[must_use]
    pub fn in_memory_queue(mut self, entries: usize, bytes: usize) -> Self {
        self.in_memory = Some((entries, bytes));
        self
    }

    /// Queues on disk, in a directory of its own below this one, which is created if need be (its parent is not):
    /// what is accepted then survives `kill -9`, a panic, `abort` and `process::exit`, and the next log that is
    /// opened with the same journal directory, database and ledger commits it. What else it survives,
    /// [`durability`](Self::durability) says.
    ///
    /// It is the default for a file that is opened by path: `audit.db` has its journals in `audit.db.queue`. Where
    /// the directory lies beside the database, both can be moved, or mounted elsewhere, together.
    ///
    /// Several processes may share the directory, also those of several containers on one volume of one machine:
    /// each has a journal of its own, which it locks with `flock`. It must be a file system of this machine, since
    /// the locks of others say nothing about what runs elsewhere. A child that is forked has no log: its events
    /// count for nothing and its calls are errors with [`is_closed`](AuditError::is_closed), so open the log after
    /// the fork; the child also keeps the lock, so that nobody adopts the journal while it lives.
    #[must_use]
    pub fn journal(mut self, directory: impl Into<PathBuf>) -> Self {
        self.journal = Some(directory.into());
        self
    }

    /// Most bytes that the journal of this log may take on disk; then it is full, as [`WhenFull`] says. Space is
    /// taken by segments of a quarter of it, at most 16 MiB, of which there are two even when little happens; at
    /// least 64 KiB each. Default: 1 GiB.
    #[must_use]
    pub fn journal_max_bytes(mut self, bytes: u64) -> Self {
        self.journal_bytes = bytes;
        self
    }

    /// What an accepted entry survives while it waits in a journal. Default: whatever happens to the process.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// What an emitter does when the queue is full. Default: block for one second.
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Pending entries at which a batch starts. A batch takes whatever is pending, so under load it is larger.
    /// Default: 512.
    #[must_use]
    pub fn batch_size(mut self, entries: usize) -> Self {
        self.batch_size = entries;
        self
    }

    /// The longest that an entry waits for its batch to start. Default: 100 ms.
    #[must_use]
    pub fn flush_interval(mut self, interval: Duration) -> Self {
        self.flush_interval = interval;
        self
    }

    /// How long `commit` and `flush` wait. Default: 5 s.
    #[must_use]
    pub fn commit_timeout(mut self, timeout: Duration) -> Self {
        self.commit_timeout = timeout;
        self
    }

    /// Bounds of one value and of one entry. Events are cut to fit, which is noted; larger written entries are
    /// refused. Default: 64 KiB and 1 MiB.
    #[must_use]
    pub fn size_limits(mut self, value_bytes: usize, entry_bytes: usize) -> Self {
        self.limits = Limits { value: value_bytes, entry: entry_bytes };
        self
    }

    /// Name of the ledger: entries of one are in one order, and whoever writes to it waits for the others who do. A
    /// SQLite file holds one, a PostgreSQL database any number. Default: `main`.
    #[must_use]
    pub fn ledger(mut self, name: impl Into<String>) -> Self {
        self.ledger = name.into();
        self
    }

    /// Which events are audit events: those with exactly this target. Default: `audit`.
    #[must_use]
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.target = target.into();
        self
    }

    /// The most verbose level at which events are recorded and spans give context. Default: `INFO`.
    #[must_use]
    pub fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Workspace of events that name none. Default: the nil UUID.
    #[must_use]
    pub fn default_workspace(mut self, workspace: Uuid) -> Self {
        self.defaults.workspace = workspace;
        self
    }

    /// Decision of events that state none. Default: none, stored as an empty text, since a log should not
    /// assert what nobody said.
    #[must_use]
    pub fn default_decision(mut self, decision: Decision) -> Self {
        self.defaults.decision = Some(decision);
        self
    }

    /// Further fields that are taken from spans into the metadata, besides `workspace_id`, `session_id`,
    /// `agent_id`, `action`, `resource`, `resource_id`, `request_id`, `user_id` and `trace_id`. Name what is
    /// fit for an audit log: `#[instrument]` records every argument of a function.
    #[must_use]
    pub fn span_fields<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.span_fields.extend(names.into_iter().map(Into::into));
        self
    }

    /// A value for the metadata of every event that does not set it itself.
    #[must_use]
    pub fn static_field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        let metadata: &mut Map<String, Value> = &mut self.defaults.metadata;
        metadata.insert(name.into(), value.into());
        self
    }

    /// Who is told when the log's health changes, or entries are rejected or quarantined: at most once a second,
    /// with everything since the time before, on a thread of the log's own that may block. Default: a `warn!`
    /// with the target `tracing_audit`, or an `info!` when all is well again.
    ///
    /// A log that is well tells nothing.
    #[must_use]
    pub fn on_notice(mut self, tell: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        self.on_notice = OnNotice(Arc::new(tell));
        self
    }

    /// An index on this column, for queries that ask for given values of it: see [`indexes`](crate::indexes). Default:
    /// none but those that every log has.
    ///
    /// Once the log is open its thread makes it, if it is not there, beside what it does: opening does not wait for it,
    /// and whoever emits is not stopped; [`Store::create_index`] says who waits. That it cannot be made is told by
    /// [`on_notice`](Self::on_notice) and tried again, at last once a minute. An index that is no longer asked for
    /// stays, until [`Store::drop_index`] takes it away.
    #[must_use]
    pub fn index(mut self, column: Column) -> Self {
        self.indexes.push(IndexOn::Column(column));
        self
    }

    /// The same on a place in the metadata: `client.ip`, a path as in
    /// [`AuditQuery::metadata_any_of`](crate::AuditQuery::metadata_any_of).
    #[must_use]
    pub fn index_metadata(mut self, path: impl Into<String>) -> Self {
        self.indexes.push(IndexOn::Metadata(path.into()));
        self
    }

    /// Starts the log: its thread connects to the store and creates or migrates the tables.
    ///
    /// # Errors
    /// [`is_config`](AuditError::is_config) for settings that cannot work,
    /// [`is_store`](AuditError::is_store) if the database cannot be opened,
    /// [`is_schema`](AuditError::is_schema) if it was written by a newer version or holds another ledger.
    ///
    /// # Cancel safety
    /// Dropping the future ends the thread.
    pub async fn open(self) -> Result<AuditLog, AuditError> {
        let refuse = |message: &'static str| Err(AuditError::new(Kind::Config, message));
        let Some(store) = self.store else {
            return refuse("an audit log needs a store: builder().store(Store::sqlite(path)?)");
        };
        let in_memory = self.in_memory.unwrap_or((defaults::QUEUE_ENTRIES, defaults::QUEUE_BYTES));
        if self.batch_size == 0 || in_memory.0 == 0 || in_memory.1 == 0 {
            return refuse("batch_size and the bounds of the queue must be at least 1");
        }
        if self.journal.is_some() && self.in_memory.is_some() {
            return refuse("a log queues in a journal or in memory, not in both");
        }
        if self.durability == (Durability::PowerLoss { within: Duration::ZERO }) {
            return refuse("a sync takes time: Durability::PowerLoss needs to be within more than zero");
        }
        if self.ledger.is_empty() || self.ledger.contains('\0') || self.target.is_empty() {
            return refuse("the names of ledger and target must not be empty");
        }
        if self.target == "tracing_audit" {
            return refuse("the target tracing_audit is the one under which the log itself tells of trouble");
        }
        let of_events = ["decision", "risk_score", "reason", "message", "metadata", "occurred_at"];
        if self.span_fields.iter().any(|name| of_events.contains(&name.as_str())) {
            return refuse(
                "decision, risk_score, reason, message, metadata and occurred_at belong to an event and are never taken from a span",
            );
        }
        let writer = Uuid::new_v4();
        let by_default = match store.backend().queue_by_default() {
            _ if self.journal.is_some() || self.in_memory.is_some() => None,
            QueueByDefault::Journal(directory) => Some(directory),
            QueueByDefault::Memory => None,
            QueueByDefault::Ask => {
                return refuse(
                    "a database server can be away: say where entries wait for it, by builder().journal(directory), which survives the process, or builder().in_memory_queue(entries, bytes)",
                );
            }
        };
        let is_server = store.backend().queue_by_default() == QueueByDefault::Ask;
        let journal = match self.journal.or(by_default) {
            None if self.durability != Durability::default() => {
                return refuse(
                    "durability is that of a journal, and this log has none: builder().journal(directory)",
                );
            }
            None => None,
            Some(directory) => {
                // Absolute, since the process may change its directory.
                let directory = std::path::absolute(&directory).unwrap_or(directory);
                let Some(database) = store.backend().name(&directory) else {
                    return refuse(
                        "a journal needs a database that it can name, by a path or a pool's plain path",
                    );
                };
                let (ledger, bytes_max) = (self.ledger.clone(), self.journal_bytes);
                Some(Place { directory, bytes_max, durability: self.durability, database, ledger })
            }
        };
        let queue: Arc<dyn Queue> = match &journal {
            Some(place) => Arc::new(JournalQueue::create(place.clone(), writer)?),
            None => Arc::new(MemoryQueue::new(in_memory.0, in_memory.1)),
        };
        // A bound of the queue that is smaller starts a batch too.
        let batch_size = if journal.is_some() { self.batch_size } else { self.batch_size.min(in_memory.0) };
        // What a journal has accepted is safe, so a server that is not there yet is no reason not to begin.
        let must_open = !(is_server && journal.is_some());
        let reader = AuditReader::new(store.clone()).of_ledger(self.ledger.clone());
        let settings = Settings {
            store,
            ledger: self.ledger,
            writer,
            journal,
            batch_size,
            flush_interval: self.flush_interval,
            commit_timeout: self.commit_timeout,
            when_full: self.when_full,
            limits: self.limits,
            defaults: self.defaults,
            on_notice: self.on_notice,
            indexes: self.indexes,
        };
        let (engine, opened) = Engine::start(queue, settings, must_open);
        if must_open {
            match opened.await {
                Ok(outcome) => outcome?,
                Err(_) => return Err(engine.reject(crate::queue::Refused::Closed)),
            }
        }
        let interests = Arc::new(Interests::new(self.target, self.level, self.span_fields));
        Ok(AuditLog { writer: AuditWriter::of(engine), reader, interests })
    }

    /// [`open`](Self::open) for code without an async runtime. Blocks the thread.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_blocking(self) -> Result<AuditLog, AuditError> {
        block_on(self.open())
    }
}
