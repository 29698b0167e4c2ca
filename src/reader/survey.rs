//! Surveys the part of each ledger that can hold a query's matches, for its `Coverage`.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    audit_reader::AuditReader,
    coverage::{Coverage, Hole, LedgerCoverage, SilentWriter},
    page::Page,
    tally::{Ranges, SeqRange, Tally},
};
use crate::entry::{LedgerRow, SequencedEntry, from_micros, sequenced};
use crate::error::AuditError;
use crate::query::AuditQuery;
use crate::store::{Asked, COUNTED, Cover, LedgerCover, PIECE, Part, Piece, Surveys, Veils};

/// The most ranges that a coverage lists. Their numbers are all counted.
const LISTED: usize = 100;

/// The most silent writers that a coverage lists.
const WRITERS: u32 = 20;

/// The most `audit.gap` entries that a coverage looks at, latest first.
const GAPS: u32 = 1000;
const GAPS_OF_PAGE: u32 = 100;

/// The most numbers beside those that are compared whose times an answer's coverage compares.
const BESIDE: u64 = 1_000_000;

/// The most entries outside of their batch's times, and batches with a time that cannot be, that are looked for.
const UNTIMELY: u32 = 10_000;

/// The most numbers that [`AuditReader::page_coverage`] looks at. They take less than 2 ms.
const OF_PAGE: u64 = 1000;

impl AuditReader {
    /// The coverage of a query: which part of each ledger it has looked at, and what is missing there: holes in `seq`,
    /// entries that no batch holds, declared losses, quarantine, the latest commit, silent writers. An answer of
    /// [`query`](Self::query), [`count`](Self::count), a stream or an export is complete if this is
    /// [whole](Coverage::is_whole) and does not [lack](Coverage::lacks) anything. Ask for it after the answer. The
    /// query's limit is ignored.
    ///
    /// If a view stands in the place of a table, the coverage says only that. Nothing is read through the view, and the
    /// calls that answer are an error ([`is_altered`](AuditError::is_altered)).
    ///
    /// Entries and batches are compared for at most `at_most` numbers, those at the beginning of the query's direction:
    /// some 10 million in a second or two, and memory stays constant. What cannot hold matches by the query's ranges of
    /// `seq` and time is left out, with the entries around it that no batch holds. The bytes of the entries are not read.
    ///
    /// A batch is passed over that says of itself that it cannot match. So for a query by time the `ts` of as many entries around
    /// those that are compared, at most a million, are held against what their batches say, and for one by the time of the commit
    /// those times against each other: a change of less than a minute is not found there. In a SQLite file, the indexes that can have
    /// served the query are held against the table, as far as entries are compared. The command `check` looks at all entries
    /// and has SQLite read all of its file.
    ///
    /// This call returns no entries and is not recorded as a read.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let log = tracing_audit::AuditLog::open(directory.path().join("audit.db")).await?;
    /// use tracing_audit::{AuditEntry, AuditQuery};
    ///
    /// log.writer().commit(AuditEntry::new(uuid::Uuid::nil(), "document.read", "document")).await?;
    /// let query = AuditQuery::new().action("document.delete");
    /// assert_eq!(log.reader().count(&query).await?, 0);
    /// let coverage = log.reader().coverage(&query, u64::MAX).await?;
    /// assert!(coverage.is_whole() && !coverage.lacks()); // really nothing
    /// assert_eq!(coverage.ledgers[0].asked.numbers(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`is_query`](AuditError::is_query) for a query of more than 200 conditions or 10 000 values,
    /// [`is_store`](AuditError::is_store) if the database cannot be read.
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn coverage(&self, query: impl Into<AuditQuery>, at_most: u64) -> Result<Coverage, AuditError> {
        self.coverage_with(query, at_most, at_most.min(BESIDE)).await
    }

    /// As [`coverage`](Self::coverage), for an answer that has ended early: the times of at most `beside` entries are looked at
    /// that lie beside what is compared. Ten thousand take a millisecond or two.
    ///
    /// # Errors
    /// As [`coverage`](Self::coverage).
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn coverage_with(
        &self,
        query: impl Into<AuditQuery>,
        at_most: u64,
        beside: u64,
    ) -> Result<Coverage, AuditError> {
        let query = Self::asked(query)?;
        let found = self.coverage_of(&query, at_most, beside).await;
        // Nothing is read through what stands in the place of a table: then that is the answer.
        if found.is_err()
            && let Ok(Veils { instead, .. }) = self.store.backend().surveys()?.veils().await
            && !instead.is_empty()
        {
            return Ok(Coverage { altered: instead, ..Coverage::default() });
        }
        found
    }

