//! Status: the health and history of a log, and the notices that report their changes.

use std::{
    collections::{BTreeSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    health::{Condition, Health, Trouble},
    notice::{LastNotice, NOTICE_PAUSE, OnNotice},
    stats::{History, Stats, Unrecovered},
    watch::Watch,
};
use crate::error::{AuditError, ErrorKind};
use crate::platform::lock;
use crate::queue::{Outcome, Queue};

/// The state from which health, stats and notices are made.
#[derive(Debug)]
pub(crate) struct Status {
    /// Counts the entries.
    queue: Arc<dyn Queue>,
    condition: Condition,
    history: Mutex<History>,
    /// The state that the last notice reported.
    reported: Mutex<LastNotice>,
    /// The reason why an index cannot be created, until a notice reports it.
    unindexed: Mutex<Option<AuditError>>,
    /// Findings in the database, its library or the place of the queue that change no health. They are kept until a
    /// notice reports them.
    noticed: Mutex<VecDeque<AuditError>>,
    /// The reason why journals of dead processes are left alone, if any are.
    left_alone: Mutex<Option<AuditError>>,
    /// The messages of what was found so far. Each connection finds it again.
    known: Mutex<BTreeSet<String>>,
    /// Wakes the task that sends notices: there may be something to report.
    noteworthy: Notify,
    /// The answers that the flusher waits for.
    pub(super) watch: Watch,
}

impl Status {
    pub(super) fn new(queue: Arc<dyn Queue>) -> Self {
        let concern = queue.concern();
        let noteworthy = Notify::new();
        if concern.is_some() {
            noteworthy.notify_one();
        }
        Self {
            queue,
            condition: Condition::default(),
            history: Mutex::default(),
            reported: Mutex::default(),
            unindexed: Mutex::default(),
            noticed: Mutex::new(concern.into_iter().collect()),
            left_alone: Mutex::default(),
            known: Mutex::default(),
            noteworthy,
            watch: Watch::default(),
        }
    }

    pub(super) fn stats(&self) -> Stats {
        Stats::of(self.queue.counts(), &lock(&self.history))
    }

    pub(super) fn health(&self) -> Health {
        self.condition.health()
    }

    /// Whether the last attempt at the database has failed, or takes too long.
    pub(super) fn failing(&self) -> bool {
        self.condition.is(Trouble::Failing)
    }

    /// Attaches a cause to the error: the store's last error, if the store is still failing, or the reason why the
    /// last append found no room on disk, if there is one.
    pub(super) fn blame(&self, error: AuditError) -> AuditError {
        match lock(&self.history).last_error() {
            Some(cause) if self.failing() => error.because(cause),
            _ => match self.queue.counts().trouble {
                Some(trouble) => error.because(std::io::Error::from(trouble)),
                None => error,
            },
        }
    }

    /// Sends a notice whenever there is something to report, with a pause after each.
    pub(super) async fn notify(&self, on_notice: &OnNotice) {
        loop {
            self.noteworthy.notified().await;
            if self.notify_once(on_notice).await {
                tokio::time::sleep(NOTICE_PAUSE).await;
            }
        }
    }

    /// Sends a notice, if there is something to report. False: there was nothing.
    pub(super) async fn notify_once(&self, on_notice: &OnNotice) -> bool {
        let unindexed = lock(&self.unindexed).take();
        // A notice reports one of them: the others are for the next notices.
        let aside = unindexed.or_else(|| lock(&self.noticed).pop_front());
        if !lock(&self.noticed).is_empty() {
            self.announce();
        }
        let notice = lock(&self.reported).next(self.health(), self.stats(), aside);
        let Some(notice) = notice else { return false };
        let OnNotice(handler) = on_notice.clone();
        // The handler runs on a thread that may block for as long as it likes. A panic needs no further report: the
        // panic hook has shown it, whether the handler panicked or the thread could not be started.
        let handling =
            catch_unwind(AssertUnwindSafe(|| tokio::task::spawn_blocking(move || handler(notice))));
        if let Ok(handling) = handling {
            drop(handling.await);
        }
        true
    }

    /// Wakes the task that sends notices.
    pub(super) fn announce(&self) {
        self.noteworthy.notify_one();
    }

    fn set(&self, trouble: Trouble) {
        if self.condition.set(trouble) {
            self.announce();
        }
    }

    fn clear(&self, trouble: Trouble) {
        if self.condition.clear(trouble) {
            self.announce();
        }
    }

    /// The log rejects every entry from now on. This wakes nobody: the log's thread sends a last notice as it ends.
    pub(super) fn closed(&self) {
        self.condition.set(Trouble::Closed);
    }

    /// An entry is about to be rejected because the queue is full.
    pub(super) fn rejecting(&self) {
        self.condition.set(Trouble::Rejecting);
    }

    /// The queue's background work has succeeded.
    pub(super) fn synced(&self) {
        self.clear(Trouble::Unsynced);
    }

    /// The journal could not be synced in time, or its files were taken away: a loss of power, or the end of the process,
    /// may take accepted entries.
    pub(super) fn unsynced(&self, cause: std::io::Error) {
        let message = match cause.kind() {
            std::io::ErrorKind::NotFound => "the journal was not in place",
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                "the journal can accept nothing until there is room"
            }
            _ => "the journal cannot be brought to stable storage in time",
        };
        lock(&self.history).note_error(AuditError::new(ErrorKind::Store, message).because(cause));
        self.set(Trouble::Unsynced);
    }

    /// Journals of dead processes were looked for. `error` says why one of them cannot be adopted or read.
    pub(super) fn left_behind(&self, error: Option<AuditError>) {
        let Some(error) = error else { return self.clear(Trouble::LeftBehind) };
        lock(&self.history).note_error(error);
        self.set(Trouble::LeftBehind);
    }

    /// Takes in the number of entries that journals of dead processes still hold, and why some are left alone.
    pub(super) fn left_to_recover(&self, unrecovered: Unrecovered, left_alone: Option<AuditError>) {
        *lock(&self.left_alone) = left_alone;
        lock(&self.history).left_to_recover(unrecovered);
    }

    /// The reason why journals of dead processes are left alone, if any are.
    pub(super) fn left_alone(&self) -> Option<AuditError> {
        lock(&self.left_alone).clone()
    }

    /// An index could not be created.
    pub(super) fn unindexed(&self, error: AuditError) {
        *lock(&self.unindexed) = Some(error);
        self.announce();
    }

    /// Something was found that prevents no commit: a defect of the database's library, a trigger on a table, a position
    /// that somebody has changed. It is reported once, however often it is found.
    pub(super) fn noticed(&self, error: AuditError) {
        if lock(&self.known).insert(error.to_string()) {
            lock(&self.noticed).push_back(error);
            self.announce();
        }
    }

    /// An attempt failed, or takes too long. Its entries stay queued.
    pub(super) fn failed(&self, error: AuditError) {
        lock(&self.history).note_error(error);
        self.set(Trouble::Failing);
    }

    /// Reports every answer that the flusher waits for longer than this. Never resolves.
    pub(super) async fn watch_over(&self, limit: Duration) {
        self.watch
            .over(limit, |whom| {
                // An earlier error says more than this one does: keep it.
                if !self.failing() {
                    let message = format!("{whom} has not answered for {limit:?}");
                    self.failed(AuditError::new(ErrorKind::Store, message));
                }
            })
            .await;
    }

    /// The database has answered. If entries are pending, only their commit shows whether it can be written to.
    pub(super) fn answered(&self) {
        if self.queue.counts().pending() == 0 {
            self.clear(Trouble::Failing);
        }
    }

    /// A failed attempt will be repeated.
    pub(super) fn retries(&self) {
        lock(&self.history).note_retry();
    }

    /// The database refuses one entry.
    pub(super) fn refused(&self, error: AuditError) {
        lock(&self.history).note_error(error);
    }

    /// The flusher panicked, and goes on.
    pub(super) fn panicked(&self, message: &str) {
        self.count_panic();
        self.failed(AuditError::new(ErrorKind::Store, format!("the audit log's thread panicked: {message}")));
    }

    /// A panic that does not stop the flusher was caught.
    pub(super) fn count_panic(&self) {
        lock(&self.history).note_panic();
    }

    /// Records of this log's own queue are settled.
    pub(super) fn committed(&self, outcome: Outcome) {
        lock(&self.history).note_commit(outcome.committed);
        let recovered = self.condition.clear(Trouble::Failing) | self.condition.clear(Trouble::Rejecting);
        if recovered || outcome.quarantined > 0 {
            self.announce();
        }
    }

    /// Records that a dead process had accepted are settled.
    pub(super) fn recovered(&self, outcome: Outcome) {
        lock(&self.history).note_commit(outcome.committed);
        if self.condition.clear(Trouble::Failing) || outcome.quarantined > 0 {
            self.announce();
        }
    }
}
