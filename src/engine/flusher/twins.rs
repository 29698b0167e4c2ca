//! Two processes with one writer, which a copy of a machine or of a journal makes: finds out, and goes on under another
//! writer, so that neither takes the other's commits for its own.

use uuid::Uuid;

use super::{
    batch::{Batch, Item},
    commit::Committer,
};
use crate::entry::Row;
use crate::error::{AuditError, ErrorKind};
use crate::queue::Backlog;
use crate::store::{AppendError, Applied, Fault};

/// The writer under which a queue goes on if another process has used the positions of `writer`. It is the same one in each
/// process, so that the next log finds out how far this one has come.
fn successor(writer: Uuid) -> Uuid {
    Uuid::new_v5(&writer, b"successor")
}

impl Committer<'_> {
    /// Appends the refused items and these rows; or tries these rows and then the doubted one, and commits nothing.
    pub(super) async fn send(
        &mut self,
        batch: &Batch,
        rows: &[&Row],
        doubted: Option<&Row>,
    ) -> Result<Applied, AppendError> {
        let applied = self.send_once(batch, rows, doubted).await;
        let is_taken = match &applied {
            Ok(applied) if applied.again => {
                let holds = self.holds_up_to(batch, applied.until).await;
                !holds.map_err(|error| AppendError { fault: Fault::Store, error })?
            }
            Ok(_) => false,
            Err(failed) => failed.fault == Fault::Taken,
        };
        if is_taken { Err(self.taken(batch)) } else { applied }
    }

    /// Whether the ledger, or its quarantine, has an entry with this `id`, or no other one at this writer's position.
    pub(super) async fn holds(&mut self, id: Uuid, at: Option<(Uuid, u64)>) -> Result<bool, AuditError> {
        match &mut self.appender {
            Some(appender) => appender.holds(id, at).await,
            None => Ok(true),
        }
    }

    /// Whether what was added up to this position are entries of the batch, as after an answer that was lost.
    async fn holds_up_to(&mut self, batch: &Batch, until: u64) -> Result<bool, AuditError> {
        let until = until.min(batch.end());
        let reached = usize::try_from(until.saturating_sub(batch.from)).unwrap_or(usize::MAX);
        let is_own = batch.writer == self.engine.settings.writer;
        let writer = if is_own { self.own } else { batch.writer };
        match batch.items.get(batch.gaps..reached).and_then(<[Item]>::last) {
            Some(Item::Row(row)) => self.holds(row.id, Some((writer, until))).await,
            // Another log describes the same gap in words of its own.
            _ => Ok(true),
        }
    }

    /// Another process has used the positions of the batch's writer. The next attempt is made under another one.
    fn taken(&mut self, batch: &Batch) -> AppendError {
        let is_own = batch.writer == self.engine.settings.writer;
        let error = told(if is_own { self.own } else { batch.writer });
        if is_own {
            self.own = successor(self.own);
            // Other logs look for the journal of a dead writer by the writer's name. This one's has the name of the
            // first.
            self.origin.home = None;
            (self.is_anew, self.said) = (true, None);
            self.engine.status.noticed(error.clone());
        } else {
            self.is_displaced = true;
        }
        AppendError { fault: Fault::Store, error }
    }

    /// Another process has used the positions of this journal's writer. Its entries are committed under another one.
    pub(super) fn displace(&mut self, backlog: &mut Backlog) {
        self.engine.status.noticed(told(backlog.writer));
        backlog.displaced(successor(backlog.writer));
    }

    /// The number of entries at the front of the batch that the ledger holds already, if the copies of a journal were the
    /// same up to some point.
    pub(super) async fn held_before(&mut self, batch: &Batch) -> Result<usize, AuditError> {
        let (mut held, mut beyond) = (0, batch.items.len());
        while held < beyond {
            let middle = usize::midpoint(held, beyond);
            let is_held = match batch.items.get(middle) {
                Some(Item::Row(row)) => self.holds(row.id, None).await?,
                _ => false,
            };
            if is_held {
                held = middle + 1;
            } else {
                beyond = middle;
            }
        }
        Ok(held)
    }
}

fn told(writer: Uuid) -> AuditError {
    AuditError::new(
        ErrorKind::Store,
        format!(
            "another process has used the positions of the writer {writer}: a machine that was running, or its directory of \
             journals, was copied; the entries that only this one has are committed under the writer {}; give each copy a \
             directory of journals of its own",
            successor(writer)
        ),
    )
}
