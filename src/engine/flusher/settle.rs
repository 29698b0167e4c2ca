//! Commits or quarantines each item of a batch, by bisection.

use std::ops::Range;

use super::{
    batch::{Batch, Item},
    commit::Committer,
    judge::Verdict,
};
use crate::error::{AuditError, ErrorKind};
use crate::store::{AppendError, Applied, Fault};

impl Committer<'_> {
    /// Commits or quarantines every item of the batch. After an error, part of it may be done.
    pub(super) async fn attempt(&mut self, batch: &mut Batch) -> Result<(), AuditError> {
        if !self.is_connected() {
            self.connect().await?;
        }
        self.accepted_beside = None;
        // Repeat if an earlier attempt, whose answer was lost, had committed a different range.
        while batch.done < batch.items.len() {
            self.pass(batch).await?;
        }
        Ok(())
    }

    /// Commits or quarantines the items that were not tried yet.
    async fn pass(&mut self, batch: &mut Batch) -> Result<(), AuditError> {
        self.bisect(batch).await?;
        if !batch.refused.is_empty() {
            let end = batch.items.len();
            match self.append(batch, end..end).await {
                Ok(applied) => self.applied(batch, applied),
                Err(AppendError { fault: Fault::Restored { position }, .. }) => {
                    self.restored(batch, position);
                }
                // The next pass repeats this one.
                Err(AppendError { fault: Fault::Altered(found), .. }) => batch.tell(self.engine, found)?,
                Err(AppendError { error, .. }) => return Err(error),
            }
        }
        Ok(())
    }

    /// Finds refused rows by bisection: tries the halves in order, each in a transaction of its own. The refused items
    /// at the end of the batch are left in [`Batch::refused`].
    async fn bisect(&mut self, batch: &mut Batch) -> Result<(), AuditError> {
        let mut ranges = vec![Range { start: 0, end: batch.items.len() }];
        // The item that the database has refused and then, tried with another one, accepted.
        let mut accepted_after_all = None;
        while let Some(Range { start, end }) = ranges.pop() {
            // Skip the items that are done or refused already. An earlier attempt may have committed more of them.
            let start = start.max(batch.done + batch.refused.len());
            if start >= end {
                continue;
            }
            let unreadable = |item: &Item| matches!(item, Item::Unreadable(_));
            let first_unreadable = batch.items.get(start..end).unwrap_or(&[]).iter().position(unreadable);
            let rows_end = first_unreadable.map_or(end, |index| start + index);
            ranges.push(rows_end..end);
            if let Some(Item::Unreadable(record)) = batch.items.get(start) {
                batch.refused.push(record.clone());
                continue;
            }
            match self.append(batch, start..rows_end).await {
                Ok(applied) => {
                    self.applied(batch, applied);
                    // An earlier attempt may have committed only part of the range: look at it once more.
                    ranges.push(start..rows_end);
                }
                Err(AppendError { fault: Fault::Store, error }) => return Err(error),
                Err(AppendError { fault: Fault::Restored { position }, .. }) => {
                    self.restored(batch, position);
                    return Ok(());
                }
                Err(AppendError { fault: Fault::Altered(found), .. }) => {
                    batch.tell(self.engine, found)?;
                    ranges.push(start..rows_end);
                }
                Err(AppendError { fault: Fault::Room { tried }, error }) => {
                    if tried {
                        self.disconnect().await;
                    }
                    if rows_end - start == 1 {
                        self.make_room(&error);
                        return Err(error);
                    }
                    if tried {
                        self.connect().await?;
                    }
                    ranges.extend(halves(start..rows_end));
                }
                Err(AppendError { fault, error }) if rows_end - start == 1 => {
                    let is_duplicate = fault == Fault::Duplicate;
                    let verdict =
                        if is_duplicate { Verdict::Entry } else { self.judge(batch, start).await? };
                    match verdict {
                        Verdict::Entry => {
                            batch.refuse(start, fault, &error);
                            self.engine.status.refused(error);
                        }
                        Verdict::Nobody if accepted_after_all != Some(start) => {
                            accepted_after_all = Some(start);
                            ranges.push(start..rows_end);
                        }
                        Verdict::Nobody => return Err(undecided(&error)),
                        Verdict::Database => return Err(batch.blame_database(&error)),
                    }
                }
                Err(_) => ranges.extend(halves(start..rows_end)),
            }
        }
        Ok(())
    }

    /// Appends the refused items and then the rows of this range, in one transaction.
    async fn append(&mut self, batch: &Batch, range: Range<usize>) -> Result<Applied, AppendError> {
        let rows = batch.rows(range);
        self.send(batch, &rows, None).await
    }
}

/// The second half and the first one.
fn halves(range: Range<usize>) -> [Range<usize>; 2] {
    let middle = range.start + range.len() / 2;
    [middle..range.end, range.start..middle]
}

/// The error of a database that takes back what it says of an entry.
fn undecided(error: &AuditError) -> AuditError {
    AuditError::new(
        ErrorKind::Store,
        format!("the database refuses an entry by itself, and accepts it beside another one: {error}"),
    )
}
