//! Opens a log: checks the settings, chooses the queue, starts the engine.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{audit_log::AuditLog, builder::AuditLogBuilder, writer::AuditWriter};
use crate::defaults;
use crate::engine::{Engine, Settings};
use crate::error::{AuditError, ErrorKind};
use crate::layer::Interests;
use crate::platform::{Clock, Origin};
use crate::queue::{Durability, JournalHome, JournalQueue, MemoryQueue, Queue, Refused};
use crate::reader::AuditReader;
use crate::store::{QueueByDefault, Store};

/// The fields that only an event may have.
const FIELDS_OF_EVENTS: [&str; 6] =
    ["decision", "risk_score", "reason", "message", "metadata", "occurred_at"];

fn refused(message: &'static str) -> AuditError {
    AuditError::new(ErrorKind::Config, message)
}

/// The time to wait while a log is opened.
#[derive(Clone, Copy)]
struct Limit {
    start: Instant,
    timeout: Duration,
}

impl Limit {
    fn left(self) -> Duration {
        self.timeout.saturating_sub(self.start.elapsed())
    }

    fn exceeded(self, whom: &str) -> AuditError {
        let message = format!("{whom} has not answered for {:?}, the open_timeout", self.timeout);
        AuditError::new(ErrorKind::Store, message)
    }

    /// Makes a journal, on a thread of its own: nobody knows how long the disk takes.
    async fn journal(
        self,
        clock: &Clock,
        place: JournalHome,
        writer: Uuid,
    ) -> Result<Arc<dyn Queue>, AuditError> {
        let directory = place.directory.display().to_string();
        let made = clock.aside(move || JournalQueue::create(place, writer));
        match clock.within(self.left(), made).await {
            Some(Ok(queue)) => Ok(Arc::new(queue?)),
            Some(Err(cause)) => {
                let message = format!("the journal in {directory} cannot be made");
                Err(AuditError::new(ErrorKind::Store, message).because(cause))
            }
            None => Err(self.exceeded(&format!("the queue's directory {directory}"))),
        }
    }
}

impl AuditLog {
    /// Opens the SQLite file at `path` with every default. The file is created if it does not exist.
    ///
    /// Code without an async runtime opens it by [`AuditLogBuilder::blocking`].
    ///
    /// # Errors
    /// The same as those of [`AuditLogBuilder::open`].
    #[cfg(feature = "_sqlite")]
    pub async fn open(path: impl AsRef<std::path::Path>) -> Result<Self, AuditError> {
        Self::builder().store(Store::sqlite(path)?).open_one().await
    }
}

impl AuditLogBuilder {
    /// Starts a log of one ledger: see [`open`](Self::open).
    pub(super) async fn open_one(mut self) -> Result<AuditLog, AuditError> {
        let Some(store) = self.store.take() else {
            return Err(refused("an audit log needs a store: builder().store(Store::sqlite(path)?)"));
        };
        self.check()?;
        let journal = self.journal_of(&store)?;
        let queue = journal.as_ref().map(|journal| journal.directory.clone());
        let store = store.of_log(self.access, queue, self.integrity);
        let writer = Uuid::new_v4();
        let clock = Clock::start().map_err(|cause| {
            AuditError::new(ErrorKind::Store, "the log's threads cannot be started").because(cause)
        })?;
        let limit = Limit { start: Instant::now(), timeout: self.open_timeout };
        let (entries, bytes) = self.memory_bounds();
        let queue: Arc<dyn Queue> = match &journal {
            Some(place) => limit.journal(&clock, place.clone(), writer).await?,
            None => Arc::new(MemoryQueue::new(entries, bytes)),
        };
        // A queue in memory that holds less than a batch must start one when it is full.
        let batch_entries =
            if journal.is_some() { self.batch_entries } else { self.batch_entries.min(entries) };
        // With a journal the log can open while a database server is away: the journal keeps what it accepts.
        let is_server = store.backend().queue_by_default() == QueueByDefault::Ask;
        let must_open = self.must_open || !(is_server && journal.is_some());
        let reader = AuditReader::new(store.clone()).of_ledger(self.ledger.clone());
        let settings = Settings {
            store,
            ledger: self.ledger,
            writer,
            origin: Origin::current(journal.as_ref().map(|journal| &*journal.directory)),
            journal,
            batch_entries,
            flush_interval: self.flush_interval,
            commit_timeout: self.commit_timeout,
            when_full: self.when_full,
            limits: self.limits,
            defaults: self.defaults,
            on_notice: self.on_notice,
            indexes: self.indexes,
        };
        let (engine, opened) = Engine::start(queue, settings, must_open, Ok(clock));
        if must_open {
            match engine.within(limit.left(), opened).await {
                Some(Ok(outcome)) => outcome?,
                Some(Err(_)) => return Err(engine.reject(Refused::Closed)),
                None => return Err(limit.exceeded("the audit database")),
            }
        }
        let interests = Arc::new(Interests::new(self.target, self.level, self.span_fields));
        Ok(AuditLog { writer: AuditWriter::of(engine), reader, interests })
    }

