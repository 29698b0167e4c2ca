//! Reads the ledgers of all periods as one: pages, streams, counts, coverage.

use std::{
    collections::VecDeque,
    fmt,
    future::ready,
    str::FromStr,
    sync::{Arc, Mutex},
};

use futures_util::{
    Stream, StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use serde::{Deserialize, Serialize};

use super::{
    audit_reader::AuditReader,
    coverage::Coverage,
    page::{Cursor, Page},
};
use crate::entry::SequencedEntry;
use crate::error::{AuditError, ErrorKind};
use crate::platform::lock;
use crate::query::AuditQuery;
use crate::store::{Period, Store, named};

/// Reads all ledgers of a log with [periods](crate::AuditLogBuilder::period), in the order of the periods. Cheap to clone.
///
/// Each call looks for the ledgers that there are: files of SQLite, which may be moved elsewhere meanwhile, or ledgers of a
/// PostgreSQL database. One that was [archived](crate::guide::growth) is not among them. What a reader of one ledger can, and
/// this one cannot, is asked of [each of them](Self::ledgers).
#[derive(Clone, Debug)]
pub struct PeriodReader {
    store: Store,
    pub(super) ledger: String,
    period: Period,
    recorded_as: Option<String>,
    /// The reader of the latest period, with its name, which keeps its connections. Those of earlier periods close theirs: there
    /// may be any number of files, and one that is open cannot be archived.
    latest: Arc<Mutex<Option<(String, AuditReader)>>>,
}

/// One page of the entries of all periods.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PeriodPage {
    /// The entries: by ledger and then `seq`, both ascending, or both descending if the query is newest first.
    pub entries: Vec<SequencedEntry>,
    /// The cursor of the next page. `None` if no entry follows at present.
    pub next: Option<PeriodCursor>,
}

/// A place between two entries of one query of all periods. Opaque; its text form fits into a URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeriodCursor {
    /// The name of the period.
    label: String,
    /// The place in its ledger; `None` at the beginning.
    cursor: Option<Cursor>,
}

impl fmt::Display for PeriodCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)?;
        match &self.cursor {
            Some(cursor) => write!(f, ".{cursor}"),
            None => Ok(()),
        }
    }
}

impl FromStr for PeriodCursor {
    type Err = AuditError;

    fn from_str(text: &str) -> Result<Self, AuditError> {
        let (label, cursor) = match text.split_once('.') {
            Some((label, cursor)) => (label, Some(cursor.parse()?)),
            None => (text, None),
        };
        let periods = [Period::Day, Period::Month, Period::Year];
        if !periods.iter().any(|period| period.is_label(label)) {
            let message = "not a cursor of this crate over periods: start from the first page";
            return Err(AuditError::new(ErrorKind::Cursor, message));
        }
        Ok(Self { label: label.to_owned(), cursor })
    }
}

impl TryFrom<String> for PeriodCursor {
    type Error = AuditError;

    fn try_from(text: String) -> Result<Self, AuditError> {
        text.parse()
    }
}

impl From<PeriodCursor> for String {
    fn from(cursor: PeriodCursor) -> Self {
        cursor.to_string()
    }
}

impl PeriodReader {
    /// A reader of the ledgers whose names begin with this one and end with a period. The store is what the log was given.
    pub fn new(store: impl Into<Store>, ledger: impl Into<String>, period: Period) -> Self {
        let (store, ledger) = (store.into(), ledger.into());
        Self { store, ledger, period, recorded_as: None, latest: Arc::default() }
    }

    /// The same reader, whose reads are recorded under this name: see [`AuditReader::recorded_as`].
    #[must_use]
    pub fn recorded_as(self, name: impl Into<String>) -> Self {
        Self { recorded_as: Some(name.into()), latest: Arc::default(), ..self }
    }

