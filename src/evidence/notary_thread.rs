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
    /// another one or over: errors of [`publish`](Self::publish), each sink that has not taken a checkpoint, and each
    /// witness that has not cosigned it.
    ///
    /// A key, a sink or a witness may take as long as it likes: nothing else waits for the thread, and no entry is
    /// committed later for it.
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

/// The result of one round.
enum Round {
    /// There was nothing to publish.
    Nothing,
    /// A checkpoint was published, and these have not taken or not cosigned it.
    Published(Vec<AuditError>),
    Failed(AuditError),
}

fn work(mut notary: Notary, every: Duration, ended: &Receiver<()>, mut on_trouble: impl FnMut(&AuditError)) {
    let spelled = |troubles: &[AuditError]| troubles.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (mut told, mut lacking, mut wait) = (Vec::new(), Vec::new(), Duration::ZERO);
    loop {
        let is_over = ended.recv_timeout(wait) != Err(RecvTimeoutError::Timeout);
        let (said, troubles) = match publish(&mut notary) {
            // What the last one lacks, it lacks still.
            Round::Nothing => (lacking.clone(), Vec::new()),
            Round::Published(failed) => {
                lacking = spelled(&failed);
                (lacking.clone(), failed)
            }
            Round::Failed(error) => (vec![error.to_string()], vec![error]),
        };
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

fn publish(notary: &mut Notary) -> Round {
    match catch_unwind(AssertUnwindSafe(|| on_own_runtime(notary.publish()))) {
        Ok(Ok(None)) => Round::Nothing,
        Ok(Ok(Some(published))) => Round::Published([published.failed(), published.unwitnessed()].concat()),
        Ok(Err(error)) => Round::Failed(error),
        Err(_) => {
            Round::Failed(AuditError::new(ErrorKind::Output, "a key or a sink of the notary has panicked"))
        }
    }
}

impl fmt::Debug for RunningNotary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningNotary").finish_non_exhaustive()
    }
}
