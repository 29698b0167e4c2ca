//! The thread of a notary: publishes checkpoints again and again, until it is stopped.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::Duration,
};

use super::notary::Notary;
use crate::error::{AuditError, ErrorKind};
use crate::platform::on_own_runtime;

/// A [`Notary`] on a thread of its own. Dropping it ends the thread after one more checkpoint, without waiting for it;
/// [`stop`](Self::stop) waits.
#[must_use = "dropping it ends the thread"]
pub struct RunningNotary {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Notary {
    /// Publishes a checkpoint now, and again each time `every` has passed if there is anything new, on a thread of its own with the
    /// name `tracing-audit-notary`. Ten seconds are usual. Each failure is reported to `on_trouble`, once until it is
    /// another one or over: errors of [`publish`](Self::publish), and each sink that has not taken a checkpoint.
    ///
    /// A key or a sink may take as long as it likes: nothing else waits for the thread, and no entry is committed later for it.
    ///
    /// ```
    /// # #[cfg(feature = "_sqlite")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("checkpoints");
    /// # let log = tracing_audit::AuditLog::open(directory.path().join("audit.db")).await?;
    /// use std::time::Duration;
    /// use tracing_audit::evidence::{CheckpointFile, Notary};
    ///
    /// let notary = Notary::of(log.reader())
    ///     .to(CheckpointFile::new(path))
    ///     .start(Duration::from_secs(10), |error| tracing::warn!("the notary: {error}"))?;
    /// // ... and at the end:
    /// notary.stop();
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "_sqlite"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// [`is_store`](AuditError::is_store) if no thread can be started.
    pub fn start(
        self,
        every: Duration,
        on_trouble: impl FnMut(&AuditError) + Send + 'static,
    ) -> Result<RunningNotary, AuditError> {
        let (end, ended) = channel();
        let thread = std::thread::Builder::new().name("tracing-audit-notary".to_owned());
        let thread = thread.spawn(move || work(self, every, &ended, on_trouble)).map_err(|cause| {
            AuditError::new(ErrorKind::Store, "the notary's thread cannot be started").because(cause)
        })?;
        Ok(RunningNotary { end: Some(end), thread: Some(thread) })
    }
}

impl RunningNotary {
    /// Publishes what is new once more, and ends the thread. Blocks until that is done, however long a key or a sink takes.
    pub fn stop(mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // The thread has panicked only if the handler of troubles has, and that panic has reported itself.
            drop(thread.join());
        }
    }
}

fn work(mut notary: Notary, every: Duration, ended: &Receiver<()>, mut on_trouble: impl FnMut(&AuditError)) {
    let (mut told, mut wait) = (Vec::new(), Duration::ZERO);
    loop {
        let is_over = ended.recv_timeout(wait) != Err(RecvTimeoutError::Timeout);
        let troubles = publish(&mut notary);
        let said: Vec<String> = troubles.iter().map(ToString::to_string).collect();
        if said != told {
            troubles.iter().for_each(&mut on_trouble);
            told = said;
        }
        if is_over {
            return;
        }
        wait = every;
    }
}

/// Publishes once, and returns all that has gone wrong.
fn publish(notary: &mut Notary) -> Vec<AuditError> {
    match catch_unwind(AssertUnwindSafe(|| on_own_runtime(notary.publish()))) {
        Ok(Ok(published)) => published.map(|published| published.failed().to_vec()).unwrap_or_default(),
        Ok(Err(error)) => vec![error],
        Err(_) => vec![AuditError::new(ErrorKind::Output, "a key or a sink of the notary has panicked")],
    }
}

impl fmt::Debug for RunningNotary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningNotary").finish_non_exhaustive()
    }
}
