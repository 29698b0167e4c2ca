//! Commits what the journals of dead processes hold, batch by batch between our own.

use super::{
    adopt::Adoption,
    batch::interpreted,
    commit::Committer,
    pause::{Pause, watched},
    reading::ReadBacklog,
    writers::SILENT,
};
use crate::engine::Engine;
use crate::error::AuditError;
use crate::queue::{Backlog, Known};
use crate::store::{KnownWriter, OfWriters};
use uuid::Uuid;

/// The most questions of a kind that are asked before entries are committed again.
const ASKED_MAX: usize = 64;

/// The journals that dead processes left. `None` if this log's queue is in memory.
pub(super) struct Recovery(Option<Adoption>);

impl Recovery {
    pub(super) fn new(engine: &Engine) -> Self {
        let place = engine.settings.journal.as_ref();
        Self(place.map(|place| Adoption::new(place.clone(), engine.settings.writer)))
    }

    /// Whether journals are still adopted. The next log adopts those that this one leaves when it ends.
    pub(super) fn goes_on(engine: &Engine) -> bool {
        !engine.stopping() && !engine.abandoned()
    }

    /// Whether records of an adopted journal are ready to be committed.
    pub(super) fn is_behind(&self) -> bool {
        self.0.as_ref().is_some_and(Adoption::has_read)
    }

    /// Waits until [`recover`](Self::recover) has to be called even if nothing is pending.
    pub(super) async fn changed(&mut self, engine: &Engine) {
        match &mut self.0 {
            Some(adoption) => adoption.changed(engine).await,
            None => std::future::pending().await,
        }
    }

    /// Lets other threads look for journals and adopt some, also while there is no connection to a database.
    pub(super) fn look_on(&mut self, engine: &Engine) {
        if let Some(adoption) = &mut self.0
            && Self::goes_on(engine)
        {
            adoption.go_on(engine);
            adoption.holdings.publish(engine);
        }
    }

    /// Lets other threads adopt and read journals, and commits one batch that they have read.
    pub(super) async fn recover(&mut self, committer: &mut Committer<'_>, pause: &mut Pause) {
        let engine = committer.engine;
        if !Self::goes_on(engine) {
            return;
        }
        let Some(adoption) = &mut self.0 else { return };
        adoption.go_on(engine);
        let asked = ask(adoption, committer).await;
        adoption.holdings.publish(engine);
        let outcome = match asked {
            Ok(()) => step(adoption, committer).await,
            Err(error) => Err(error),
        };
        adoption.holdings.publish(engine);
        match outcome {
            Ok(true) => *pause = Pause::default(),
            Ok(false) => {}
            Err(error) => {
                engine.status.failed(error);
                engine.status.retries();
                committer.disconnect().await;
                pause.rest(engine).await;
            }
        }
    }
}

/// Commits what was read of one journal, and has another read. False: there was nothing to commit.
async fn step(adoption: &mut Adoption, committer: &mut Committer<'_>) -> Result<bool, AuditError> {
    let is_done = match adoption.next_read() {
        Some(ReadBacklog { backlog, reached, doubted: Some(id), .. }) => {
            place(adoption, committer, backlog, (id, reached)).await?;
            false
        }
        Some(read) => recover_batch(adoption, committer, read).await?,
        None => false,
    };
    if let Some(backlog) = adoption.next_to_read() {
        read_next(adoption, committer, backlog).await?;
    }
    Ok(is_done)
}

/// Finds out whether the positions of the journal's writer are those of this journal: then the ledger has this entry, if it
/// has one at the position that it has reached.
async fn place(
    adoption: &mut Adoption,
    committer: &mut Committer<'_>,
    mut backlog: Backlog,
    (id, reached): (Uuid, u64),
) -> Result<(), AuditError> {
    let at = Some((backlog.writer, reached.min(backlog.end.position)));
    let held = watched(committer.engine, committer.holds(id, at)).await;
    match held {
        Ok(true) => backlog.is_placed = true,
        Ok(false) => committer.displace(&mut backlog),
        Err(_) => {}
    }
    adoption.put_back(backlog);
    held.map(drop)
}

/// Has the next records of a journal read, from the position that the database has reached.
async fn read_next(
    adoption: &mut Adoption,
    committer: &mut Committer<'_>,
    mut backlog: Backlog,
) -> Result<(), AuditError> {
    let engine = committer.engine;
    let asked = async {
        let from = committer.position(backlog.writer).await?;
        let known = committer.writers(OfWriters::Known(backlog.writer)).await?.pop();
        Ok((from, known))
    };
    match watched(engine, asked).await {
        Ok((from, known)) => {
            engine.status.answered();
            adoption.holdings.reached(backlog.directory(), from.max(backlog.begin));
            backlog.leaves_open = known.as_ref().is_some_and(|known| may_be_alive(engine, known));
            let known = known.map(|KnownWriter { accepted, ended, .. }| Known {
                accepted,
                ended: ended || backlog.leaves_open,
            });
            adoption.begin_to_read(backlog, from, known);
            Ok(())
        }
        Err(error) => {
            adoption.put_back(backlog);
            Err(error)
        }
    }
}

