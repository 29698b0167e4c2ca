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

use super::{health::Health, settings::Settings, stats::Stats, status::Status};
use crate::error::{AuditError, ErrorKind};
use crate::platform::Process;
use crate::queue::Queue;

thread_local! {
    /// Set on the flusher's thread, on which nothing may wait for the flusher.
    pub(super) static IS_FLUSHER: Cell<bool> = const { Cell::new(false) };
}

/// Delivers the `seq` of one entry to the caller that awaits it.
pub(crate) type CommitWaiter = oneshot::Sender<Result<u64, AuditError>>;

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
    /// An emitter has timed out waiting for room, and nothing has been acknowledged since: reject at once, do not
    /// wait again.
    pub(super) overdue: AtomicBool,
    /// Wakes the flusher, which may be waiting for a batch.
    pub(super) wake: Notify,
    /// Wakes the flusher from a pause between two attempts, because `stop` was set.
    pub(super) stopped: Notify,
    pub(super) progress: watch::Sender<Progress>,
    /// The callers that await the `seq` of an entry, by the entry's position.
    pub(super) commits: Mutex<BTreeMap<u64, CommitWaiter>>,
    /// Wakes the task that does the queue's background work.
    pub(super) upkeep: Notify,
    /// Wakes the task that creates indexes: the log has connected, so the tables exist.
    pub(super) tables_exist: Notify,
    /// The process in which the flusher's thread runs.
    pub(super) process: Process,
    /// The flusher's runtime, which runs the timers of callers that may have no runtime of their own.
    pub(super) runtime: Option<Handle>,
}

/// Keeps the engine alive. The log, its writers and its layers hold one; the flusher does not. When the last one is
/// dropped, the flusher commits what is pending and ends.
#[derive(Debug)]
pub(crate) struct EngineHandle(pub(super) Arc<Engine>);

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
    pub(super) fn new(queue: Arc<dyn Queue>, settings: Settings, runtime: Option<Handle>) -> Self {
        Self {
            status: Status::new(Arc::clone(&queue)),
            queue,
            settings,
            urgent: AtomicU64::new(0),
            released: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            overdue: AtomicBool::new(false),
            wake: Notify::new(),
            stopped: Notify::new(),
            progress: watch::Sender::new(Progress::default()),
            commits: Mutex::default(),
            upkeep: Notify::new(),
            tables_exist: Notify::new(),
            process: Process::current(),
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

    /// Runs `work` on the flusher's runtime, whatever runtime the caller has.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, AuditError>> + Send + 'static,
    ) -> Result<T, AuditError> {
        if self.process.is_another() {
            return Err(forked());
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

    /// Resolves after this long, or when the flusher's thread has ended.
    pub(super) fn timer(&self, after: Duration) -> impl Future<Output = ()> + use<> {
        let (mut expired, waiting) = oneshot::channel::<()>();
        if let Some(runtime) = &self.runtime {
            // The timer ends when its caller stops waiting, so that short waits do not leave long timers behind.
            runtime.spawn(async move {
                tokio::select! {
                    () = tokio::time::sleep(after) => {}
                    () = expired.closed() => {}
                }
            });
        }
        async move {
            // The sender is only ever dropped: the error is the signal.
            drop(waiting.await);
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
        let reported = self.queue.report_gap();
        if reported.is_some_and(|appended| appended.upkeep) {
            self.upkeep.notify_one();
        }
        reported.is_some()
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
