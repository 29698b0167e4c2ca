//! Rejected and lost entries, and the `audit.gap` entry that reports them, so that the log itself says which entries
//! it does not hold.

use chrono::SecondsFormat;
use serde::Serialize;
use uuid::Uuid;

use crate::entry::{FieldEncoder, Limits, begin_event};
use crate::entry::{Moment, from_micros};

/// The reason why a record was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    /// Another emitter's write has not returned in time.
    Stuck,
    Closed,
    TooLarge,
}

/// The numbers of rejected entries, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rejections {
    /// The queue was full, for as long as [`WhenFull`](crate::WhenFull) allows.
    pub full: u64,
    /// The log was shut down.
    pub closed: u64,
    /// A text exceeded [`value_max_bytes`](crate::AuditLogBuilder::value_max_bytes), or the whole entry
    /// [`entry_max_bytes`](crate::AuditLogBuilder::entry_max_bytes).
    pub too_large: u64,
}

impl Rejections {
    /// The number of all rejected entries.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.full + self.closed + self.too_large
    }

    pub(super) fn count(&mut self, why: Refused) {
        match why {
            Refused::Full | Refused::Stuck => self.full += 1,
            Refused::Closed => self.closed += 1,
            Refused::TooLarge => self.too_large += 1,
        }
    }
}

/// Rejections that no entry reports yet.
#[derive(Clone, Debug)]
pub(super) struct Gap {
    pub(super) rejected: Rejections,
    pub(super) from: Moment,
    pub(super) until: Moment,
}

impl Gap {
    /// Adds one rejection to those not reported yet.
    pub(super) fn widen(gap: &mut Option<Self>, why: Refused) {
        let now = Moment::now();
        let gap = gap.get_or_insert(Self { rejected: Rejections::default(), from: now, until: now });
        gap.rejected.count(why);
        gap.until = now;
    }

    /// The gap entry could not be written: merges this gap with the rejections counted since.
    pub(super) fn put_back(mut self, gap: &mut Option<Self>) {
        if let Some(Self { rejected, until, .. }) = gap.take() {
            self.rejected.full += rejected.full;
            self.rejected.closed += rejected.closed;
            self.rejected.too_large += rejected.too_large;
            self.until = until;
        }
        *gap = Some(self);
    }

    /// Returns the record of an event that reports this gap. `queue` is the dead process's whose gap it is, if it is not
    /// our own.
    pub(super) fn record(&self, queue: Option<Uuid>) -> Vec<u8> {
        let Rejections { full, closed, too_large } = self.rejected;
        let total = self.rejected.total();
        let spelled = |at: Moment| from_micros(at.micros).to_rfc3339_opts(SecondsFormat::Micros, true);
        let (from, until) = (spelled(self.from), spelled(self.until));
        event(&format!("{total} entries were rejected from {from} until {until}"), |fields| {
            fields.u64("rejected", total);
            fields.u64("full", full);
            fields.u64("closed", closed);
            fields.u64("too_large", too_large);
            fields.str("from", &from);
            fields.str("until", &until);
            if let Some(queue) = queue {
                fields.str("queue", &queue.to_string());
            }
        })
    }
}

/// Returns the record of an event that reports lost entries: `lost` entries that were accepted, at the positions that
/// follow `after` in this queue, and are neither in a queue nor in the database.
pub(crate) fn lost(lost: u64, queue: Uuid, after: u64) -> Vec<u8> {
    let reason = format!(
        "{lost} accepted entries are lost: bytes of the journal were damaged or removed, or the database was \
         restored from an earlier backup"
    );
    event(&reason, |fields| {
        fields.u64("lost", lost);
        fields.str("queue", &queue.to_string());
        fields.u64("after_position", after);
    })
}

/// Returns the record of an event that reports the queue of a dead process that is gone: `lost` entries that it had
/// accepted, at the positions that follow `after`, or more. `journal` is the directory of its journals, if it had one.
pub(crate) fn gone(lost: u64, queue: Uuid, after: u64, journal: Option<&str>) -> Vec<u8> {
    let what = match journal {
        Some(_) => "the journal of a process that is dead was removed or emptied",
        None => "a process that is dead had entries in memory",
    };
    let reason = match lost {
        0 => format!("{what}: nobody knows whether it held accepted entries"),
        _ => format!("{what}: at least {lost} accepted entries are lost"),
    };
    event(&reason, |fields| {
        fields.u64("lost", lost);
        fields.str("queue", &queue.to_string());
        fields.u64("after_position", after);
        if let Some(journal) = journal {
            fields.str("journals", journal);
        }
    })
}

/// Returns the record of an event that reports a change at the end of the ledger: that no entries, or others than were
/// committed, have the numbers from `from` until before `until`.
pub(crate) fn altered(from: u64, until: u64, replaced: bool, queue: Uuid) -> Vec<u8> {
    let found = match (until - from, replaced) {
        (0, false) => "its head or its batches were changed".to_owned(),
        (0, true) => "the entry that was committed last is gone, or another has its number".to_owned(),
        (1, _) => format!("the entry {from} is gone"),
        (lost, _) => format!("the {lost} entries from {from} to {} are gone", until - 1),
    };
    event(&format!("the end of the ledger is not as it was left: {found}"), |fields| {
        fields.u64("lost", (until - from).max(u64::from(replaced)));
        fields.str("queue", &queue.to_string());
        fields.u64("from_seq", from);
        fields.u64("until_seq", until);
    })
}

/// Returns the record of an event with the action `audit.gap`.
fn event(reason: &str, metadata: impl FnOnce(&mut FieldEncoder<'_>)) -> Vec<u8> {
    let mut record = Vec::with_capacity(256);
    begin_event(&mut record, Moment::now());
    let mut fields = FieldEncoder::new(&mut record, Limits::NONE);
    fields.own_action("audit.gap");
    fields.str("resource", "audit");
    // An empty decision, because nobody decided: without it the log's default decision would be stored.
    fields.str("decision", "");
    fields.str("reason", reason);
    metadata(&mut fields);
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejections_that_cannot_be_reported_yet_are_reported_with_the_later_ones() {
        let mut gap = None;
        Gap::widen(&mut gap, Refused::Full);
        Gap::widen(&mut gap, Refused::TooLarge);
        let unreported = gap.take().unwrap();
        let from = unreported.from;
        unreported.put_back(&mut gap);
        let unreported = gap.take().unwrap();
        Gap::widen(&mut gap, Refused::Full);
        Gap::widen(&mut gap, Refused::Closed);
        let until = gap.as_ref().unwrap().until;
        unreported.put_back(&mut gap);
        let gap = gap.unwrap();
        assert_eq!(gap.rejected, Rejections { full: 2, closed: 1, too_large: 1 });
        assert_eq!((gap.from.micros, gap.until.micros), (from.micros, until.micros));
    }
}
