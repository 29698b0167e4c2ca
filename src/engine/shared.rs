//! The engine: the state that emitters, writers and the flusher share, and how they wake each other.

use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot, watch},
};

use super::{
    health::Health,
    settings::Settings,
    stats::{Stats, Unrecovered},
    status::Status,
};
use crate::error::{AuditError, ErrorKind};
use crate::platform::{Clock, Process};
use crate::queue::Queue;

thread_local! {
    /// Set on the flusher's thread, on which nothing may wait for the flusher.
    pub(super) static IS_FLUSHER: Cell<bool> = const { Cell::new(false) };
}

/// Delivers the `seq` of one entry to the caller that awaits it.
pub(crate) type CommitWaiter = oneshot::Sender<Result<u64, AuditError>>;

/// The callers that await the `seq` of an entry, by the entry's position. Locked after the queue's own locks.
pub(super) type CommitWaiters = Arc<Mutex<BTreeMap<u64, CommitWaiter>>>;

/// The error of every call in a process that was forked after the log was opened.
pub(super) fn forked() -> AuditError {
    AuditError::new(
        ErrorKind::Closed,
        "the audit log was opened before this process was forked: open one in each process, after the fork",
    )
}

/// The flusher's progress, which callers wait for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Every record up to this position is committed, quarantined or counted as damaged.
    pub(super) acknowledged: u64,
    /// The flusher's thread has ended.
    pub(super) ended: bool,
    /// The number of the last request to tidy up that was served.
    pub(super) tidied: u64,
    /// The number of the last request to recover everything that was served: what dead processes' journals held then is
    /// settled, or left alone.
    pub(super) recovered: u64,
}

/// The shared state of one log. See the [module](self).
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) settings: Settings,
    pub(super) status: Status,
    /// A caller is waiting for everything up to this position, so batches start immediately.
    pub(super) urgent: AtomicU64,
    /// Nobody can append any more: the flusher commits what is pending, and ends.
    pub(super) released: AtomicBool,
    /// The flush of a shutdown is over, or has run out of time: the flusher ends as soon as nothing is pending or the
    /// database is failing.
    pub(super) stop: AtomicBool,
    /// The ledger knows this log's writer, as one that has not ended.
    pub(super) known: AtomicBool,
    /// One more than the acknowledged position at which an emitter has timed out waiting for room; 0 if none has. As long
    /// as nothing more is acknowledged, emitters are rejected at once and do not wait again.
    pub(super) overdue: AtomicU64,
    /// Wakes the flusher, which may be waiting for a batch.
    pub(super) wake: Notify,
    /// Wakes the flusher from a pause between two attempts, because `stop` was set.
    pub(super) stopped: Notify,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) commits: CommitWaiters,
    /// The number of requests to bring everything into the database's main file.
    pub(super) tidy_asked: AtomicU64,
    /// Wakes the flusher, because that was asked for.
    pub(super) tidy: Notify,
    /// The number of requests to recover whatever dead processes' journals hold.
    pub(super) recovery_asked: AtomicU64,
    /// Wakes the flusher, because that was asked for.
    pub(super) recovery: Notify,
    /// Wakes the task that does the queue's background work.
    pub(super) upkeep: Notify,
    /// Wakes the task that creates indexes: the log has connected, so the tables exist.
    pub(super) tables_exist: Notify,
    /// The process in which the flusher's thread runs.
    pub(super) process: Process,
    /// Keeps the time for every limit. `None` if its thread could not be started.
    pub(super) clock: Option<Clock>,
    /// The flusher's runtime, on whose thread everything may block.
    runtime: Option<Handle>,
}

/// Keeps the engine alive. The log, its writers and its layers hold one; the flusher does not. When the last one is
/// dropped, the flusher commits what is pending and ends.
#[derive(Debug)]
pub(crate) struct EngineHandle(pub(super) Arc<Engine>);

impl EngineHandle {
    /// A handle of this engine, if this process was forked after the log was opened: nothing can be done with it, and nothing
    /// happens when it is dropped.
    pub(crate) fn of_child(engine: &Arc<Engine>) -> Option<Arc<Self>> {
        engine.process.is_another().then(|| Arc::new(Self(Arc::clone(engine))))
    }

    /// The engine, without being one of those who keep it from ending.
    pub(crate) fn shared(&self) -> Arc<Engine> {
        Arc::clone(&self.0)
    }
}

/// Chooses the engine that takes an entry, where one log follows the other.
pub(crate) trait Choose: Send + Sync {
    /// The engine of now. Whoever has it may append to it, also after the next one has taken its place.
    fn choose(&self) -> Arc<EngineHandle>;
}

impl std::ops::Deref for EngineHandle {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.0
    }
}

