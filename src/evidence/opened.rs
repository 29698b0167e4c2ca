//! Reads entries together with what opens them: the values, and the salts of their leaves.

use std::ops::Range;

use super::{
    chunk::signed,
    layout::{Layout, absent, lay_out},
    tiles::missing_hash,
};
use crate::error::{AuditError, ErrorKind};
use crate::ledger::{Hash, Opening, Seeds};
use crate::store::{Evidence, StoredRow, columns};

/// Rows that are read at a time.
const PAGE: u32 = 2048;

/// Entries that are wanted are read together if no more than this number of others lies between them.
const MOST_BETWEEN: u64 = 16;

/// A range of a ledger, of which entries can be opened.
pub(super) struct Opened<'a> {
    evidence: &'a dyn Evidence,
    ledger: &'a str,
    range: Range<u64>,
    layout: Layout,
}

impl<'a> Opened<'a> {
    /// Reads what proves the entries of a range, which is in the tree as a whole.
    pub(super) async fn read(
        evidence: &'a dyn Evidence,
        ledger: &'a str,
        range: Range<u64>,
    ) -> Result<Self, AuditError> {
        let seqs = signed(range.start)..signed(range.end);
        let leaves = evidence.leaves(ledger, seqs.clone()).await?;
        let first = leaves.rows.first().map_or(seqs.start, |row| row.first_seq.min(seqs.start));
        let batches = evidence.batches(ledger, first..seqs.end).await?;
        let layout = lay_out(&range, range.end, &leaves, &batches);
        Ok(Self { evidence, ledger, range, layout })
    }

    /// The stored leaf hash of each entry.
    pub(super) fn leaf_hashes(&self) -> &[Option<Hash>] {
        &self.layout.stored
    }

    /// Opens these entries, which are in the order of their numbers, one after the other.
    pub(super) async fn each(
        &self,
        wanted: &[u64],
        mut take: impl FnMut(u64, Opening) -> Result<(), AuditError>,
    ) -> Result<(), AuditError> {
        for run in wanted.chunk_by(|one, next| next - one <= MOST_BETWEEN) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let (mut at, end, mut left) = (*first, last + 1, run);
            while at < end {
                let rows = self.evidence.rows(self.ledger, signed(at)..signed(end), PAGE).await?.rows;
                // The next page begins after the last row of this one.
                let reached = rows.last().and_then(|row| u64::try_from(row.seq).ok());
                let reached = reached.map_or(end, |seq| seq.saturating_add(1).clamp(at + 1, end));
                let (now, later) = left.split_at(left.partition_point(|seq| *seq < reached));
                for seq in now {
                    let row = rows.binary_search_by_key(&signed(*seq), |row| row.seq).ok();
                    take(*seq, self.open(*seq, row.and_then(|row| rows.get(row)))?)?;
                }
                (at, left) = (reached, later);
            }
        }
        Ok(())
    }

    /// The fields of an entry, whose leaf is the stored one.
    fn open(&self, seq: u64, found: Option<&StoredRow>) -> Result<Opening, AuditError> {
        let place = seq.checked_sub(self.range.start).and_then(|place| usize::try_from(place).ok());
        let stored = place.and_then(|place| self.layout.stored.get(place).copied().flatten());
        let stored = stored.ok_or_else(|| missing_hash(seq, seq + 1))?;
        if stored == absent() {
            return match found {
                None => Ok(Opening::of_no_entry()),
                Some(_) => Err(altered(seq, "is one that no writer has committed")),
            };
        }
        let found = found.ok_or_else(|| altered(seq, "is gone"))?;
        let row = found.row.as_ref().ok_or_else(|| altered(seq, "is not as it was committed"))?;
        let spans = &self.layout.spans;
        let span = spans.get(spans.partition_point(|span| span.range.end <= seq));
        let opening = span.and_then(|span| {
            let place = u32::try_from(seq.checked_sub(span.first)?).ok()?;
            let seed = Seeds::of_root(span.seed?).get(place)?;
            Some(Opening::of(&columns(row), &span.committed(seq)?, &seed))
        });
        let opening = opening.ok_or_else(|| altered(seq, "has no batch, or one whose row was changed"))?;
        if opening.leaf().hash() == stored {
            return Ok(opening);
        }
        Err(altered(seq, "is not as it was committed"))
    }
}

/// The error of an entry that cannot be proven.
pub(super) fn altered(seq: u64, what: &str) -> AuditError {
    AuditError::new(
        ErrorKind::Altered,
        format!(
            "entry {seq} {what}, so that it cannot be proven: verify the ledger, which says what was changed"
        ),
    )
}
