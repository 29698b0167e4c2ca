//! Records in the ledger the state of this log's writer, and the entries that dead writers had accepted and that are in
//! no queue any more.

use std::{
    collections::BTreeMap,
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
use crate::entry::from_micros;
use crate::error::{AuditError, ErrorKind};
use crate::platform::Origin;
use crate::queue::gone;
use crate::store::{KnownWriter, OfWriters, Store};
use uuid::Uuid;

/// The time that entries may be pending without a batch until the ledger records how many were accepted.
const SAID_EVERY: Duration = Duration::from_secs(1);

/// The interval at which this is recorded again while entries are pending, so that nobody takes this log for dead.
const SAID_AGAIN: Duration = Duration::from_mins(10);

/// The time that a writer with pending entries must have said nothing before it is reported: far longer than one that
/// is alive stays silent.
pub(super) const SILENT: Duration = Duration::from_hours(1);

/// The number of looks that must have found it silent before it is reported. After a failure of the database, a writer
/// that is alive may be about to commit.
const SILENT_LOOKS: u32 = 3;

/// The verdict of a look on a writer that has not ended.
enum Judged {
    /// Its process is dead, and its queue is gone.
    Gone(KnownWriter),
    /// Nobody knows whether it is alive.
    Silent(KnownWriter),
}

/// Knows when to say how far this log's writer has come, and which writers are to be judged.
pub(super) struct Writers {
    /// The next time to say it, if there is anything new.
    pub(super) say_at: Instant,
    look_at: Instant,
    /// The pause after the next look.
    look_after: Duration,
    /// Finds out, on another thread, which writers are dead and have no queue any more.
    judging: Option<JoinHandle<Vec<Judged>>>,
    judged: Vec<Judged>,
    /// The number of looks that have found each writer silent.
    silent: BTreeMap<Uuid, u32>,
}

impl Writers {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            say_at: now,
            look_at: now,
            look_after: FIRST_LOOK,
            judging: None,
            judged: Vec::new(),
            silent: BTreeMap::new(),
        }
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

    /// Looks for writers that have not ended, and records one that is dead and whose queue is gone.
    pub(super) async fn look(&mut self, committer: &mut Committer<'_>, pause: &mut Pause) {
        let engine = committer.engine;
        let outcome = match self.judged.pop() {
            Some(Judged::Gone(writer)) => watched(engine, tell(committer, writer)).await,
            Some(Judged::Silent(writer)) => watched(engine, self.notice(committer, writer)).await,
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
        let mut open = committer.writers(OfWriters::Open).await?;
        let own = [settings.writer, committer.own];
        open.retain(|writer| !own.contains(&writer.writer));
        self.silent.retain(|silent, _| open.iter().any(|writer| writer.writer == *silent));
        if !open.is_empty() {
            let (own, store) = (settings.origin.clone(), settings.store.clone());
            let journals = settings.journal.as_ref().map(|journal| journal.directory.clone());
            // The directory may be one that hangs.
            self.judging = Some(tokio::task::spawn_blocking(move || {
                let is_here = |writer: &KnownWriter| {
                    let journal = journals.as_ref().map(|journals| journals.join(writer.writer.to_string()));
                    journal.is_some_and(|journal| journal.symlink_metadata().is_ok())
                };
                let judge = |writer: KnownWriter| {
                    if is_gone(&own, &writer, &store) {
                        return Some(Judged::Gone(writer));
                    }
                    // A journal that is here is adopted once its owner is dead.
                    (writer.silent >= SILENT && !is_here(&writer)).then_some(Judged::Silent(writer))
                };
                open.into_iter().filter_map(judge).collect()
            }));
        }
        Ok(())
    }

    /// Tells, by a notice, of a writer that has entries pending and says nothing any more. Nobody knows whether it is alive.
    async fn notice(
        &mut self,
        committer: &mut Committer<'_>,
        KnownWriter { writer, accepted, said_at, origin, .. }: KnownWriter,
    ) -> Result<(), AuditError> {
        let pending = accepted.saturating_sub(committer.position(writer).await?);
        if pending == 0 {
            self.silent.remove(&writer);
            return Ok(());
        }
        let looks = self.silent.entry(writer).or_default();
        *looks += 1;
        if *looks == SILENT_LOOKS {
            let queue = match origin.home.as_deref() {
                Some(Origin::MEMORY) => "in memory",
                Some(home) => home,
                None => "in an unknown place",
            };
            let said_at = from_micros(said_at.unwrap_or(0)).format("%Y-%m-%d %H:%M:%S UTC");
            let message = format!(
                "the writer {writer}, whose queue is {queue}, had accepted {pending} entries that are not committed when it \
                 was heard of last, at {said_at}: if it is alive, in another container or on another machine, see why it \
                 cannot commit; if it is dead, open a log with its directory of journals there, which commits them; \
                 without that directory they are lost"
            );
            committer.engine.status.noticed(AuditError::new(ErrorKind::Store, message));
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
    let is_known = |said| {
        let counts = engine.queue.counts();
        counts.appended <= said && (counts.pending() == 0 || say_at.elapsed() < SAID_AGAIN)
    };
    while said.is_some_and(is_known) {
        tokio::time::sleep(SAID_EVERY).await;
    }
}

/// Whether the process of this writer is dead, and its queue with it.
fn is_gone(own: &Origin, writer: &KnownWriter, store: &Store) -> bool {
    let is_of_another_boot = own.is_of_another_boot(&writer.origin) && store.backend().has_one_machine();
    if !own.knows_dead(&writer.origin) && !is_of_another_boot {
        return false;
    }
    match writer.origin.home.as_deref() {
        Some(Origin::MEMORY) => true,
        // A journal that exists is adopted, not judged.
        Some(home) if own.shares_home(&writer.origin) => {
            let journal = Path::new(home).join(writer.writer.to_string());
            journal.symlink_metadata().is_err_and(|cause| cause.kind() == std::io::ErrorKind::NotFound)
        }
        _ => false,
    }
}

/// Records the lost entries of a dead writer, which it had accepted, in the transaction that ends it.
async fn tell(committer: &mut Committer<'_>, judged: KnownWriter) -> Result<(), AuditError> {
    let engine = committer.engine;
    // A process that settles a journal ends its writer before the journal is removed. So a writer whose journal was
    // removed in good order has ended by now. The position comes first: another log that records the loss in between
    // ends the writer with the position.
    let position = committer.position(judged.writer).await?;
    let known = committer.writers(OfWriters::Known(judged.writer)).await?;
    let Some(KnownWriter { writer, accepted, origin, .. }) = known.into_iter().find(|known| !known.ended)
    else {
        return Ok(());
    };
    let lost = accepted.saturating_sub(position);
    let of_another_boot = engine.settings.origin.is_of_another_boot(&origin);
    let journal = origin.home.filter(|home| home != Origin::MEMORY);
    // In a copy of a database, the writers of the original are those of another machine: entries that the copy lacks
    // are recorded, and no more.
    if lost == 0 && (journal.is_none() || of_another_boot) {
        committer.writers(OfWriters::Ended(writer)).await?;
        return Ok(());
    }
    let record = gone(lost, writer, position, journal.as_deref());
    match Batch::about(engine, writer, position, lost, &record) {
        Some(mut batch) => committer.attempt(&mut batch).await,
        None => Ok(()),
    }
}
