//! The place in a query's answer at which the next one begins: the text of `--cursor`.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use tracing_audit::{AuditQuery, SequencedEntry};

use crate::failure::Failure;

/// A place after an entry. Entries of one time have no order that lasts between several ledgers, so the cursor counts
/// the entries of that time that were shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    ts: DateTime<Utc>,
    shown: u32,
    /// The end of the last entry's id.
    id: u32,
    /// Whether the answer had the earliest entries first.
    oldest_first: bool,
}

/// The last part of the text of a cursor in an answer that has the earliest entries first.
const OLDEST_FIRST: &str = "oldest";

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{:08x}", self.ts.timestamp_micros(), self.shown, self.id)?;
        if self.oldest_first { write!(f, ".{OLDEST_FIRST}") } else { Ok(()) }
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut parts = text.split('.');
            let ts = DateTime::from_timestamp_micros(parts.next()?.parse().ok()?)?;
            let shown = parts.next()?.parse().ok().filter(|shown| *shown > 0)?;
            let id = u32::from_str_radix(parts.next()?, 16).ok()?;
            let order = parts.next();
            let is_known = order.is_none_or(|order| order == OLDEST_FIRST) && parts.next().is_none();
            is_known.then_some(Self { ts, shown, id, oldest_first: order.is_some() })
        };
        parse().ok_or("not a cursor: give one that a query has shown as its next one")
    }
}

impl Cursor {
    /// The query from the place on, with the entries of the place's time that were shown already.
    pub(crate) fn add(self, query: AuditQuery) -> AuditQuery {
        if self.oldest_first { query.since(self.ts) } else { query.until(self.ts) }
    }

    /// The query up to the place, with all entries of the place's time.
    pub(crate) fn up_to(self, query: AuditQuery) -> AuditQuery {
        if self.oldest_first { query.until(self.ts) } else { query.since(self.ts) }
    }

    /// The number of entries at the place's time that were shown.
    pub(crate) fn shown(self) -> u32 {
        self.shown
    }

    /// Refuses the other order than that of the answer that has shown the place.
    pub(crate) fn check_order(self, oldest_first: bool) -> Result<(), Failure> {
        let message = match (self.oldest_first, oldest_first) {
            (true, false) => {
                "the cursor is of an answer that has the earliest entries first: add --oldest-first"
            }
            (false, true) => {
                "the cursor is of an answer that has the latest entries first: leave out --oldest-first"
            }
            _ => return Ok(()),
        };
        Err(Failure::Usage(message.to_owned()))
    }

    /// Whether the entry is of the place's time.
    pub(crate) fn is_of_time(self, entry: &SequencedEntry) -> bool {
        entry.entry.ts == self.ts
    }

    /// Checks the last one of those: it must be the one at which the answer before has ended.
    pub(crate) fn check(self, last: Option<&SequencedEntry>) -> Result<(), Failure> {
        if last.is_some_and(|last| self.is_of_time(last) && end_of_id(last) == self.id) {
            return Ok(());
        }
        let message = "the cursor is of another question or database, or entries of its time were added since: ask without \
                       --cursor";
        Err(Failure::Usage(message.to_owned()))
    }

    /// The place after this entry, in this order. `at` is the place after the entry before it.
    pub(crate) fn after(at: Option<Self>, entry: &SequencedEntry, oldest_first: bool) -> Self {
        let ts = entry.entry.ts;
        let shown = at.filter(|at| at.ts == ts).map_or(0, |at| at.shown);
        Self { ts, shown: shown.saturating_add(1), id: end_of_id(entry), oldest_first }
    }
}

fn end_of_id(entry: &SequencedEntry) -> u32 {
    let [.., a, b, c, d] = *entry.entry.id.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_from_its_text_and_nothing_else_is_one() {
        for text in
            ["0.1.00000000", "-5.7.deadbeef", "1764320000123456.4294967295.00c0ffee", "0.1.00000000.oldest"]
        {
            assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "1",
            "1.1",
            "1.0.0",
            "1.1.1.1",
            "1.1.1.oldest.1",
            "a.1.1",
            "9223372036854775807.1.1",
            "1.-1.1",
            "1.1.g",
        ] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }
}
