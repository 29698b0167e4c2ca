//! Looks, before the log ends, whether everything that was committed is still there, and reports what is missing: also
//! if an idle log finds it.

use std::time::Duration;

use super::{batch::Batch, commit::Committer, pause::watched};
use crate::error::AuditError;
use crate::store::{AppendError, Fault};

/// The time within which the ledger records the loss.
const TELL_WITHIN: Duration = Duration::from_secs(5);
/// The number of tries, and the pause after the first one.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(20);

impl Committer<'_> {
    /// Checks the files of the database for the last time. A loss since the last batch is reported by a notice, and a
    /// loss for good by an `audit.gap` entry, as with a batch.
    pub(super) async fn look_back(&mut self) {
        let engine = self.engine;
        if let Err(error) = watched(engine, self.tidy()).await {
            engine.status.failed(error.clone());
            engine.status.noticed(error);
        }
        self.tell_harm().await;
    }

    /// If the database has failed since rows were added last, opens it again and records which entries are gone from
    /// it. Dropping this future loses nothing.
    pub(super) async fn tell_harm(&mut self) {
        let engine = self.engine;
        // A batch records it too. If the log ends before, the next log records it with the pending entries.
        if !self.is_doubtful || engine.queue.counts().pending() > 0 {
            return;
        }
        let told = tokio::time::timeout(TELL_WITHIN, self.tell_what_is_gone()).await;
        // If it took too long, what was tried last says more.
        if let Ok(Err(error)) = told {
            engine.status.failed(error);
        }
    }

    /// Adds an entry that records what is gone from the database, if anything is.
    async fn tell_what_is_gone(&mut self) -> Result<(), AuditError> {
        let mut batch = Batch::of_nothing(self.engine);
        let mut pause = FIRST_PAUSE;
        let mut tries = 0;
        loop {
            self.disconnect().await;
            let told = match self.connect().await {
                Ok(()) => self.append_all(&mut batch).await,
                Err(error) => Err(error),
            };
            tries += 1;
            if told.is_ok() || tries == TRIES {
                return told;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn append_all(&mut self, batch: &mut Batch) -> Result<(), AuditError> {
        loop {
            let rows = batch.rows(0..batch.items.len());
            match self.send(batch, &rows, None).await {
                Ok(applied) if applied.rows > 0 || applied.told => {
                    self.applied(batch, applied);
                    return Ok(());
                }
                Ok(_) => {
                    self.is_doubtful = false;
                    self.engine.status.answered();
                    return Ok(());
                }
                Err(AppendError { fault: Fault::Restored { position }, .. }) => {
                    self.restored(batch, position);
                }
                Err(AppendError { fault: Fault::Altered(found), .. }) => batch.tell(self.engine, found)?,
                Err(AppendError { error, .. }) => return Err(error),
            }
        }
    }
}
