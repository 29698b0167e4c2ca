//! Recovers the journals of dead processes, batch by batch between our own.

use std::time::{Duration, Instant};

use super::{
    batch::{Bounds, interpreted, journal_error},
    commit::Committer,
    pause::{Pause, watched},
};
use crate::engine::Engine;
use crate::error::AuditError;
use crate::queue::{Backlog, JournalHome};

/// Pause after the first look for journals of dead processes. It doubles with each look, since a process that this one
/// replaces may take a moment to end.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// Longest pause between two looks.
const ADOPT_EVERY: Duration = Duration::from_mins(1);

/// The reason why a batch of a dead process's journal was not committed.
enum RecoverError {
    Journal(std::io::Error),
    Database(AuditError),
}

/// The journals that dead processes left.
pub(super) struct Recovery {
    /// Adopted journals, whose records are being committed.
    backlogs: Vec<Backlog>,
    /// Adopted journals that could not be read. They are tried again at the next look.
    unreadable: Vec<Backlog>,
    /// The time of the next look for journals.
    look_at: Instant,
    /// The pause after that look.
    look_after: Duration,
}

impl Recovery {
    /// Nothing is adopted yet; the first look is due at once.
    pub(super) fn new() -> Self {
        Self { backlogs: Vec::new(), unreadable: Vec::new(), look_at: Instant::now(), look_after: FIRST_LOOK }
    }

    /// Whether adopted journals still hold records to commit.
    pub(super) fn is_behind(&self) -> bool {
        !self.backlogs.is_empty()
    }

    /// The time at which [`recover`](Self::recover) has to be called even if nothing is pending.
    pub(super) fn due(&self) -> Instant {
        self.look_at
    }

    /// Adopts the journals of dead processes, if it is time to look for them, and commits one batch of one of them.
    pub(super) async fn recover(&mut self, committer: &mut Committer<'_>, pause: &mut Pause) {
        let engine = committer.engine;
        // The next log adopts the journals that this one leaves.
        let goes_on = !engine.stopping() && !engine.abandoned();
        let Some(place) = engine.settings.journal.as_ref().filter(|_| goes_on) else { return };
        if Instant::now() >= self.look_at {
            self.adopt(engine, place);
        }
        let Some(mut backlog) = self.backlogs.pop() else { return };
        match watched(engine, recover_batch(committer, &mut backlog)).await {
            Ok(true) => {
                self.backlogs.push(backlog);
                *pause = Pause::default();
            }
            Ok(false) => {
                if let Err(cause) = backlog.finish() {
                    engine.status.left_behind(Some(journal_error(cause)));
                }
            }
            Err(RecoverError::Journal(cause)) => {
                engine.status.left_behind(Some(journal_error(cause)));
                self.unreadable.push(backlog);
            }
            Err(RecoverError::Database(error)) => {
                engine.status.failed(error);
                engine.status.retries();
                committer.disconnect();
                self.backlogs.insert(0, backlog);
                pause.rest(engine).await;
            }
        }
    }

    /// Looks for journals whose process has died, and takes them over.
    fn adopt(&mut self, engine: &Engine, place: &JournalHome) {
        self.look_at = Instant::now() + self.look_after;
        self.look_after = (self.look_after * 2).min(ADOPT_EVERY);
        let (adopted, failed) = Backlog::adopt_all(place, engine.settings.writer);
        // The trouble of an unreadable journal lasts until the journal has been read.
        if failed.is_some() || self.unreadable.is_empty() {
            engine.status.left_behind(failed.map(journal_error));
        }
        self.backlogs.extend(adopted);
        self.backlogs.append(&mut self.unreadable);
    }
}

/// Commits the next batch of a backlog. False: all of its records are committed.
async fn recover_batch(committer: &mut Committer<'_>, backlog: &mut Backlog) -> Result<bool, RecoverError> {
    let from = committer.position(backlog.journal).await.map_err(RecoverError::Database)?;
    let bounds = Bounds::default();
    let records = backlog.read(from, bounds.entries, bounds.bytes).map_err(RecoverError::Journal)?;
    let mut batch = interpreted(committer.engine, backlog.journal, from, &records, bounds).await;
    if batch.items.is_empty() {
        return Ok(false);
    }
    batch.others_accepted_since =
        backlog.refused_at.is_some_and(|refused_at| committer.accepted > refused_at);
    let outcome = committer.attempt(&mut batch).await;
    backlog.refused_at = batch.all_refused.then_some(backlog.refused_at.unwrap_or(committer.accepted));
    outcome.map(|()| true).map_err(RecoverError::Database)
}
