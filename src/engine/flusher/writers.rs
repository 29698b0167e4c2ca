//! Says in the ledger what is known of this log's writer, and tells of entries that dead writers had accepted and that
//! are in no queue any more.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use super::{
    adopt::{ADOPT_EVERY, FIRST_LOOK},
    batch::Batch,
    commit::Committer,
    pause::{Pause, watched},
};
use crate::engine::Engine;
use crate::error::AuditError;
use crate::platform::Origin;
use crate::queue::gone;
use crate::store::{KnownWriter, OfWriters};

/// How long entries may be pending without a batch until the ledger is told how many were accepted.
const SAID_EVERY: Duration = Duration::from_secs(1);

/// Knows when to say how far this log's writer has come, and which writers are to be judged.
pub(super) struct Writers {
    /// The next time to say it, if there is anything new.
    pub(super) say_at: Instant,
    look_at: Instant,
    /// The pause after the next look.
    look_after: Duration,
    /// Finds out, on another thread, which writers are dead and have no queue any more.
    judging: Option<JoinHandle<Vec<KnownWriter>>>,
    judged: Vec<KnownWriter>,
}

impl Writers {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { say_at: now, look_at: now, look_after: FIRST_LOOK, judging: None, judged: Vec::new() }
    }

    /// Says how far this log's writer has come. An error is not reported: the next batch says it too, and only a batch
    /// that fails concerns anybody.
    pub(super) async fn say(&mut self, committer: &mut Committer<'_>) {
        self.say_at = Instant::now() + SAID_EVERY;
        let engine = committer.engine;
        tokio::select! {
            biased;
            said = committer.say() => drop(said),
            // A batch is not kept waiting. Neither is the end.
            _ = engine.wait_for_batch() => {}
        }
    }

    /// Waits until [`look`](Self::look) is to be called.
    pub(super) async fn changed(&mut self) {
        match &mut self.judging {
            Some(judging) => {
                // A panic has been shown by the panic hook; the next look tries again.
                self.judged = judging.await.unwrap_or_default();
                self.judging = None;
            }
            None if !self.judged.is_empty() => {}
            None => tokio::time::sleep_until(self.look_at.into()).await,
        }
    }

    /// Looks for writers that have not ended, and tells of one that is dead and whose queue is gone.
    pub(super) async fn look(&mut self, committer: &mut Committer<'_>, pause: &mut Pause) {
        let engine = committer.engine;
        let outcome = match self.judged.pop() {
            Some(judged) => watched(engine, tell(committer, judged)).await,
            None if self.judging.is_none() && Instant::now() >= self.look_at => {
                self.look_at = Instant::now() + self.look_after;
                self.look_after = (self.look_after * 2).min(ADOPT_EVERY);
                watched(engine, self.begin(committer)).await
            }
            None => return,
        };
        if let Err(error) = outcome {
            engine.status.failed(error);
            engine.status.retries();
            committer.disconnect().await;
            pause.rest(engine).await;
        }
    }

    async fn begin(&mut self, committer: &mut Committer<'_>) -> Result<(), AuditError> {
        let settings = &committer.engine.settings;
        let Some(host) = settings.origin.host.clone() else { return Ok(()) };
        let mut open = committer.writers(OfWriters::Open(&host)).await?;
        open.retain(|writer| writer.writer != settings.writer);
        if !open.is_empty() {
            let own = settings.origin.clone();
            // The directory may be one that hangs.
            self.judging = Some(tokio::task::spawn_blocking(move || {
                open.retain(|writer| is_gone(&own, writer));
                open
            }));
        }
        Ok(())
    }
}

/// Waits until how far this log's writer has come is to be said, from this time on. `said` is what was said last.
pub(super) async fn to_be_said(engine: &Engine, say_at: Instant, said: Option<u64>) {
    // Batches say it too, and they are frequent unless somebody has asked for rare ones.
    if said.is_some() && engine.settings.flush_interval <= SAID_EVERY {
        return std::future::pending().await;
    }
    tokio::time::sleep_until(say_at.into()).await;
    while said.is_some_and(|said| engine.queue.counts().appended <= said) {
        tokio::time::sleep(SAID_EVERY).await;
    }
}

/// Whether the process of this writer is dead, and its queue with it.
fn is_gone(own: &Origin, writer: &KnownWriter) -> bool {
    if !own.knows_dead(&writer.origin) {
        return false;
    }
    match writer.origin.home.as_deref() {
        Some(Origin::MEMORY) => true,
        // A journal that is there is adopted, not judged.
        Some(home) if own.shares_home(&writer.origin) => {
            let journal = Path::new(home).join(writer.writer.to_string());
            journal.symlink_metadata().is_err_and(|cause| cause.kind() == std::io::ErrorKind::NotFound)
        }
        _ => false,
    }
}

/// Tells of the entries that a dead writer had accepted and that are gone, in the transaction that ends it.
async fn tell(committer: &mut Committer<'_>, judged: KnownWriter) -> Result<(), AuditError> {
    let engine = committer.engine;
    // Who settles a journal says so before it is removed. So a journal that was removed in good order has ended by now.
    // The position comes first: another log that tells in between ends the writer with the position.
    let position = committer.position(judged.writer).await?;
    let known = committer.writers(OfWriters::Known(judged.writer)).await?;
    let Some(KnownWriter { writer, accepted, origin, .. }) = known.into_iter().find(|known| !known.ended)
    else {
        return Ok(());
    };
    let lost = accepted.saturating_sub(position);
    let journal = origin.home.filter(|home| home != Origin::MEMORY);
    if lost == 0 && journal.is_none() {
        committer.writers(OfWriters::Ended(writer)).await?;
        return Ok(());
    }
    let record = gone(lost, writer, position, journal.as_deref());
    match Batch::about(engine, writer, position, lost, &record) {
        Some(mut batch) => committer.attempt(&mut batch).await,
        None => Ok(()),
    }
}
