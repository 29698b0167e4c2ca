//! Pauses between two attempts, and reports an attempt that takes too long or panics.

use std::{any::Any, pin::pin, time::Duration};

use crate::engine::Engine;
use crate::error::{AuditError, ErrorKind};

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
        // Between half of the pause and all of it, so that several processes on one database do not retry in step.
        let jittered = self.0.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
        tokio::select! {
            () = tokio::time::sleep(jittered) => true,
            () = engine.stopped() => false,
        }
    }
}

/// Waits for an answer of the database. While the answer takes longer than any caller waits, the database counts as
/// failing, though the answer may still arrive.
pub(super) async fn watched<T>(engine: &Engine, answer: impl Future<Output = T>) -> T {
    let timeout = engine.settings.commit_timeout;
    let mut answer = pin!(answer);
    if let Ok(answer) = tokio::time::timeout(timeout, &mut answer).await {
        return answer;
    }
    // An earlier error says more than a timeout does: keep it.
    if !engine.status.failing() {
        let message = format!("the audit database has not answered for {timeout:?}");
        engine.status.failed(AuditError::new(ErrorKind::Store, message));
    }
    answer.await
}

/// The message of a panic.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