impl Drop for EngineHandle {
    fn drop(&mut self) {
        if self.process.is_another() {
            return;
        }
        self.queue.close();
        self.released.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

impl Engine {
    pub(super) fn new(
        queue: Arc<dyn Queue>,
        settings: Settings,
        clock: Option<Clock>,
        runtime: Option<Handle>,
    ) -> Self {
        let status = Status::new(Arc::clone(&queue));
        if settings.journal.is_some() {
            // Nobody has looked yet.
            status.left_to_recover(Unrecovered { at_least: true, ..Unrecovered::default() }, None);
        }
        Self {
            status,
            queue,
            settings,
            urgent: AtomicU64::new(0),
            released: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            known: AtomicBool::new(false),
            overdue: AtomicU64::new(0),
            wake: Notify::new(),
            stopped: Notify::new(),
            progress: watch::Sender::new(Progress::default()),
            commits: CommitWaiters::default(),
            tidy_asked: AtomicU64::new(0),
            tidy: Notify::new(),
            recovery_asked: AtomicU64::new(0),
            recovery: Notify::new(),
            upkeep: Notify::new(),
            tables_exist: Notify::new(),
            process: Process::current(),
            clock,
            runtime,
        }
    }

    /// # Errors
    /// If the caller runs in a process that was forked after the log was opened.
    pub(crate) fn check_process(&self) -> Result<(), AuditError> {
        if self.process.is_another() { Err(forked()) } else { Ok(()) }
    }

    /// The books; all zeros in a forked child, which must not take a lock that its parent may have held at the fork.
    pub(crate) fn stats(&self) -> Stats {
        if self.process.is_another() {
            return Stats::default();
        }
        self.status.stats()
    }

    pub(crate) fn health(&self) -> Health {
        if self.process.is_another() { Health::Closed } else { self.status.health() }
    }

    /// Whether the flusher has ended, with everything committed that can be.
    pub(crate) fn has_ended(&self) -> bool {
        self.progress.borrow().ended
    }

    /// Tells this by a notice, once.
    pub(crate) fn notice(&self, what: AuditError) {
        self.status.noticed(what);
    }

    /// Runs `work` on the flusher's runtime, whatever runtime the caller has.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, AuditError>> + Send + 'static,
    ) -> Result<T, AuditError> {
        if self.process.is_another() {
            return Err(forked());
        }
        if IS_FLUSHER.get() {
            return Err(AuditError::new(
                ErrorKind::Store,
                "the audit log's own thread cannot wait for itself",
            ));
        }
        let (done, outcome) = oneshot::channel();
        if let Some(runtime) = &self.runtime {
            runtime.spawn(async move {
                // Sending fails if the caller has stopped waiting. The work is done all the same.
                drop(done.send(work.await));
            });
        }
        outcome.await.unwrap_or_else(|_| {
            Err(AuditError::new(ErrorKind::Closed, "the audit log ended before this was done"))
        })
    }

    /// Resolves after this long, or when the log has ended; at once on the flusher's own thread, on which nothing may wait
    /// for the flusher.
    pub(super) fn timer(&self, after: Duration) -> impl Future<Output = ()> + Send + use<> {
        let clock = self.clock.as_ref().filter(|_| !IS_FLUSHER.get());
        let timer = clock.map(|clock| clock.timer(after));
        async move {
            if let Some(timer) = timer {
                timer.await;
            }
        }
    }

    /// Waits for an answer, but no longer than this. `None`: there was none in time.
    pub(crate) async fn within<T>(&self, limit: Duration, answer: impl Future<Output = T>) -> Option<T> {
        match &self.clock {
            Some(clock) => clock.within(limit, answer).await,
            None => Some(answer.await),
        }
    }

    /// Makes batches start immediately until everything up to this position is acknowledged. A position beyond the
    /// last appended record stands for all records appended so far.
    pub(super) fn urge(&self, until: u64) {
        self.urgent.fetch_max(until.min(self.queue.counts().appended), Ordering::AcqRel);
        self.wake.notify_one();
    }

    /// Rejects every append from now on.
    pub(super) fn close(&self) {
        self.queue.close();
        self.status.closed();
        // Wake emitters that wait for room: there will be none.
        self.progress.send_modify(|_| ());
    }

    /// Appends an `audit.gap` entry about the rejections that none reports yet. False: there are none, or the entry
    /// cannot be appended now.
    pub(super) fn report_gap(&self) -> bool {
        let reported = {
            let _waiting = self.status.watch.begin("the audit queue");
            self.queue.report_gap()
        };
        if reported.is_some_and(|appended| appended.upkeep) {
            self.upkeep.notify_one();
        }
        reported.is_some()
    }

    /// The same from a caller's thread, which must not be kept waiting by the queue's disk.
    pub(super) async fn report_gap_within(&self, limit: Duration) {
        let Some(clock) = &self.clock else { return };
        let queue = Arc::clone(&self.queue);
        let reporting = clock.aside(move || queue.report_gap());
        // An error has been shown by the panic hook, and the gap is kept.
        if let Some(Ok(Some(appended))) = clock.within(limit, reporting).await
            && appended.upkeep
        {
            self.upkeep.notify_one();
        }
    }

    /// Whether a shutdown has asked the flusher to end.
    pub(super) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Resolves when a shutdown asks the flusher to end.
    pub(super) async fn stopped(&self) {
        self.stopped.notified().await;
    }

    /// Whether nothing is pending and nobody can append any more.
    pub(super) fn abandoned(&self) -> bool {
        self.released.load(Ordering::Acquire) && self.queue.counts().pending() == 0
    }

    /// The tables exist, so indexes can be created now.
    pub(super) fn migrated(&self) {
        self.tables_exist.notify_one();
    }
}