    /// The names of the ledgers that there are, the earliest first, each with a reader of it.
    ///
    /// # Errors
    /// [`is_store`](AuditError::is_store) if the database, or its directory, cannot be read.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn ledgers(&self) -> Result<Vec<(String, AuditReader)>, AuditError> {
        let found = self.found().await?;
        Ok(found.into_iter().map(|(label, reader)| (named(&self.ledger, &label), reader)).collect())
    }

    /// The names of the periods that there are, the earliest first, each with a reader of its ledger.
    pub(super) async fn found(&self) -> Result<Vec<(String, AuditReader)>, AuditError> {
        let labels = self.store.labels(&self.ledger, self.period).await?;
        let mut found = Vec::with_capacity(labels.len());
        for label in labels {
            found.push((label.clone(), self.reader(&label)?));
        }
        let mut latest = lock(&self.latest);
        if let (Some((label, reader)), Some((known, kept))) = (found.last_mut(), latest.take())
            && *label == known
        {
            *reader = kept;
        }
        *latest = found.last().cloned();
        drop(latest);
        Ok(found)
    }

    fn reader(&self, label: &str) -> Result<AuditReader, AuditError> {
        let reader = AuditReader::new(self.store.of_period(label)?).of_ledger(named(&self.ledger, label));
        Ok(match &self.recorded_as {
            Some(name) => reader.recorded_as(name.clone()),
            None => reader,
        })
    }

    /// The number of entries of all periods that match. The query's limit and ledger are ignored.
    ///
    /// # Errors
    /// Those of [`AuditReader::count`].
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn count(&self, query: impl Into<AuditQuery>) -> Result<u64, AuditError> {
        let (query, mut count) = (query.into(), 0);
        for (label, reader) in self.found().await? {
            count += reader.count(self.of(&query, &label)).await?;
        }
        Ok(count)
    }

    fn of(&self, query: &AuditQuery, label: &str) -> AuditQuery {
        query.clone().ledger(named(&self.ledger, label))
    }

    /// The entries of all periods that match, within the query's limit, in the order of the periods and of `seq`, or in the
    /// reverse order if the query is [`newest_first`](AuditQuery::newest_first). Memory stays constant. The query's ledger is
    /// ignored, and its range of `seq` is one in each ledger.
    ///
    /// An `Err` is the last item.
    ///
    /// # Cancel safety
    /// Dropping the stream loses nothing.
    pub fn stream(
        &self,
        query: impl Into<AuditQuery>,
    ) -> impl Stream<Item = Result<SequencedEntry, AuditError>> + Send + 'static {
        let (reader, query) = (self.clone(), query.into());
        let limit = query.filter.limit;
        let all = async move {
            let mut found = reader.found().await?;
            if query.newest_first {
                found.reverse();
            }
            Ok::<_, AuditError>(stream::iter(found).flat_map(move |(label, one)| {
                let entries: Entries = Box::pin(one.stream(reader.of(&query, &label)));
                entries
            }))
        };
        let most = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let until_error = |has_failed: &mut bool, found: Result<SequencedEntry, AuditError>| {
            let next = (!*has_failed).then_some(found);
            *has_failed = next.as_ref().is_none_or(Result::is_err);
            ready(next)
        };
        stream::once(all).try_flatten().scan(false, until_error).take(most)
    }

    /// One page: at most `size` entries that match, of one period or of several that follow each other, in the order of
    /// [`stream`](Self::stream). A `size` of 0 counts as 1. Following `next` to the end meets every entry once. A page may end
    /// early, with a `next`. The query's limit and ledger are ignored.
    ///
    /// # Errors
    /// Those of [`AuditReader::page`]; [`is_cursor`](AuditError::is_cursor) also if the cursor's ledger is not there any more.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn page(
        &self,
        query: impl Into<AuditQuery>,
        cursor: Option<PeriodCursor>,
        size: u32,
    ) -> Result<PeriodPage, AuditError> {
        let query = query.into();
        let mut found: VecDeque<_> = self.found().await?.into();
        if query.newest_first {
            found.make_contiguous().reverse();
        }
        let mut place = None;
        if let Some(PeriodCursor { label, cursor }) = cursor {
            let Some(at) = found.iter().position(|(known, _)| *known == label) else {
                let ledger = named(&self.ledger, &label);
                let message = format!(
                    "the ledger {ledger} of the cursor is not there any more: start from the first page"
                );
                return Err(AuditError::new(ErrorKind::Cursor, message));
            };
            drop(found.drain(..at));
            place = cursor;
        }
        let size = size.max(1);
        let mut entries = Vec::new();
        while let Some((label, reader)) = found.pop_front() {
            let room = size.saturating_sub(u32::try_from(entries.len()).unwrap_or(u32::MAX));
            if room == 0 {
                return Ok(PeriodPage { entries, next: Some(PeriodCursor { label, cursor: None }) });
            }
            let Page { entries: more, next, .. } =
                reader.page(self.of(&query, &label), place.take(), room).await?;
            entries.extend(more);
            if next.is_some() {
                return Ok(PeriodPage { entries, next: Some(PeriodCursor { label, cursor: next }) });
            }
        }
        Ok(PeriodPage { entries, next: None })
    }

    /// The coverage of the ledgers of all periods: what they have that can match, and what is missing there. See
    /// [`AuditReader::coverage`]. Entries and batches are compared for at most `at_most` numbers in all, those at the
    /// beginning of the query's direction. The query's ledger is ignored.
    ///
    /// # Errors
    /// Those of [`AuditReader::coverage`].
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn coverage(&self, query: impl Into<AuditQuery>, at_most: u64) -> Result<Coverage, AuditError> {
        let query = query.into();
        let mut found = self.found().await?;
        if query.newest_first {
            found.reverse();
        }
        let (mut whole, mut left) = (Coverage::default(), at_most);
        for (label, reader) in found {
            let one = reader.coverage(self.of(&query, &label), left).await?;
            let compared: u64 = one.ledgers.iter().map(|ledger| ledger.compared.numbers()).sum();
            left = left.saturating_sub(compared);
            whole.ledgers.extend(one.ledgers);
            for altered in one.altered {
                // All may be in one database.
                if !whole.altered.contains(&altered) {
                    whole.altered.push(altered);
                }
            }
        }
        Ok(whole)
    }
}

/// Entries of one ledger.
pub(super) type Entries = BoxStream<'static, Result<SequencedEntry, AuditError>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_over_periods_is_read_back_from_its_text() {
        let cursor: Cursor = "10000000000000000000000000000000010".parse().unwrap();
        for cursor in [
            PeriodCursor { label: "2026-12".to_owned(), cursor: Some(cursor) },
            PeriodCursor { label: "2026".to_owned(), cursor: None },
        ] {
            assert_eq!(cursor.to_string().parse::<PeriodCursor>().unwrap(), cursor);
        }
        for text in ["", ".", "2026-13", "2026-12.", "2026-12.x", "payments-2026-12"] {
            assert!(text.parse::<PeriodCursor>().unwrap_err().is_cursor(), "{text}");
        }
    }
}