    async fn coverage_of(
        &self,
        query: &AuditQuery,
        at_most: u64,
        beside: u64,
    ) -> Result<Coverage, AuditError> {
        let surveys = self.store.backend().surveys()?;
        let ledgers = self.ledgers_of(query).await?;
        let mut coverage = Coverage::default();
        if ledgers.is_empty() {
            coverage.altered = surveys.veils().await?.over;
        }
        let mut left = at_most;
        for ledger in ledgers {
            let asked = Asked {
                query: query.clone().ledger(ledger),
                at_most: i64::try_from(left).unwrap_or(i64::MAX),
                gaps: if left > OF_PAGE { GAPS } else { GAPS_OF_PAGE },
                writers: WRITERS,
                // A page in the order of `seq` needs no times.
                beside: if query.has_times() {
                    Some(i64::try_from(beside).unwrap_or(i64::MAX))
                } else {
                    (left > OF_PAGE).then_some(0)
                },
            };
            let Cover { over, ledger } = surveys.cover(&asked).await?;
            coverage
                .altered
                .extend(over.into_iter().filter(|over| !coverage.altered.contains(over)).collect::<Vec<_>>());
            if let Some(found) = ledger {
                let (part, timed) = (found.part, found.timed);
                // It looks at every writer that there ever was.
                let with_reached = left > OF_PAGE;
                let found = self.ledger_coverage(&asked.query, found, with_reached).await?;
                if with_reached {
                    let compared = (part.least, part.greatest);
                    coverage.altered.extend(surveys.unindexed(&asked.query, compared, timed).await?);
                }
                left = left.saturating_sub(found.compared.numbers());
                coverage.ledgers.push(found);
            }
        }
        // A single ledger that exists was asked for: the others do not matter.
        if query.ledger.is_none() || coverage.ledgers.is_empty() {
            let headless = surveys.headless().await?;
            let asked = headless.iter().filter(|name| query.ledger.as_ref().is_none_or(|one| one == *name));
            coverage.altered.extend(asked.map(|name| headless_ledger(name)));
        }
        Ok(coverage)
    }

    /// The coverage of a [`page`](Self::page) of this query: of the numbers between those of the pages before and after, and
    /// to the end of the ledger where no page is. The pages of a query together cover all of it. At most 1000 numbers are compared, which takes less than 2 ms;
    /// of more, those at the beginning of the query's direction.
    ///
    /// # Errors
    /// The same as those of [`coverage`](Self::coverage).
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn page_coverage(
        &self,
        query: impl Into<AuditQuery>,
        page: &Page,
    ) -> Result<Coverage, AuditError> {
        let mut query = query.into();
        query.ledger.get_or_insert_with(|| self.ledger.clone());
        let (from, before) = page.looked_at;
        if let Some(before) = before {
            query.before_seq = Some(query.before_seq.unwrap_or(u64::MAX).min(before));
        }
        if let Some(from) = from {
            query.from_seq = Some(query.from_seq.unwrap_or(0).max(from));
        }
        self.coverage(query, OF_PAGE).await
    }

    async fn ledgers_of(&self, query: &AuditQuery) -> Result<Vec<String>, AuditError> {
        if let Some(ledger) = &query.ledger {
            return Ok(vec![ledger.clone()]);
        }
        let heads = self.store.backend().reads()?.heads(None).await?;
        Ok(heads.into_iter().map(|head| head.ledger).collect())
    }

