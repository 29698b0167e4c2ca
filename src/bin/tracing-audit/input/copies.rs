//! Refuses copies of one log that are given as several databases: each entry that they share would count twice.

use futures_util::TryStreamExt;
use tracing_audit::{AuditQuery, AuditReader, reader::Ledger};

use super::place::{Place, entry_at};
use crate::failure::Failure;

/// A database: its name, a reader whose reads are not recorded, and its ledgers.
pub(super) type Given<'a> = (&'a str, AuditReader, &'a [Ledger]);

/// Refuses two databases of which one has the first entry of a ledger of the other, in the same place: a copy, a backup, or
/// an exported file beside the database that it was made of.
pub(super) async fn refuse_copies(given: &[Given<'_>]) -> Result<(), Failure> {
    for (number, (name, reader, ledgers)) in (1..).zip(given) {
        for (other, other_reader, others) in given.iter().skip(number) {
            for Ledger { name: ledger, .. } in ledgers.iter().filter(|one| has(others, &one.name)) {
                let shared = match shared(reader, other_reader, ledger).await {
                    None => shared(other_reader, reader, ledger).await,
                    found => found,
                };
                if let Some(Place { seq, id }) = shared {
                    return Err(Failure::Usage(format!(
                        "{name} and {other} hold the same log, each entry of which would count twice: both have the entry {id} \
                         at seq {seq} of the ledger {ledger:?}. Give one of them"
                    )));
                }
            }
        }
    }
    Ok(())
}

fn has(ledgers: &[Ledger], name: &str) -> bool {
    ledgers.iter().any(|ledger| ledger.name == name)
}

/// The first entry that one has of this ledger, if the other has it in the same place. A failure to read is
/// reported by the answer, which reads again.
async fn shared(one: &AuditReader, other: &AuditReader, ledger: &str) -> Option<Place> {
    let mut entries = std::pin::pin!(one.stream(AuditQuery::new().ledger(ledger).limit(1)));
    let first = Place::of(&entries.try_next().await.ok()??);
    let there = entry_at(other, ledger, first.seq).await.ok()??;
    (Place::of(&there) == first).then_some(first)
}
