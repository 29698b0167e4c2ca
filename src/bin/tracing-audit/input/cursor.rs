//! The place in a query's answer at which the next one begins: the text of `--cursor`.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use tracing_audit::{AuditQuery, SequencedEntry};

use crate::failure::Failure;

/// A place after an entry. Entries of one time have no order that lasts between several ledgers, so that it counts how many
/// of that time were shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    ts: DateTime<Utc>,
    shown: u32,
    /// The end of the last entry's id.
    id: u32,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{:08x}", self.ts.timestamp_micros(), self.shown, self.id)
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
            parts.next().is_none().then_some(Self { ts, shown, id })
        };
        parse().ok_or("not a cursor: give one that a query has shown as its next one")
    }
}

impl Cursor {
    /// The query from the place on, with the entries of the place's time that were shown already.
    pub(crate) fn add(self, query: AuditQuery, oldest_first: bool) -> AuditQuery {
        if oldest_first { query.since(self.ts) } else { query.until(self.ts) }
    }

    /// The query up to the place, with all entries of the place's time.
    pub(crate) fn up_to(self, query: AuditQuery, oldest_first: bool) -> AuditQuery {
        if oldest_first { query.until(self.ts) } else { query.since(self.ts) }
    }

    /// How many entries of the place's time were shown.
    pub(crate) fn shown(self) -> u32 {
        self.shown
    }

    /// Checks the last one of those: it must be the one at which the answer before has ended.
    pub(crate) fn check(self, last: Option<&SequencedEntry>) -> Result<(), Failure> {
        if last.is_some_and(|last| last.entry.ts == self.ts && end_of_id(last) == self.id) {
            return Ok(());
        }
        let message = "the cursor is of another question or database, or entries of its time were added since: ask without \
                       --cursor";
        Err(Failure::Usage(message.to_owned()))
    }

    /// The place after this entry. `at` is the place after the entry before it.
    pub(crate) fn after(at: Option<Self>, entry: &SequencedEntry) -> Self {
        let ts = entry.entry.ts;
        let shown = at.filter(|at| at.ts == ts).map_or(0, |at| at.shown);
        Self { ts, shown: shown.saturating_add(1), id: end_of_id(entry) }
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
        for text in ["0.1.00000000", "-5.7.deadbeef", "1764320000123456.4294967295.00c0ffee"] {
            assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
        }
        for text in
            ["", "1", "1.1", "1.0.0", "1.1.1.1", "a.1.1", "9223372036854775807.1.1", "1.-1.1", "1.1.g"]
        {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }
}
