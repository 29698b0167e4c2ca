//! The builder: the settings of a log.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use tracing::Level;
use uuid::Uuid;

use crate::defaults;
use crate::engine::{Notice, OnNotice};
use crate::entry::{Decision, EventDefaults, Limits, Moment, from_micros};
use crate::platform::Access;
use crate::query::IndexOn;
use crate::queue::{Durability, WhenFull};
use crate::store::{Integrity, Period, Store};

/// Tells the time by which periods begin and end.
#[derive(Clone)]
pub(super) struct PeriodClock(pub(super) Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>);

impl Default for PeriodClock {
    fn default() -> Self {
        Self(Arc::new(|| from_micros(Moment::now().micros)))
    }
}

/// Builds an [`AuditLog`](crate::AuditLog). Everything but the store has a default.
#[derive(Clone)]
pub struct AuditLogBuilder {
    pub(super) store: Option<Store>,
    pub(super) in_memory: bool,
    pub(super) queue_entries: Option<usize>,
    pub(super) queue_bytes: Option<usize>,
    pub(super) journal: Option<PathBuf>,
    pub(super) journal_bytes: u64,
    pub(super) access: Access,
    pub(super) integrity: Integrity,
    pub(super) durability: Durability,
    pub(super) when_full: WhenFull,
    pub(super) batch_entries: usize,
    pub(super) flush_interval: Duration,
    pub(super) commit_timeout: Duration,
    pub(super) open_timeout: Duration,
    /// Whether the log opens only if its database answers, also if it has a journal.
    pub(super) must_open: bool,
    pub(super) limits: Limits,
    pub(super) ledger: String,
    pub(super) period: Option<Period>,
    pub(super) clock: PeriodClock,
    /// How often the clock is looked at, if a test says so.
    pub(super) look_every: Option<Duration>,
    pub(super) target: String,
    pub(super) level: Level,
    pub(super) span_fields: Vec<String>,
    pub(super) defaults: EventDefaults,
    pub(super) on_notice: OnNotice,
    pub(super) indexes: Vec<IndexOn>,
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
            in_memory: false,
            queue_entries: None,
            queue_bytes: None,
            journal: None,
            journal_bytes: defaults::JOURNAL_BYTES,
            access: Access::default(),
            integrity: Integrity::default(),
            durability: Durability::default(),
            when_full: WhenFull::Block { timeout: defaults::FULL_TIMEOUT },
            batch_entries: defaults::BATCH_ENTRIES,
            flush_interval: defaults::FLUSH_INTERVAL,
            commit_timeout: defaults::COMMIT_TIMEOUT,
            open_timeout: defaults::OPEN_TIMEOUT,
            must_open: false,
            limits: defaults::LIMITS,
            ledger: defaults::LEDGER.to_owned(),
            period: None,
            clock: PeriodClock::default(),
            look_every: None,
            target: "audit".to_owned(),
            level: Level::INFO,
            span_fields: Vec::new(),
            defaults: EventDefaults::default(),
            on_notice: OnNotice::default(),
            indexes: Vec::new(),
        }
    }
}

impl AuditLogBuilder {
    /// The database that entries are written to: a [`Store`] or an sqlx pool. There is no default.
    #[must_use]
    pub fn store(mut self, store: impl Into<Store>) -> Self {
        self.store = Some(store.into());
        self
    }

    /// Queues in memory. An entry that was accepted and is not yet committed is lost when the process dies. Accepting an
    /// entry costs a third of what it costs with a journal.
    ///
    /// This is the default for a SQLite pool. [`queue_max_entries`](Self::queue_max_entries) and
    /// [`queue_max_bytes`](Self::queue_max_bytes) bound the queue.
    #[must_use]
    pub fn in_memory_queue(mut self) -> Self {
        self.in_memory = true;
        self
    }

    /// The most entries in a queue in memory; beyond it the queue is full and [`WhenFull`] applies. Default: 100 000.
    #[must_use]
    pub fn queue_max_entries(mut self, entries: usize) -> Self {
        self.queue_entries = Some(entries);
        self
    }

