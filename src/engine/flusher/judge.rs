//! Finds out whether an entry that the database refuses is at fault, or the database.

use uuid::Uuid;

use super::{
    batch::{Batch, Item, journal_error},
    commit::Committer,
};
use crate::entry::{Row, interpret};
use crate::error::AuditError;
use crate::store::{AppendError, Fault};

/// Most entries of a batch, and most entries further on in the queue, that are tried with a refused one.
const TRIED: usize = 32;
/// Most entries that the batch has committed already and that are tried again.
const TRIED_BEFORE: usize = 8;
/// The number of entries further on that one attempt looks at, and the most bytes of them. The next attempt goes on
/// behind them.
const AHEAD_ENTRIES: usize = 1024;
const AHEAD_BYTES: usize = 1024 * 1024;

/// The party at fault if an entry is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The entry: the database refuses it in a transaction in which it accepts another one.
    Entry,
    /// Nobody: the database accepts the entry now.
    Nobody,
    /// The database, as far as can be said: it accepts none of the other entries that were tried.
    Database,
}

impl Committer<'_> {
    /// Tries the refused item in transactions with other entries, none of which is committed. A trigger or a constraint
    /// that refuses entries may come and go at any moment, but not in the middle of a transaction. So an entry is at
    /// fault only if one transaction accepts another entry and refuses this one.
    pub(super) async fn judge(&mut self, batch: &Batch, index: usize) -> Result<Verdict, AuditError> {
        let Some(Item::Row(doubted)) = batch.items.get(index) else { return Ok(Verdict::Entry) };
        let mut others: Vec<Row> = self.accepted_beside.take().into_iter().collect();
        others.extend(sample(batch, index + 1..batch.items.len(), TRIED));
        others.extend(sample(batch, batch.done.saturating_sub(TRIED_BEFORE)..batch.done, TRIED_BEFORE));
        if batch.others_accepted_since {
            others.extend(self.accepted_last.clone());
        }
        let verdict = self.compare(batch, doubted, others).await?;
        if verdict != Verdict::Database || batch.done > 0 {
            return Ok(verdict);
        }
        let ahead = self.ahead(batch)?;
        self.compare(batch, doubted, ahead).await
    }

    async fn compare(
        &mut self,
        batch: &Batch,
        doubted: &Row,
        others: Vec<Row>,
    ) -> Result<Verdict, AuditError> {
        for mut other in others {
            // The entry may be in the ledger, or come there with the next batch.
            other.id = Uuid::new_v4();
            match self.send(batch, &[&other], Some(doubted)).await {
                Err(AppendError { fault: Fault::Entry | Fault::Duplicate, .. }) => {}
                Err(AppendError { fault: Fault::Doubted { refused: true }, .. }) => {
                    self.accepted_beside = Some(other);
                    return Ok(Verdict::Entry);
                }
                Err(AppendError { fault: Fault::Store | Fault::Room { .. }, error }) => return Err(error),
                // Other faults are found again when the entry is tried once more.
                Ok(_) | Err(_) => return Ok(Verdict::Nobody),
            }
        }
        Ok(Verdict::Database)
    }

    /// Entries that wait behind the batch. Each call looks further ahead, and starts again at the end.
    fn ahead(&mut self, batch: &Batch) -> Result<Vec<Row>, AuditError> {
        let settings = &self.engine.settings;
        if batch.writer != settings.writer {
            return Ok(Vec::new());
        }
        let from = self.looked_at.max(batch.end());
        let records = self.engine.queue.read(from, AHEAD_ENTRIES, AHEAD_BYTES).map_err(journal_error)?;
        let len = records.len();
        self.looked_at = if len == 0 { 0 } else { from + records.skipped + len as u64 };
        let every = records.records().step_by(len.div_ceil(TRIED).max(1));
        Ok(every.filter_map(|record| interpret(record, &settings.defaults).ok()).collect())
    }
}

/// Rows of this range, at most `most` of them, evenly spaced.
fn sample(batch: &Batch, range: std::ops::Range<usize>, most: usize) -> impl Iterator<Item = Row> {
    let items = batch.items.get(range).unwrap_or(&[]);
    let every = items.len().div_ceil(most).max(1);
    items
        .iter()
        .step_by(every)
        .filter_map(|item| if let Item::Row(row) = item { Some(row.clone()) } else { None })
}
