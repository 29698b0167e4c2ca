//! Pauses between two attempts, and says what the flusher waits for.

use std::{any::Any, time::Duration};

use crate::engine::Engine;

/// Pause after the first failed attempt. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The time between two attempts, longer each time.
pub(super) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pause {
    /// Waits before the next attempt. False: the log is stopping, so there is none.
    pub(super) async fn rest(&mut self, engine: &Engine) -> bool {
        if engine.stopping() {
            return false;
        }
        tokio::select! {
            () = tokio::time::sleep(self.next()) => true,
            () = engine.stopped() => false,
        }
    }

    /// The length of the pause before the next attempt.
    pub(super) fn next(&mut self) -> Duration {
        // Between half of the pause and all of it, so that several processes on one database do not retry in step.
        let jittered = self.0.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
        jittered
    }
}

/// Waits for an answer of the database. While the answer takes longer than any caller waits, the database counts as
/// failing, though the answer may still arrive.
pub(super) async fn watched<T>(engine: &Engine, answer: impl Future<Output = T>) -> T {
    let _waiting = engine.status.watch.begin("the audit database");
    answer.await
}

/// The same for work on the log's own queue.
pub(super) async fn queue_watched<T>(engine: &Engine, work: impl Future<Output = T>) -> T {
    let _waiting = engine.status.watch.begin("the audit queue");
    work.await
}

/// The message of a panic.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