    async fn ledger_coverage(
        &self,
        query: &AuditQuery,
        found: LedgerCover,
        with_reached: bool,
    ) -> Result<LedgerCoverage, AuditError> {
        let surveys = self.store.backend().surveys()?;
        let ledger = query.ledger.clone().unwrap_or_default();
        let LedgerCover { ends, part, first, gaps, writers, timed, untimely } = found;
        let Part { from, before, least, greatest } = part;
        let tally = compare(surveys, &ledger, (least, greatest, ends.next_seq), first).await?;
        let untimely = self::untimely(surveys, &ledger, timed, Some(untimely)).await?;
        let misdated = if query.committed_since.or(query.committed_before).is_some() {
            misdated(surveys, &ledger, timed).await?
        } else {
            Ranges::default()
        };
        let gaps = self.gaps(query, (from, before), gaps).await?;
        let reached = if with_reached { surveys.reached(&ledger).await? } else { None };
        let head_was = writers.as_ref().and_then(|writers| writers.head_was).max(reached);
        let uncovered = tally.uncovered.without(&tally.holes);
        let declared = |range: &SeqRange| gaps.ranges.iter().any(|gap| range.is_in(gap));
        let of_gaps = |range: &&SeqRange| declared(range);
        let as_declared: u64 = tally.holes.kept.iter().filter(of_gaps).map(SeqRange::numbers).sum();
        let hole = |range: &SeqRange| Hole { range: *range, declared: declared(range) };
        let listed = |ranges: &[SeqRange]| ranges.iter().take(LISTED).copied().collect();
        let compared = SeqRange::new(least, greatest);
        let asked = SeqRange::new(from, before);
        let found = asked.numbers().checked_sub(tally.holes.numbers);
        Ok(LedgerCoverage {
            matching: found.filter(|_| query.takes_all() && asked == compared),
            holes: tally.holes.kept.iter().take(LISTED).map(hole).collect(),
            missing: tally.holes.numbers - as_declared,
            missing_as_declared: as_declared,
            uncovered: listed(&uncovered.kept),
            uncovered_entries: uncovered.numbers,
            faulty_batches: listed(&tally.faulty.kept),
            disorder: listed(&tally.disorder.kept),
            timed: SeqRange::new(timed.0, timed.1),
            untimely: listed(&untimely.kept),
            untimely_entries: untimely.numbers,
            misdated_batches: listed(&misdated.kept),
            outside: (ends.beyond + ends.below + ends.batches_beyond + ends.batches_below).cast_unsigned(),
            declared_gaps: gaps.count,
            declared_losses: gaps.losses,
            quarantined: ends.quarantined.map(i64::cast_unsigned),
            last_committed_at: ends.last_committed_at.map(from_micros),
            greatest_lag_micros: tally.lag,
            head_was: head_was.map(i64::cast_unsigned),
            silent_writers: writers
                .map(|writers| writers.silent.into_iter().map(SilentWriter::from).collect()),
            next_seq: ends.next_seq.max(0).cast_unsigned(),
            asked,
            compared,
            ledger,
        })
    }

    /// The log's own `audit.gap` entries that concern this query and this part of the ledger.
    async fn gaps(
        &self,
        query: &AuditQuery,
        (from, before): (i64, i64),
        found: Vec<LedgerRow>,
    ) -> Result<Gaps, AuditError> {
        let ledger = query.ledger.clone().unwrap_or_default();
        let found = found.into_iter().map(sequenced).filter(SequencedEntry::is_own);
        let found: Vec<Told> = found.map(|entry| Told::by(&entry)).collect();
        // Without a time of its own, a loss lies between the beginning of the writer and the entry.
        let unknown: Vec<Uuid> = found.iter().filter_map(|told| told.writer).collect();
        let began = if unknown.is_empty() {
            Vec::new()
        } else {
            self.store.backend().surveys()?.began(&ledger, &unknown).await?
        };
        let period = period(query);
        let numbers = SeqRange::new(from, before);
        let concerns = |told: &&Told| {
            if !query.has_times() {
                return numbers.from_seq <= told.seq && told.seq < numbers.before_seq;
            }
            let began = || {
                let (_, began) = began.iter().find(|(writer, _)| Some(*writer) == told.writer)?;
                Some(from_micros(*began))
            };
            let first = told.first.or_else(began);
            period.0.is_none_or(|since| told.last >= since)
                && period.1.is_none_or(|until| first.is_none_or(|first| first <= until))
        };
        let mut gaps = Gaps::default();
        for told in &found {
            gaps.ranges.extend(told.range);
        }
        for told in found.iter().filter(concerns) {
            gaps.count += 1;
            gaps.losses = gaps.losses.saturating_add(told.losses);
        }
        Ok(gaps)
    }
}