    /// The most bytes of entries in a queue in memory; beyond it the queue is full and [`WhenFull`] applies. Default:
    /// 64 MiB.
    #[must_use]
    pub fn queue_max_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = Some(bytes);
        self
    }

    /// Queues on disk, in a directory of the log's own below this one. The directory is created if it does not exist;
    /// its parent is not. An accepted entry then survives `kill -9`, a panic, `abort` and `process::exit`: the next
    /// log that is opened with the same journal directory, database and ledger commits it.
    /// [`durability`](Self::durability) says what else an entry survives.
    ///
    /// This is the default for a file that is opened by path: the journals of `audit.db` are in `audit.db.queue`. If
    /// you choose another directory beside the database, both can be moved or mounted elsewhere together.
    ///
    /// Several processes may share the directory, also processes of several containers on one volume of one machine.
    /// Each has a journal of its own, which it locks with `flock`. The file system must be local to the machine: a
    /// lock that another machine, the host of a virtual machine, or another mount of the same files holds may not be seen
    /// here. On NFS, SMB, 9p, FUSE, virtiofs and the like, [`open`](Self::open) is therefore an error.
    ///
    /// The directory and all in it is made for this process's user alone ([`group_access`](Self::group_access) adds the
    /// group). The entries of a dead process are believed only if its files belong to this process's user, to root, or to
    /// the owner of the directory.
    ///
    /// A forked child has no log: its events are not counted and its calls return
    /// [`is_closed`](crate::AuditError::is_closed). Open the log after the fork. The child also keeps the lock, so
    /// that no other process adopts the journal while the child lives.
    #[must_use]
    pub fn journal(mut self, directory: impl Into<PathBuf>) -> Self {
        self.journal = Some(directory.into());
        self
    }

    /// The most disk space that this log's journal may use, in bytes; beyond it the queue is full and [`WhenFull`]
    /// applies. Space is taken in segments of a quarter of this limit, between 64 KiB and 16 MiB each, and there are
    /// always at least two. Default: 1 GiB.
    ///
    /// If a SQLite file grows in the same file system, the journals have a further bound. All journals of the directory
    /// together also take at most a quarter of the free room there and of their own bytes, and never the last MiB. So
    /// the entries that they accept can be committed.
    #[must_use]
    pub fn journal_max_bytes(mut self, bytes: u64) -> Self {
        self.journal_bytes = bytes;
        self
    }

    /// Whether the group may read and write what the log makes, its queue and a SQLite file: directories with mode 0770
    /// and files with 0660, instead of 0700 and 0600, whatever the umask is. The group is the process's, or that of the
    /// directory in which something is made if that has the setgid bit. Members of the group are believed: the journals
    /// of their dead processes are committed too. A file or directory that exists already keeps its mode. A notice at
    /// open reports a database to which others may write than this setting allows. Default: false.
    #[must_use]
    pub fn group_access(mut self, group: bool) -> Self {
        self.access = if group { Access::Group } else { Access::Owner };
        self
    }

    /// Whether the entries that this log commits are added to the tree that proves them, in their own transaction, after it, or
    /// not at all. Default: [`Integrity::Inline`]. Hashing takes 1 to 2 µs of the log's thread for an entry, and its proof
    /// 32 bytes of the database; emitting an event costs nothing more.
    ///
    /// If the tree cannot be added to, because somebody has changed what the database holds of it, entries are committed
    /// without it, and a notice says why ([`is_altered`](crate::AuditError::is_altered)).
    #[must_use]
    pub fn integrity(mut self, integrity: Integrity) -> Self {
        self.integrity = integrity;
        self
    }

    /// The failures that an accepted entry survives while it waits in a journal. Default: every crash of the process.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The behaviour of an emitter when the queue is full. Default: block for one second.
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// The number of pending entries at which a batch starts. A batch takes everything that is pending, so batches
    /// are larger under load. Default: 512.
    #[must_use]
    pub fn batch_entries(mut self, entries: usize) -> Self {
        self.batch_entries = entries;
        self
    }

    /// The longest time that an entry waits for its batch to start. Default: 100 ms.
    #[must_use]
    pub fn flush_interval(mut self, interval: Duration) -> Self {
        self.flush_interval = interval;
        self
    }

    /// The longest time that `commit`, `committed` and `flush` wait. Default: 5 s.
    #[must_use]
    pub fn commit_timeout(mut self, timeout: Duration) -> Self {
        self.commit_timeout = timeout;
        self
    }

    /// The longest time that [`open`](Self::open) waits for the queue's directory and for the database. It includes the
    /// migration of tables that an older version made. Default: 30 s.
    #[must_use]
    pub fn open_timeout(mut self, timeout: Duration) -> Self {
        self.open_timeout = timeout;
        self
    }

    /// The largest size of one value, in bytes. The layer cuts a longer value of an event to fit and records that in the
    /// entry's problems; an entry that is written as a value with a longer text is rejected. Default: 64 KiB.
    #[must_use]
    pub fn value_max_bytes(mut self, bytes: usize) -> Self {
        self.limits.value = bytes;
        self
    }

    /// The largest size of one entry, in bytes. The layer cuts a larger event to fit and records that in the entry's
    /// problems; a larger entry that is written as a value is rejected. Default: 1 MiB.
    #[must_use]
    pub fn entry_max_bytes(mut self, bytes: usize) -> Self {
        self.limits.entry = bytes;
        self
    }

    /// The name of the ledger. The entries of a ledger are in one order, so the processes that write to it wait for
    /// each other. A SQLite file holds one ledger, a PostgreSQL database any number. Default: `main`.
    #[must_use]
    pub fn ledger(mut self, name: impl Into<String>) -> Self {
        self.ledger = name.into();
        self
    }

    /// Gives each day, month or year a ledger of its own, whose name ends with it: `payments-2026-12`. Default: one ledger for
    /// ever.
    ///
    /// In SQLite each has a file of its own beside the one that is given: `audit-2026-12.db` for `audit.db`, which itself is not
    /// made. A file or a ledger that is over takes no more room than it has, can be copied, moved, or
    /// [archived](crate::guide::growth), and takes nothing from the speed of the others. The queues of all are in one directory.
    ///
    /// An entry is in the ledger of the period in which it was accepted, by the clock of its process in UTC, to the time that it
    /// takes to open the next one. `seq` begins at 0 in each, and so does the tree. What a process had accepted and not committed
    /// when it was killed is committed to the ledger of its own period, also in a later one. A clock that is set back leads to no
    /// earlier period; nor does a start with a clock that is behind the latest file. If the next ledger cannot be opened, entries
    /// go to the last one, a notice says so, and it is tried again every second. A role of PostgreSQL that may not write the tables
    /// needs a grant for the ledgers of all periods: see [`growth`](crate::guide::growth).
    ///
    /// [`reader`](crate::AuditLog::reader) reads the period of now, [`period_reader`](crate::AuditLog::period_reader) all of them.
    /// [`retry_quarantined`](crate::AuditWriter::retry_quarantined) is of the period of now: for another one, open a log with the
    /// name of its ledger.
    ///
    /// ```
    /// # #[cfg(feature = "_sqlite")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("audit.db");
    /// use tracing_audit::{AuditEntry, AuditLog, Period, Store};
    ///
    /// let store = Store::sqlite(&path)?;
    /// let log = AuditLog::builder().store(store).ledger("payments").period(Period::Month).open().await?;
    /// let entry = AuditEntry::new(uuid::Uuid::nil(), "payment.made", "payment");
    /// let ledger = Period::Month.ledger("payments", entry.ts);
    /// log.writer().commit(entry).await?;
    /// assert_eq!(log.reader().ledgers().await?[0].name, ledger);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "_sqlite"))]
    /// # fn main() {}
    /// ```
    #[must_use]
    pub fn period(mut self, period: Period) -> Self {
        self.period = Some(period);
        self
    }

    /// The clock by which periods begin and end, for tests. It is looked at every ten milliseconds.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    #[must_use]
    pub fn period_clock(mut self, now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        self.clock = PeriodClock(Arc::new(now));
        self.look_every = Some(Duration::from_millis(10));
        self
    }

    /// The target of audit events: an event with exactly this target is recorded. Default: `audit`.
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

    /// The workspace of events that name none. Default: the nil UUID. Events in the journal of a dead process keep what
    /// that process's log was given, and so it is with [`default_decision`](Self::default_decision),
    /// [`own_version_5_ids`](Self::own_version_5_ids) and [`static_field`](Self::static_field).
    #[must_use]
    pub fn default_workspace(mut self, workspace: Uuid) -> Self {
        self.defaults.workspace = workspace;
        self
    }

    /// The decision of events that state none. Default: none, which is stored as an empty text, because a log should
    /// not assert what nobody said.
    #[must_use]
    pub fn default_decision(mut self, decision: Decision) -> Self {
        self.defaults.decision = Some(decision);
        self
    }

    /// Further fields that are copied from spans into the metadata, in addition to `workspace_id`, `session_id`,
    /// `agent_id`, `action`, `resource`, `resource_id`, `request_id`, `user_id` and `trace_id`. Name only fields that
    /// may stand in an audit log: `#[instrument]` records every argument of a function.
    #[must_use]
    pub fn span_fields<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.span_fields.extend(names.into_iter().map(Into::into));
        self
    }

    /// Takes a UUID of version 5 that an event gives as `workspace_id`, `session_id` or `agent_id` for that id: for
    /// applications that make their ids so. Default: it is taken for a name of its own, with a problem, since it may be
    /// the [`audit_id`](crate::audit_id) of somebody else's name. UUIDs of other versions are always taken as they are.
    #[must_use]
    pub fn own_version_5_ids(mut self) -> Self {
        self.defaults.own_version_5 = true;
        self
    }

    /// A value for the metadata of every event. A field of an event with this name replaces it. A value under this name
    /// in a JSON document in the field `metadata`, whole, nested or with dots, does not: it is set aside under `given`,
    /// with a problem.
    #[must_use]
    pub fn static_field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        let metadata: &mut Map<String, Value> = &mut self.defaults.metadata;
        metadata.insert(name.into(), value.into());
        self
    }

    /// Called when the log's health changes, when entries are rejected or quarantined, or when an index cannot be created:
    /// at most once a second, with everything since the last call, on a thread of the log's own, which may block. Called
    /// once if the SQLite library has the
    /// [WAL-reset bug](https://www.sqlite.org/wal.html#walresetbug) and the database a write-ahead log. Otherwise not called
    /// while the log is healthy. Default: a `warn!` with the target `tracing_audit`, and an `info!` once the log is healthy again.
    #[must_use]
    pub fn on_notice(mut self, notify: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        self.on_notice = OnNotice(Arc::new(notify));
        self
    }

    /// An index on a [`Column`](crate::query::Column), or on a path in the metadata by [`IndexOn::metadata`], for queries that
    /// ask for given values of it: see [`guide::indexes`](crate::guide::indexes). Default: none but the built-in ones.
    ///
    /// ```
    /// # use tracing_audit::{AuditLog, index::IndexOn, query::Column};
    /// let builder = AuditLog::builder().index(Column::AgentId).index(IndexOn::metadata("client.ip"));
    /// ```
    ///
    /// Created in the background once the log is open, if it does not exist: `open` does not wait for it and emitters
    /// are not held up ([`Store::create_index`] says who is). A failure is reported to
    /// [`on_notice`](Self::on_notice) and retried, eventually once a minute. Removing this call does not drop the
    /// index; [`Store::drop_index`] does.
    #[must_use]
    pub fn index(mut self, on: impl Into<IndexOn>) -> Self {
        self.indexes.push(on.into());
        self
    }
}
