//! The queue's background work, done when it is due.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use super::shared::Engine;
use crate::queue::Due;

/// Pause after the first failed attempt. It doubles with each further one.
const FIRST_UPKEEP_PAUSE: Duration = Duration::from_millis(100);
/// The interval at which to ask whether work is due if no append says so.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Longest pause between two attempts.
const LONGEST_UPKEEP_PAUSE: Duration = Duration::from_secs(10);

impl Engine {
    /// Runs the queue's background work (next segment, sync) whenever some is due.
    pub(super) async fn keep_up(&self) {
        loop {
            let mut pause = FIRST_UPKEEP_PAUSE;
            while let Some(due) = self.queue.upkeep_due() {
                tokio::time::sleep(due.after).await;
                match self.keep_up_once(due).await {
                    Ok(()) => self.status.synced(),
                    Err(cause) => {
                        self.status.unsynced(cause);
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(LONGEST_UPKEEP_PAUSE);
                    }
                }
            }
            // Woken by an append, or by the time of the next look at the files.
            drop(tokio::time::timeout(LOOK_EVERY, self.upkeep.notified()).await);
        }
    }

    /// Does the work that is due, on a thread that may wait for the disk. If it is not done in time, the status says
    /// so at once, and the wait for it continues.
    async fn keep_up_once(&self, due: Due) -> std::io::Result<()> {
        let queue = Arc::clone(&self.queue);
        // `spawn_blocking` panics if no thread can be started. The panic hook has shown the reason.
        let work = catch_unwind(AssertUnwindSafe(|| tokio::task::spawn_blocking(move || queue.upkeep())));
        let Ok(work) = work else { return Err(std::io::ErrorKind::OutOfMemory.into()) };
        let mut work = pin!(work);
        let done = match due.by {
            None => work.await,
            Some(by) => match tokio::time::timeout(by.saturating_sub(due.after), &mut work).await {
                Ok(done) => done,
                Err(late) => {
                    self.status.unsynced(std::io::Error::new(std::io::ErrorKind::TimedOut, late));
                    work.await
                }
            },
        };
        done.unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
    }
}
