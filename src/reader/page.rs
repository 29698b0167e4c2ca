//! Pages in the order of `seq`, and the cursors between them.

use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::entry::SequencedEntry;
use crate::error::{AuditError, ErrorKind};
use crate::query::{AuditFilter, AuditQuery};
use crate::store::Span;

/// One page of a query's entries, in the query's direction.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Page {
    /// The entries: ascending by `seq`, or descending if the query is newest first.
    pub entries: Vec<SequencedEntry>,
    /// The cursor of the next page. `None` if no entry follows at present.
    pub next: Option<Cursor>,
    /// The cursor of the page before this one. `None` on the first page.
    pub prev: Option<Cursor>,
    /// The numbers that were looked at: the first, and the one after the last. `None`: to the end of what was asked for.
    pub(super) looked_at: (Option<u64>, Option<u64>),
}

/// A place between two entries of one query. Opaque; its text form fits into a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor {
    /// Hash of the query, so that a cursor of another query is refused.
    query: u64,
    /// Hash of the entry at `seq`, so that a cursor from another database is refused.
    entry: u64,
    /// The `seq` of the entry before the cursor, in the direction in which the page is read.
    seq: u64,
    ascending: bool,
    /// Set in a `prev` cursor: the page is read backwards and reversed before it is returned.
    backwards: bool,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.ascending) | u8::from(self.backwards) << 1;
        write!(f, "1{flags}{:016x}{:016x}{:x}", self.query, self.entry, self.seq)
    }
}

impl FromStr for Cursor {
    type Err = AuditError;

    fn from_str(text: &str) -> Result<Self, AuditError> {
        let parse = || {
            let rest = text.strip_prefix('1')?;
            let (flags, rest) = rest.split_at_checked(1)?;
            let (query, rest) = rest.split_at_checked(16)?;
            let (entry, seq) = rest.split_at_checked(16)?;
            let flags: u8 = flags.parse().ok().filter(|flags| *flags < 4)?;
            Some(Self {
                query: u64::from_str_radix(query, 16).ok()?,
                entry: u64::from_str_radix(entry, 16).ok()?,
                seq: u64::from_str_radix(seq, 16).ok().filter(|seq| i64::try_from(*seq).is_ok())?,
                ascending: flags & 1 != 0,
                backwards: flags & 2 != 0,
            })
        };
        parse().ok_or_else(|| {
            AuditError::new(ErrorKind::Cursor, "not a cursor of this crate: start from the first page")
        })
    }
}

impl TryFrom<String> for Cursor {
    type Error = AuditError;

    fn try_from(text: String) -> Result<Self, AuditError> {
        text.parse()
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.to_string()
    }
}

/// The span to read for a page, and the way to make the page of what was read.
pub(super) struct Position {
    pub(super) span: Span,
    backwards: bool,
    /// `None` for the first page.
    cursor: Option<Cursor>,
}

impl Position {
    /// The position of a cursor, which must be of this query; without a cursor, that of the first page.
    pub(super) fn resolve(query: &AuditQuery, cursor: Option<Cursor>) -> Result<Self, AuditError> {
        let Some(cursor) = cursor else {
            let span = if query.newest_first { Span::Before(None) } else { Span::After(None) };
            return Ok(Self { span, backwards: false, cursor: None });
        };
        if cursor.query != fingerprint(query) {
            return Err(AuditError::new(
                ErrorKind::Cursor,
                "the cursor belongs to another query: start from the first page",
            ));
        }
        // Read the entry at the cursor again, to check that it is the same one.
        let span = if cursor.ascending {
            Span::After(cursor.seq.checked_sub(1))
        } else {
            Span::Before(Some(cursor.seq.saturating_add(1)))
        };
        Ok(Self { span, backwards: cursor.backwards, cursor: Some(cursor) })
    }

    /// The number of entries to read for a page of this size: the entry at the cursor, the page, and one entry more,
    /// which shows whether another page follows.
    pub(super) fn wanted(&self, size: u32) -> u32 {
        size.saturating_add(1 + u32::from(self.cursor.is_some()))
    }

    /// Makes the page from the entries that were read. `cut`: whether more follow, for which there was no room.
    pub(super) fn page(
        self,
        query: &AuditQuery,
        (mut entries, cut): (Vec<SequencedEntry>, bool),
        size: u32,
    ) -> Result<Page, AuditError> {
        if let Some(cursor) = &self.cursor {
            let at = entries.first().filter(|at| at.seq == cursor.seq && identity(at) == cursor.entry);
            if at.is_none() {
                return Err(AuditError::new(
                    ErrorKind::Cursor,
                    "the cursor belongs to another database or ledger, or its entry is gone: start from the first page",
                ));
            }
            entries.remove(0);
        }
        let exceeds = u32::try_from(entries.len()).is_ok_and(|found| found > size);
        if exceeds {
            entries.pop();
        }
        let more = exceeds || cut;
        let at = self.cursor.as_ref().map(|at| at.seq);
        let last = entries.last().map(|last| last.seq).filter(|_| more);
        let looked_at = match self.span {
            Span::After(_) => (at.map(|seq| seq.saturating_add(1)), last.map(|seq| seq.saturating_add(1))),
            Span::Before(_) => (last, at),
        };
        if self.backwards {
            entries.reverse();
        }
        let cursor = |at: Option<&SequencedEntry>, backwards: bool| {
            at.map(|at| Cursor {
                query: fingerprint(query),
                entry: identity(at),
                seq: at.seq,
                ascending: query.newest_first == backwards,
                backwards,
            })
        };
        let (next, prev) = (cursor(entries.last(), false), cursor(entries.first(), true));
        let (has_next, has_prev) = if self.backwards { (true, more) } else { (more, self.cursor.is_some()) };
        Ok(Page { next: next.filter(|_| has_next), prev: prev.filter(|_| has_prev), entries, looked_at })
    }
}

/// The hash by which a cursor recognizes its entry.
fn identity(entry: &SequencedEntry) -> u64 {
    hash((&entry.ledger, entry.entry.id))
}

/// Hash of everything that decides which entries a query has, and in which order. Times count to the nanosecond.
fn fingerprint(query: &AuditQuery) -> u64 {
    // Each field is named: one that is added must be decided on here.
    let AuditQuery {
        filter: AuditFilter { workspace_id, session_id, decision, resource, start_time, end_time, limit: _ },
        ledger,
        before,
        committed_since,
        committed_before,
        from_seq,
        before_seq,
        conditions,
        newest_first,
        pruned: _,
    } = query;
    hash((
        ledger,
        (workspace_id, session_id, decision, resource),
        (start_time, end_time, before, from_seq, before_seq, newest_first),
        (committed_since, committed_before),
        // Conditions hold floating-point numbers, which do not implement `Hash`.
        format!("{conditions:?}"),
    ))
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    value.hash(&mut hasher);
    hasher.finish()
}

/// FNV-1a. A cursor outlives the process, and the standard library's hasher may give another value in the next one.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_is_read_back_from_its_text(
            query: u64, entry: u64, seq in 0..=i64::MAX.cast_unsigned(), ascending: bool, backwards: bool,
        ) {
            let cursor = Cursor { query, entry, seq, ascending, backwards };
            prop_assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
        }

        #[test]
        fn any_text_is_a_cursor_or_a_cursor_error(text in any::<String>()) {
            if let Err(error) = text.parse::<Cursor>() {
                prop_assert!(error.is_cursor());
            }
        }
    }
}