/// Compares the entries and the batches of a part of a ledger, whose first piece is known.
pub(super) async fn compare(
    surveys: &dyn Surveys,
    ledger: &str,
    (from, before, head): (i64, i64, i64),
    first: Piece,
) -> Result<Tally, AuditError> {
    let (mut tally, mut first) = (Tally::new(from, before, head), Some(first));
    while let Some(part) = tally.next() {
        let piece = match first.take() {
            Some(piece) => piece,
            None => surveys.piece(ledger, part.0, part.1).await?,
        };
        let full = Tally::is_full(part, &piece);
        let seqs = if full { None } else { Some(surveys.seqs(ledger, part.0, part.1).await?) };
        tally.add(part, &piece, seqs.as_deref());
    }
    Ok(tally)
}

/// The entries of a part of a ledger whose `ts` is outside of what their batch says. Those of its first piece may be known.
pub(super) async fn untimely(
    surveys: &dyn Surveys,
    ledger: &str,
    (from, before): (i64, i64),
    mut first: Option<Vec<i64>>,
) -> Result<Ranges, AuditError> {
    let (mut ranges, mut at) = (Ranges::default(), from);
    while at < before && ranges.numbers < u64::from(UNTIMELY) {
        let end = before.min(at.saturating_add(PIECE));
        let mut seqs = match first.take() {
            Some(seqs) => seqs,
            None => surveys.untimely(ledger, at, end, UNTIMELY).await?,
        };
        seqs.sort_unstable();
        for seq in seqs {
            ranges.add(seq, seq.saturating_add(1));
        }
        if end == before {
            break;
        }
        // Whoever has raised the head does not make us look at what lies between.
        let piece = surveys.piece(ledger, end.saturating_sub(1), end).await?;
        let next = [piece.next_entry, piece.next_batch].into_iter().flatten().min();
        at = next.map_or(before, |next| next.max(end));
    }
    Ok(ranges)
}

/// The batches of a part of a ledger whose time of commit cannot be.
pub(super) async fn misdated(
    surveys: &dyn Surveys,
    ledger: &str,
    (from, before): (i64, i64),
) -> Result<Ranges, AuditError> {
    let mut ranges = Ranges::default();
    for first_seq in surveys.misdated(ledger, from, before, UNTIMELY).await? {
        ranges.add(first_seq, first_seq.saturating_add(1));
    }
    Ok(ranges)
}

/// The sentence about a ledger without a head.
pub(super) fn headless_ledger(name: &str) -> String {
    format!(
        "the ledger {name:?} has entries or batches and no row in the table of heads, so that no answer has them"
    )
}

/// The most that is counted one by one, for messages.
pub(super) fn is_counted_to_the_end(count: i64) -> bool {
    count < COUNTED
}

/// Losses that the log has declared.
#[derive(Default)]
struct Gaps {
    count: u64,
    losses: u64,
    /// The numbers that are gone according to the gap entries, whatever the period.
    ranges: Vec<SeqRange>,
}

/// The losses that one `audit.gap` entry declares.
struct Told {
    seq: u64,
    losses: u64,
    /// When the first and the last of the lost entries can have been. The first is not always known.
    first: Option<DateTime<Utc>>,
    last: DateTime<Utc>,
    /// The writer whose entries they were, if its beginning has to say when they can have been.
    writer: Option<Uuid>,
    range: Option<SeqRange>,
}

impl Told {
    fn by(found: &SequencedEntry) -> Self {
        let metadata = &found.entry.metadata;
        let number = |name: &str| metadata.get(name).and_then(serde_json::Value::as_u64);
        let text = |name: &str| metadata.get(name).and_then(serde_json::Value::as_str);
        let time = |name: &str| text(name)?.parse::<DateTime<Utc>>().ok();
        let first = time("from");
        let range = number("from_seq").zip(number("until_seq"));
        Self {
            seq: found.seq,
            losses: number("rejected").or(number("lost")).unwrap_or(0),
            first,
            last: time("until").unwrap_or(found.entry.ts),
            writer: text("queue").and_then(|id| id.parse().ok()).filter(|_| first.is_none()),
            range: range.map(|(from_seq, before_seq)| SeqRange { from_seq, before_seq }),
        }
    }
}

/// The range of time that the query asks for, by `ts` or else by the commit.
fn period(query: &AuditQuery) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
    let until = [query.filter.end_time, query.before].into_iter().flatten().min();
    match (query.filter.start_time, until) {
        (None, None) => (query.committed_since, query.committed_before),
        bounds => bounds,
    }
}
