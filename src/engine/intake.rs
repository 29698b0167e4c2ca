//! The emitters' side of the engine: accepts or rejects entries, and waits for their commit.

use std::{
    cell::RefCell,
    pin::{Pin, pin},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::shared::{CommitWaiter, Engine, IS_FLUSHER, Progress, forked};
use crate::error::{AuditError, ErrorKind};
use crate::platform::{block_on, lock};
use crate::queue::{Refused, WhenFull};

/// How long dropping the log, or its last writer, waits for pending entries.
const DROP_FLUSH: Duration = Duration::from_secs(5);

thread_local! {
    /// The calls of `committed` that are running on this thread, innermost last.
    static COMMITTING: RefCell<Vec<Committing>> = const { RefCell::new(Vec::new()) };
}

/// The events of one call of `committed`.
struct Committing {
    /// Identifies the engine; never dereferenced.
    engine: *const Engine,
    events: Vec<Result<Accepted, AuditError>>,
}

/// An accepted entry, and the channel that will deliver its `seq`.
struct Accepted {
    position: u64,
    seq: oneshot::Receiver<Result<u64, AuditError>>,
}

impl Engine {
    /// Appends or refuses, without waiting.
    pub(crate) fn try_append(
        &self,
        record: &[u8],
        waiter: &mut Option<CommitWaiter>,
    ) -> Result<u64, Refused> {
        if self.process.is_another() {
            // Before any lock: the thread that held it at the fork does not run in this process.
            return Err(Refused::Closed);
        }
        let appended = if waiter.is_some() {
            // Under one lock, so that the flusher cannot commit the entry before its waiter is registered.
            let mut commits = lock(&self.commits);
            let appended = self.queue.append(record);
            if let Ok(appended) = appended
                && let Some(waiter) = waiter.take()
            {
                commits.insert(appended.position, waiter);
            }
            appended
        } else {
            self.queue.append(record)
        };
        match appended {
            Ok(appended) => {
                if appended.wake {
                    self.wake.notify_one();
                }
                if appended.upkeep {
                    self.upkeep.notify_one();
                }
            }
            // The queue may be full of bytes while its entries are too few to start a batch.
            Err(Refused::Full) => self.urge(u64::MAX),
            Err(_) => {}
        }
        appended.map(|appended| appended.position)
    }

    /// Appends, waiting for room as [`WhenFull`] says but no longer than `timeout`. An entry that is refused in the
    /// end is counted as rejected. An entry that is abandoned by dropping the future was never offered.
    pub(crate) async fn accept(
        &self,
        record: &[u8],
        mut waiter: Option<CommitWaiter>,
        timeout: Duration,
    ) -> Result<u64, AuditError> {
        let mut progress = self.progress.subscribe();
        let mut timer = None;
        loop {
            progress.mark_unchanged();
            match self.try_append(record, &mut waiter) {
                Ok(position) => return Ok(position),
                Err(Refused::Full) => {}
                Err(refused) => return Err(self.reject(refused)),
            }
            let timer = match (&mut timer, self.settings.when_full) {
                (Some(timer), _) => timer,
                (none, WhenFull::Block { timeout: longest }) if !self.overdue.load(Ordering::Relaxed) => {
                    none.insert(Box::pin(self.timer(longest.min(timeout))))
                }
                _ => return Err(self.reject(Refused::Full)),
            };
            tokio::select! {
                biased;
                _ = progress.changed() => {}
                () = timer => {
                    // Only if the wait was as long as configured, not cut short by this caller.
                    if self.settings.when_full.waits_at_most(timeout) {
                        self.overdue.store(true, Ordering::Relaxed);
                    }
                    return Err(self.reject(Refused::Full));
                }
            }
        }
    }

    /// Like [`accept`](Self::accept), on a thread that may not be able to wait asynchronously.
    pub(crate) fn accept_blocking(&self, record: &[u8]) -> Result<u64, AuditError> {
        match self.try_append(record, &mut None) {
            Err(refused) if IS_FLUSHER.get() => Err(self.reject(refused)),
            Err(_) => block_on(self.accept(record, None, Duration::MAX)),
            Ok(position) => Ok(position),
        }
    }

    /// Counts an entry that will never be stored, and returns the reason as an error.
    pub(crate) fn reject(&self, why: Refused) -> AuditError {
        if self.process.is_another() {
            return forked();
        }
        if why == Refused::Full {
            // First, so that the commit of the gap entry about this rejection comes later and ends the trouble.
            self.status.rejecting();
        }
        self.queue.reject(why);
        // Wake the flusher: it writes the `audit.gap` entry that reports this loss.
        self.wake.notify_one();
        let error = match why {
            Refused::Full => AuditError::new(
                ErrorKind::Full,
                "the audit queue is full: the database cannot keep up, or cannot be written to",
            ),
            Refused::Closed => {
                AuditError::new(ErrorKind::Closed, "the audit log is shut down and accepts nothing more")
            }
            Refused::TooLarge => {
                let limits = self.settings.limits;
                AuditError::new(
                    ErrorKind::TooLarge,
                    format!(
                        "the entry is too large: at most {} bytes a text and {} bytes in all",
                        limits.value, limits.entry
                    ),
                )
            }
        };
        self.status.announce();
        if why == Refused::TooLarge { error } else { self.status.blame(error) }
    }

    /// Accepts an event or counts it as rejected. A call of `committed` on this thread learns the outcome; without
    /// one nobody awaits it.
    pub(crate) fn emit(&self, record: &[u8]) {
        let mine = |call: &Committing| std::ptr::eq(call.engine, self);
        // If the thread's locals are being destroyed, no call of `committed` runs on it any more.
        let is_mine = COMMITTING.try_with(|calls| calls.borrow().iter().any(mine)).unwrap_or(false);
        if !is_mine {
            drop(self.accept_blocking(record));
            return;
        }
        let outcome = block_on(self.accept_to_commit(record, self.settings.commit_timeout));
        COMMITTING.with_borrow_mut(|calls| {
            if let Some(call) = calls.iter_mut().rev().find(|call| mine(call)) {
                call.events.push(outcome);
            }
        });
    }

    /// Accepts an entry whose `seq` will be awaited.
    async fn accept_to_commit(&self, record: &[u8], timeout: Duration) -> Result<Accepted, AuditError> {
        let (waiter, seq) = oneshot::channel();
        let position = self.accept(record, Some(waiter), timeout).await?;
        Ok(Accepted { position, seq })
    }

    /// Appends one entry and waits until it is durable.
    pub(crate) async fn commit(&self, record: &[u8]) -> Result<u64, AuditError> {
        if self.process.is_another() {
            return Err(forked());
        }
        let timeout = self.settings.commit_timeout;
        let mut deadline = pin!(self.timer(timeout));
        let accepted = self.accept_to_commit(record, timeout).await?;
        self.urge(accepted.position);
        self.seq_of(accepted, &mut deadline).await
    }

    /// Runs `emit` and waits until every event of this log that it has emitted on this thread is durable.
    pub(crate) async fn committed(&self, emit: impl FnOnce()) -> Result<Vec<u64>, AuditError> {
        /// Removes the call from the thread's list, whether `emit` returns or panics.
        struct Over;
        impl Drop for Over {
            fn drop(&mut self) {
                COMMITTING.with_borrow_mut(Vec::pop);
            }
        }
        if self.process.is_another() {
            return Err(forked());
        }
        let mut deadline = pin!(self.timer(self.settings.commit_timeout));
        let events = {
            COMMITTING.with_borrow_mut(|calls| calls.push(Committing { engine: self, events: Vec::new() }));
            let _over = Over;
            emit();
            COMMITTING.with_borrow_mut(|calls| calls.last_mut().map(|call| std::mem::take(&mut call.events)))
        };
        let events = events.unwrap_or_default();
        if events.is_empty() {
            return Err(AuditError::new(
                ErrorKind::Wiring,
                "no audit event arrived from within committed(): see check_wiring()",
            ));
        }
        let last = events.iter().flatten().map(|accepted| accepted.position).max();
        self.urge(last.unwrap_or(0));
        let mut seqs = Vec::with_capacity(events.len());
        for accepted in events {
            seqs.push(self.seq_of(accepted?, &mut deadline).await?);
        }
        Ok(seqs)
    }

    /// Waits until an accepted entry is durable, and returns its `seq`.
    async fn seq_of(
        &self,
        accepted: Accepted,
        deadline: &mut Pin<&mut impl Future<Output = ()>>,
    ) -> Result<u64, AuditError> {
        tokio::select! {
            biased;
            answer = accepted.seq => answer.unwrap_or_else(|_| {
                Err(self.status.blame(AuditError::new(ErrorKind::Pending, "the audit log ended before the commit")))
            }),
            () = deadline => {
                let timeout = self.settings.commit_timeout;
                let message = format!("accepted, but not committed within {timeout:?}; it may still be committed");
                Err(self.status.blame(AuditError::new(ErrorKind::Pending, message)))
            }
        }
    }

    /// Commits everything that was accepted before this call, within `timeout`.
    pub(crate) async fn flush(&self, timeout: Duration) -> Result<(), AuditError> {
        if self.process.is_another() {
            return Err(forked());
        }
        let until = self.queue.counts().appended;
        let reached = self.progress.borrow().acknowledged;
        if reached >= until {
            return Ok(());
        }
        self.urge(until);
        let mut progress = self.progress.subscribe();
        tokio::select! {
            biased;
            _ = progress.wait_for(|progress| progress.acknowledged >= until || progress.ended) => {}
            () = self.timer(timeout) => {}
        }
        let Progress { acknowledged: reached, ended } = *self.progress.borrow();
        if reached >= until {
            return Ok(());
        }
        let left = until - reached;
        Err(self.status.blame(if ended {
            AuditError::new(
                ErrorKind::Closed,
                format!("the audit log has ended with {left} accepted entries not committed"),
            )
        } else {
            AuditError::new(
                ErrorKind::Pending,
                format!("{left} accepted entries are not committed yet; they stay queued"),
            )
        }))
    }

    /// Flushes for a handle that is being dropped. The outcome is not returned: pending entries stay queued and are
    /// counted. In a journal they also outlast the process, so there this does not wait for a failing database.
    pub(crate) fn flush_when_dropped(&self) {
        let stays = self.settings.journal.is_some() && self.status.failing();
        if !IS_FLUSHER.get() && !stays {
            drop(block_on(self.flush(DROP_FLUSH)));
        }
    }

    /// Accepts nothing more, flushes, and ends the flusher.
    pub(crate) async fn shutdown(&self, timeout: Duration) -> Result<(), AuditError> {
        if self.process.is_another() {
            return Err(forked());
        }
        if !self.queue.counts().closed {
            self.report_gap();
        }
        self.close();
        let start = Instant::now();
        let left = || timeout.saturating_sub(start.elapsed());
        let mut flushed = self.flush(left()).await;
        if flushed.is_ok() {
            // Entries that were rejected during the first flush are reported by one more gap entry.
            flushed = self.flush(left()).await;
        }
        self.stop.store(true, Ordering::Release);
        self.stopped.notify_one();
        self.wake.notify_one();
        // The flusher also closes its connection, which this waits for if there is time left.
        let mut progress = self.progress.subscribe();
        tokio::select! {
            biased;
            _ = progress.wait_for(|progress| progress.ended) => {}
            () = self.timer(left()) => {}
        }
        flushed
    }
}
