//! An entry by which a log is recognised again.

use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use tracing_audit::{AuditQuery, AuditReader, SequencedEntry};
use uuid::Uuid;

use crate::failure::Failure;

/// An entry of a ledger that an earlier run has come to. A log that has it in its place has everything before it in common
/// with the log of that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) seq: u64,
    pub(crate) id: Uuid,
}

impl Place {
    pub(crate) fn of(found: &SequencedEntry) -> Self {
        Self { seq: found.seq, id: found.entry.id }
    }

    /// The last entry before this `seq`; `None` if it does not exist.
    pub(crate) async fn before(
        reader: &AuditReader,
        ledger: &str,
        next_seq: u64,
    ) -> Result<Option<Self>, Failure> {
        let Some(seq) = next_seq.checked_sub(1) else { return Ok(None) };
        Ok(entry_at(reader, ledger, seq).await?.as_ref().map(Self::of))
    }

    /// Refuses a log in which this entry is not in its place. `is` says what the entry is, `remedy` what to do.
    pub(crate) async fn check(
        &self,
        reader: &AuditReader,
        ledger: &str,
        is: &str,
        remedy: &str,
    ) -> Result<(), Failure> {
        let Self { seq, id } = self;
        let differs = match entry_at(reader, ledger, *seq).await? {
            Some(found) if found.entry.id == *id => return Ok(()),
            Some(found) => format!(
                "the ledger {ledger:?} has the entry {} at seq {seq}, and not {id}, which is {is}: the database is \
                 another one, or went on after it was restored from a backup",
                found.entry.id
            ),
            None => format!(
                "the ledger {ledger:?} has no entry at seq {seq}, which is {is} ({id}): entries were removed, or the \
                 database is another one"
            ),
        };
        Err(Failure::Lost(format!("{differs}. {remedy}")))
    }
}

/// The entry at this `seq` of a ledger. The reader should be one whose reads are not recorded: nothing is shown of it.
pub(crate) async fn entry_at(
    reader: &AuditReader,
    ledger: &str,
    seq: u64,
) -> Result<Option<SequencedEntry>, Failure> {
    let query = AuditQuery::new().ledger(ledger).from_seq(seq).before_seq(seq.saturating_add(1));
    let mut found = std::pin::pin!(reader.stream(query));
    Ok(found.try_next().await?)
}