    /// Refuses settings that cannot work, whatever the store is.
    fn check(&self) -> Result<(), AuditError> {
        let (entries, bytes) = self.memory_bounds();
        if self.batch_entries == 0 || entries == 0 || bytes == 0 {
            return Err(refused("batch_entries, queue_max_entries and queue_max_bytes must be at least 1"));
        }
        if self.journal.is_some() && self.in_memory {
            return Err(refused(
                "choose one queue: builder().journal(..) or builder().in_memory_queue(), not both",
            ));
        }
        if self.durability == (Durability::PowerLoss { within: Duration::ZERO }) {
            return Err(refused(
                "Durability::PowerLoss { within } must be greater than zero: a sync takes time",
            ));
        }
        if self.ledger.is_empty() || self.ledger.contains('\0') || self.target.is_empty() {
            return Err(refused("the names of ledger and target must not be empty, nor contain NUL"));
        }
        if self.target == "tracing_audit" {
            return Err(refused(
                "choose another target: the log reports its own trouble under the target tracing_audit",
            ));
        }
        if self.span_fields.iter().any(|name| FIELDS_OF_EVENTS.contains(&name.as_str())) {
            return Err(refused(
                "decision, risk_score, reason, message, metadata and occurred_at belong to an event and are never \
                 taken from a span",
            ));
        }
        Ok(())
    }

    fn memory_bounds(&self) -> (usize, usize) {
        let entries = self.queue_entries.unwrap_or(defaults::QUEUE_ENTRIES);
        (entries, self.queue_bytes.unwrap_or(defaults::QUEUE_BYTES))
    }

    /// Chooses the queue: a journal with its place, or `None` for a queue in memory.
    fn journal_of(&self, store: &Store) -> Result<Option<JournalHome>, AuditError> {
        let Some(directory) = self.journal_directory(store)? else {
            if self.durability != Durability::default() {
                return Err(refused(
                    "durability is that of a journal, and this log has none: builder().journal(directory)",
                ));
            }
            return Ok(None);
        };
        if self.queue_entries.is_some() || self.queue_bytes.is_some() {
            return Err(refused(
                "queue_max_entries and queue_max_bytes bound a queue in memory, and this log has a journal: choose \
                 builder().in_memory_queue(), or bound the journal by journal_max_bytes",
            ));
        }
        // Absolute, because the process may change its working directory.
        let directory = std::path::absolute(&directory).unwrap_or(directory);
        let Some(database) = store.backend().name(&directory) else {
            return Err(refused(
                "a journal needs a database that it can name, by a path or a pool's plain path",
            ));
        };
        let (ledger, bytes_max) = (self.ledger.clone(), self.journal_bytes);
        let defaults = self.defaults.clone();
        Ok(Some(JournalHome {
            directory,
            bytes_max,
            durability: self.durability,
            access: self.access,
            beside: store.backend().directory(),
            database,
            ledger,
            defaults,
        }))
    }

    fn journal_directory(&self, store: &Store) -> Result<Option<PathBuf>, AuditError> {
        if self.journal.is_some() || self.in_memory {
            return Ok(self.journal.clone());
        }
        match store.backend().queue_by_default() {
            QueueByDefault::Journal(directory) => Ok(Some(directory)),
            QueueByDefault::Memory => Ok(None),
            QueueByDefault::Ask => Err(refused(
                "a database server can be away: say where entries wait for it, by builder().journal(directory), \
                 which survives the process, or builder().in_memory_queue()",
            )),
        }
    }
}
