//! The flusher's side of the engine: decides when a batch starts, and settles the records of a commit.

use std::{sync::atomic::Ordering, time::Instant};

use super::shared::Engine;
use crate::error::AuditError;
use crate::platform::{lock, moment_after};
use crate::queue::Outcome;

impl Engine {
    /// Waits until a batch should start: at the latest when the oldest pending entry is as old as the flush interval.
    /// False: nothing is left to do, and nothing will be.
    pub(super) async fn wait_for_batch(&self) -> bool {
        let batch_entries = self.settings.batch_entries as u64;
        loop {
            // Read before the counts, which then include everything that was appended before it was set.
            let released = self.released.load(Ordering::Acquire);
            let mut counts = self.queue.wake_at(1);
            if counts.pending() > 0 {
                counts = self.queue.wake_at(batch_entries);
            }
            let pending = counts.pending();
            // While the database works, pending entries are committed even if the log is stopping.
            if self.stopping() && (pending == 0 || self.status.failing()) {
                return false;
            }
            if pending == 0 {
                if self.report_gap() {
                    continue;
                }
                if released {
                    return false;
                }
                self.wake.notified().await;
                continue;
            }
            let urgent = self.urgent.load(Ordering::Acquire) > counts.acknowledged;
            let now = Instant::now();
            let due = counts.oldest.map_or(now, |oldest| moment_after(oldest, self.settings.flush_interval));
            if pending >= batch_entries || urgent || counts.closed || due <= now {
                return true;
            }
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(due.into()) => {}
            }
        }
    }

    /// Whether another batch that begins at this position may be prepared now.
    pub(super) fn more_after(&self, position: u64) -> bool {
        let appended = self.queue.counts().appended;
        appended - position >= self.settings.batch_entries as u64
            || self.urgent.load(Ordering::Acquire) > position
    }

    /// Settles records that a dead process had accepted.
    pub(super) fn recovered(&self, outcome: Outcome) {
        self.queue.recover(outcome);
        self.status.recovered(outcome);
    }

    /// Settles the records up to `until`: first the books, then the answers to the callers that await a `seq`.
    /// `answer` gives the answer for a position.
    pub(super) fn acknowledge(
        &self,
        until: u64,
        outcome: Outcome,
        answer: impl Fn(u64) -> Result<u64, AuditError>,
    ) {
        self.queue.ack(until, outcome);
        // Now the queue has room for a gap entry. A log that is stopping rejects entry after entry, so each commit
        // would append one more gap entry, without end.
        if !self.stopping() {
            self.report_gap();
        }
        self.overdue.store(0, Ordering::Relaxed);
        self.status.committed(outcome);
        let answered = {
            let mut commits = lock(&self.commits);
            let later = commits.split_off(&(until + 1));
            std::mem::replace(&mut *commits, later)
        };
        for (position, waiter) in answered {
            // Sending fails if the caller has stopped waiting. The entry is committed all the same.
            drop(waiter.send(answer(position)));
        }
        self.progress.send_modify(|progress| progress.acknowledged = until);
    }
}