/// Whether the writer of a journal that is here may be alive, so that this is a copy: it was heard of lately, and kept its
/// journal elsewhere. If it is dead, the next notice about silent writers reports the entries that are in no copy.
fn may_be_alive(engine: &Engine, KnownWriter { silent, origin, .. }: &KnownWriter) -> bool {
    let (own, backend) = (&engine.settings.origin, engine.settings.store.backend());
    *silent < SILENT
        && origin.home.is_some()
        && !own.shares_home(origin)
        && !own.knows_dead(origin)
        && !(own.is_of_another_boot(origin) && backend.has_one_machine())
}

/// Asks how far journals are committed that wait to be adopted, and whether the ledger knows the writers of those that name
/// another address. Before any commit, which may take long while somebody else holds the database.
async fn ask(adoption: &mut Adoption, committer: &mut Committer<'_>) -> Result<(), AuditError> {
    let engine = committer.engine;
    for _ in 0..ASKED_MAX {
        let uncounted = adoption.holdings.uncounted();
        let Some((directory, journal)) = uncounted.map(|(path, journal)| (path.to_owned(), journal)) else {
            break;
        };
        let position = watched(engine, committer.position(journal)).await?;
        adoption.holdings.reached(&directory, position);
    }
    for _ in 0..ASKED_MAX {
        let Some((directory, stranger)) = adoption.strangers.next_to_ask() else { break };
        let asked = async {
            // A ledger of an earlier version knows its writers by their positions alone.
            let position = committer.position(stranger.journal).await?;
            let known = committer.writers(OfWriters::Known(stranger.journal)).await?.pop();
            Ok::<_, AuditError>(position > 0 || known.is_some())
        };
        match watched(engine, asked).await {
            Ok(is_known) => adoption.answered(engine, directory, &stranger, is_known),
            Err(error) => {
                adoption.strangers.ask(directory, stranger);
                return Err(error);
            }
        }
        adoption.go_on(engine);
    }
    Ok(())
}

/// Commits one batch of a journal, or removes the journal if it holds nothing more. False: there was nothing to commit.
async fn recover_batch(
    adoption: &mut Adoption,
    committer: &mut Committer<'_>,
    ReadBacklog { mut backlog, reached, from, records, .. }: ReadBacklog,
) -> Result<bool, AuditError> {
    let engine = committer.engine;
    let mut batch = interpreted(engine, backlog.writer, from, &records).await;
    batch.follows(reached);
    if batch.items.is_empty() {
        // First, so that a journal that is missing before its writer has ended was removed by somebody else.
        if let Err(error) = watched(engine, end(committer, &backlog)).await {
            adoption.put_back(backlog);
            return Err(error);
        }
        adoption.remove(backlog);
        return Ok(false);
    }
    if backlog.writer != backlog.journal && reached == 0 {
        // Entries that another copy of the journal has had committed are left out.
        match watched(engine, committer.held_before(&batch)).await {
            Ok(held) => batch.leave_out(held),
            Err(error) => {
                adoption.put_back(backlog);
                return Err(error);
            }
        }
        backlog.begin = batch.from;
        if batch.items.is_empty() {
            adoption.holdings.reached(backlog.directory(), backlog.begin);
            adoption.put_back(backlog);
            return Ok(true);
        }
    }
    batch.others_accepted_since =
        backlog.refused_at.is_some_and(|refused_at| committer.accepted > refused_at);
    let outcome = watched(engine, committer.attempt(&mut batch)).await;
    backlog.refused_at = batch.all_refused.then_some(backlog.refused_at.unwrap_or(committer.accepted));
    if outcome.is_ok() {
        adoption.holdings.reached(backlog.directory(), batch.reached());
    }
    if std::mem::take(&mut committer.is_displaced) {
        committer.displace(&mut backlog);
    }
    adoption.put_back(backlog);
    outcome.map(|()| true)
}

/// Says in the ledger that nothing of a journal's writer is left to settle.
async fn end(committer: &mut Committer<'_>, backlog: &Backlog) -> Result<(), AuditError> {
    if backlog.leaves_open {
        return Ok(());
    }
    if backlog.writer != backlog.journal {
        committer.writers(OfWriters::Ended(backlog.writer)).await?;
    }
    committer.writers(OfWriters::Ended(backlog.journal)).await.map(drop)
}
