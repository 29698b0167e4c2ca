//! The emitters' side of the engine: accepts or rejects entries, and waits for their commit.

use std::{
    cell::RefCell,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::shared::{CommitWaiter, CommitWaiters, Engine, IS_FLUSHER, Progress, forked};
use super::stats::Unrecovered;
use crate::defaults;
use crate::error::{AuditError, ErrorKind};
use crate::platform::{block_on, lock, moment_after};
use crate::queue::{Refused, WhenFull};

/// The time that an emitter waits for one that is writing, once others have waited without success.
const OVERDUE_PATIENCE: Duration = Duration::from_millis(10);
/// The time that dropping the log, or its last writer, waits for pending entries.
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

/// An accepted entry, and the channel that will deliver its `seq`. When this is dropped, nobody awaits that any more.
struct Accepted {
    position: u64,
    seq: oneshot::Receiver<Result<u64, AuditError>>,
    waiters: CommitWaiters,
    is_answered: bool,
}

impl Drop for Accepted {
    fn drop(&mut self) {
        if !self.is_answered {
            let waiter = lock(&self.waiters).remove(&self.position);
            drop(waiter);
        }
    }
}

impl Engine {
    /// Appends or refuses, without waiting for room.
    pub(crate) fn try_append(
        &self,
        record: &[u8],
        waiter: &mut Option<CommitWaiter>,
    ) -> Result<u64, Refused> {
        self.append(record, waiter, self.patience(Duration::MAX))
    }

    /// The time that an emitter may wait: for room, or for another emitter that is writing.
    fn patience(&self, at_most: Duration) -> Duration {
        let patience = match self.settings.when_full {
            _ if self.is_overdue() => OVERDUE_PATIENCE,
            WhenFull::Block { timeout } => timeout,
            WhenFull::Reject => defaults::FULL_TIMEOUT,
        };
        patience.min(at_most)
    }

    /// Whether an emitter has timed out waiting for room, and nothing has been acknowledged since.
    pub(super) fn is_overdue(&self) -> bool {
        let overdue = self.overdue.load(Ordering::Relaxed);
        overdue > 0 && overdue - 1 == self.progress.borrow().acknowledged
    }

    fn append(
        &self,
        record: &[u8],
        waiter: &mut Option<CommitWaiter>,
        patience: Duration,
    ) -> Result<u64, Refused> {
        if self.process.is_another() {
            // This is checked before any lock is taken: the thread that held it at the fork does not run in this
            // process.
            return Err(Refused::Closed);
        }
        // Called before the flusher can see the entry, and so before it can commit it.
        let mut accepted = |position| {
            if let Some(waiter) = waiter.take() {
                lock(&self.commits).insert(position, waiter);
            }
        };
        let appended = self.queue.append(record, patience, &mut accepted);
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
        let mut waiting = None;
        loop {
            let reached = progress.borrow_and_update().acknowledged;
            let patience = match &waiting {
                None => self.patience(timeout),
                Some((until, _)) => Instant::saturating_duration_since(until, Instant::now()),
            };
            let refused = match self.append(record, &mut waiter, patience) {
                Ok(position) => return Ok(position),
                Err(refused) => refused,
            };
            let (_, timer) = match (&mut waiting, self.settings.when_full) {
                _ if refused != Refused::Full => return Err(self.give_up(refused, reached, timeout)),
                (Some(waiting), _) => waiting,
                (none, WhenFull::Block { .. }) if !self.is_overdue() => {
                    let timer = Box::pin(self.timer(patience));
                    none.insert((moment_after(Instant::now(), patience), timer))
                }
                _ => return Err(self.reject(Refused::Full)),
            };
            tokio::select! {
                biased;
                _ = progress.changed() => {}
                () = timer => return Err(self.give_up(refused, reached, timeout)),
            }
        }
    }

    /// Rejects an entry whose emitter has waited for up to `timeout`, when this position was acknowledged.
    pub(super) fn give_up(&self, why: Refused, reached: u64, timeout: Duration) -> AuditError {
        // The queue counts as overdue only if the wait was as long as configured, not cut short by this caller.
        if matches!(why, Refused::Full | Refused::Stuck) && self.settings.when_full.waits_at_most(timeout) {
            self.overdue.store(reached + 1, Ordering::Relaxed);
        }
        self.reject(why)
    }

    /// Like [`accept`](Self::accept), on a thread that may not be able to wait asynchronously.
    pub(crate) fn accept_blocking(&self, record: &[u8]) -> Result<u64, AuditError> {
        match self.try_append(record, &mut None) {
            Ok(position) => Ok(position),
            Err(Refused::Full) if !IS_FLUSHER.get() => block_on(self.accept(record, None, Duration::MAX)),
            Err(Refused::Stuck) => {
                let reached = self.progress.borrow().acknowledged;
                Err(self.give_up(Refused::Stuck, reached, Duration::MAX))
            }
            Err(refused) => Err(self.reject(refused)),
        }
    }

    /// Counts an entry that will never be stored, and returns the reason as an error.
    pub(crate) fn reject(&self, why: Refused) -> AuditError {
        if self.process.is_another() {
            return forked();
        }
        if matches!(why, Refused::Full | Refused::Stuck) {
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
            Refused::Stuck => AuditError::new(
                ErrorKind::Full,
                "the audit queue takes no entry: its disk has not finished writing an earlier one",
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
        let pushed = COMMITTING.try_with(|calls| {
            let mut calls = calls.borrow_mut();
            if let Some(call) = calls.iter_mut().rev().find(|call| mine(call)) {
                call.events.push(outcome);
            }
        });
        // The call itself ends with an error if the thread's locals are gone.
        pushed.unwrap_or_default();
    }

    /// Accepts an entry whose `seq` will be awaited.
    async fn accept_to_commit(&self, record: &[u8], timeout: Duration) -> Result<Accepted, AuditError> {
        let (waiter, seq) = oneshot::channel();
        let position = self.accept(record, Some(waiter), timeout).await?;
        Ok(Accepted { position, seq, waiters: Arc::clone(&self.commits), is_answered: false })
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
                COMMITTING.try_with(|calls| drop(calls.borrow_mut().pop())).unwrap_or_default();
            }
        }
        if self.process.is_another() {
            return Err(forked());
        }
        let mut deadline = pin!(self.timer(self.settings.commit_timeout));
        let events = {
            let begin = |calls: &RefCell<Vec<Committing>>| {
                calls.borrow_mut().push(Committing { engine: self, events: Vec::new() });
            };
            if COMMITTING.try_with(begin).is_err() {
                let message = "the events of a thread that is ending cannot be followed by committed(): its locals are \
                               gone; use AuditWriter::commit, or another thread";
                return Err(AuditError::new(ErrorKind::Wiring, message));
            }
            let _over = Over;
            emit();
            let take = |calls: &RefCell<Vec<Committing>>| {
                calls.borrow_mut().last_mut().map(|call| std::mem::take(&mut call.events))
            };
            COMMITTING.try_with(take).unwrap_or_default()
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
        mut accepted: Accepted,
        deadline: &mut Pin<&mut impl Future<Output = ()>>,
    ) -> Result<u64, AuditError> {
        tokio::select! {
            biased;
            answer = &mut accepted.seq => {
                accepted.is_answered = true;
                answer.unwrap_or_else(|_| {
                    let message = "the audit log ended before the commit";
                    Err(self.status.blame(AuditError::new(ErrorKind::Pending, message)))
                })
            }
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
        let Progress { acknowledged: reached, ended, .. } = *self.progress.borrow();
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

    /// Waits until whatever dead processes' journals hold now is committed, within `timeout`.
    pub(crate) async fn recovered_all(&self, timeout: Duration) -> Result<(), AuditError> {
        self.check_process()?;
        if self.settings.journal.is_none() {
            return Ok(());
        }
        let asked = self.recovery_asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.recovery.notify_one();
        let mut progress = self.progress.subscribe();
        tokio::select! {
            biased;
            _ = progress.wait_for(|progress| progress.recovered >= asked || progress.ended) => {}
            () = self.timer(timeout) => {}
        }
        let Progress { recovered, ended, .. } = *self.progress.borrow();
        if recovered >= asked {
            return self.status.left_alone().map_or(Ok(()), Err);
        }
        let Unrecovered { journals, entries, at_least } = self.stats().unrecovered;
        let at_least = if at_least { "at least " } else { "" };
        let (kind, why) = if ended {
            (ErrorKind::Closed, "the audit log has ended; the next one commits them")
        } else {
            (ErrorKind::Pending, "they stay there and may still be committed")
        };
        Err(self.status.blame(AuditError::new(
            kind,
            format!(
                "dead processes' journals still hold {at_least}{entries} accepted entries ({journals} journals): {why}"
            ),
        )))
    }

    /// Flushes for a handle that is being dropped. The outcome is not returned: pending entries stay queued and are
    /// counted. In a journal they also outlast the process, so there this does not wait for a failing database.
    pub(crate) fn flush_when_dropped(&self) {
        let stays = self.settings.journal.is_some() && self.status.failing();
        if IS_FLUSHER.get() || stays || self.process.is_another() {
            return;
        }
        let start = Instant::now();
        if block_on(self.flush(DROP_FLUSH)).is_ok() {
            block_on(self.tidied(DROP_FLUSH.saturating_sub(start.elapsed())));
        }
    }

    /// Waits until everything that was committed is in the database's main file, or something is in the way of that.
    async fn tidied(&self, timeout: Duration) {
        let asked = self.tidy_asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.tidy.notify_one();
        let mut progress = self.progress.subscribe();
        tokio::select! {
            biased;
            _ = progress.wait_for(|progress| progress.tidied >= asked || progress.ended) => {}
            () = self.timer(timeout) => {}
        }
    }

    /// Accepts nothing more, flushes, and ends the flusher.
    pub(crate) async fn shutdown(&self, timeout: Duration) -> Result<(), AuditError> {
        if self.process.is_another() {
            return Err(forked());
        }
        let start = Instant::now();
        let left = || timeout.saturating_sub(start.elapsed());
        if !self.queue.counts().closed {
            self.report_gap_within(left()).await;
        }
        self.close();
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
