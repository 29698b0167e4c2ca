//! Reports what an answer covers, in addition to it: one line for people, one JSON object for programs.

use std::io::{self, IsTerminal};

use serde::Serialize;
use tracing_audit::{
    AuditQuery, AuditReader,
    reader::{Coverage, Ledger, LedgerCoverage},
};

use crate::{
    failure::Failure,
    input::Log,
    output::{harmless, say, to_json, write_line},
};

/// The most numbers that are compared for an answer of `query` or `stats`: a tenth of a second.
const AT_MOST: u64 = 1_000_000;

/// The most entries beside a page whose times are held against what their batches say: a millisecond or two.
const BESIDE_PAGE: u64 = 10_000;

/// The facts that are reported with an answer.
#[derive(Default, Serialize)]
pub(crate) struct Covered {
    /// The number of entries that the answer has, if they are shown one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    shown: Option<u64>,
    /// The number of entries that match, if more match than are shown and it is cheap to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    matching: Option<u64>,
    /// Whether more match than are shown.
    more: bool,
    /// The option that shows the next ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// The part of the question that finds nothing, if the answer is empty and that is cheap to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    nothing: Option<String>,
    ledgers: Vec<OfLedger>,
    altered: Vec<String>,
}

#[derive(Serialize)]
struct OfLedger {
    #[serde(skip_serializing_if = "Option::is_none")]
    db: Option<String>,
    /// The entries that matched at least, if that is known: those of the ledger when it was opened.
    #[serde(skip)]
    at_least: Option<u64>,
    /// Whether it is known why entries are missing.
    #[serde(skip)]
    is_part: bool,
    #[serde(flatten)]
    coverage: LedgerCoverage,
}

impl Covered {
    /// The coverage of the answer to this query. The answer is complete; an entry that was committed meanwhile may be
    /// in it or not.
    pub(crate) async fn by(logs: &[Log], query: &AuditQuery) -> Result<Self, Failure> {
        let mut covered = Self::default();
        for log in logs {
            covered.add(log, logs, log.reader.coverage(query, AT_MOST).await?);
        }
        Ok(covered)
    }

    /// As [`by`](Self::by), for an answer of some entries: it is to be there at once.
    pub(crate) async fn by_page(logs: &[Log], query: &AuditQuery) -> Result<Self, Failure> {
        let mut covered = Self::default();
        for log in logs {
            covered.add(log, logs, log.reader.coverage_with(query, AT_MOST, BESIDE_PAGE).await?);
        }
        Ok(covered)
    }

    /// The coverage of the answer to this query, of one log, however many entries there are.
    pub(crate) async fn wholly(log: &Log, query: &AuditQuery) -> Result<Self, Failure> {
        let mut covered = Self::default();
        covered.add(log, &[], log.reader.coverage(query, u64::MAX).await?);
        Ok(covered)
    }

    pub(crate) fn add(&mut self, log: &Log, logs: &[Log], coverage: Coverage) {
        let db = log.db(logs).map(str::to_owned);
        let altered = |message: String| db.iter().cloned().chain([message]).collect::<Vec<_>>().join(": ");
        self.altered.extend(coverage.altered.into_iter().map(altered));
        for coverage in coverage.ledgers {
            let opened = log.ledgers.iter().find(|ledger| ledger.name == coverage.ledger);
            let at_least = coverage.matching.zip(opened).map(|(matching, opened)| {
                let since = coverage.asked.before_seq.saturating_sub(opened.next_seq);
                matching.saturating_sub(since)
            });
            self.ledgers.push(OfLedger { db: db.clone(), at_least, is_part: log.is_part, coverage });
        }
    }

    /// Adds what another answer covers.
    pub(crate) fn and(&mut self, other: Self) {
        for one in other.ledgers {
            // Both may have looked at the same.
            if !self.ledgers.iter().any(|known| known.db == one.db && known.coverage == one.coverage) {
                self.ledgers.push(one);
            }
        }
        self.altered
            .extend(other.altered.into_iter().filter(|one| !self.altered.contains(one)).collect::<Vec<_>>());
    }

    /// Says how many entries are shown.
    pub(crate) fn shows(self, shown: u64) -> Self {
        Self { shown: Some(shown), ..self }
    }

    /// Says that more match than are shown: how many in all, if that is known, and the option that shows the next ones.
    pub(crate) fn of_more(self, matching: Option<u64>, next: Option<String>) -> Self {
        Self { matching, more: true, next, ..self }
    }

    /// Says why the answer is empty.
    pub(crate) fn because(self, nothing: Option<String>) -> Self {
        Self { nothing, ..self }
    }

    /// Says how many entries are shown, of all that match.
    pub(crate) fn shows_all(self, shown: u64) -> Self {
        self.shows(shown).has_at_least(shown, "found")
    }

    /// Compares the number of all entries that were counted with the heads of the ledgers.
    pub(crate) fn counts(self, entries: u64) -> Self {
        let mut covered = self.has_at_least(entries, "counted");
        let at_most = sum(covered.ledgers.iter().map(|ledger| ledger.coverage.matching));
        if let Some(at_most) = at_most.filter(|at_most| *at_most < entries) {
            let message =
                format!("{at_most} entries match and {entries} were counted: the database is damaged");
            covered.altered.push(message);
        }
        covered
    }

    fn has_at_least(mut self, found: u64, how: &str) -> Self {
        let at_least = sum(self.ledgers.iter().map(|ledger| ledger.at_least));
        if let Some(at_least) = at_least.filter(|at_least| *at_least > found) {
            let message = format!("{at_least} entries match and {found} were {how}: the database is damaged");
            self.altered.push(message);
        }
        self
    }

    /// Tells it on standard error: after a table in words, to a person at a terminal, and to everybody that more match than
    /// are shown; beside all other formats as one JSON object. An answer that may lack entries is a failure.
    pub(crate) fn tell(self, table: bool) -> Result<(), Failure> {
        if !table {
            #[derive(Serialize)]
            struct Told<'a> {
                coverage: &'a Covered,
            }
            write_line(&to_json(&Told { coverage: &self })?);
        } else if self.more || io::stderr().is_terminal() {
            say(&harmless(&self.in_words()));
        }
        self.verdict()
    }

    /// A failure, if the answer may lack entries.
    pub(crate) fn verdict(&self) -> Result<(), Failure> {
        let lacking = self.ledgers.iter().filter(|ledger| !ledger.is_part && ledger.coverage.lacks());
        let found: Vec<_> = self.altered.iter().cloned().chain(lacking.map(OfLedger::in_words)).collect();
        if found.is_empty() {
            return Ok(());
        }
        Err(Failure::Lacking(format!(
            "the answer may lack entries: {}; tracing-audit check looks at all of it",
            found.join("; ")
        )))
    }

    fn in_words(&self) -> String {
        let shown = match (self.shown, self.matching) {
            (Some(shown), Some(matching)) if self.more => Some(format!("{shown} of {matching}")),
            (Some(shown), _) if self.more => Some(format!("{shown} of more")),
            (Some(shown), _) => Some(shown.to_string()),
            (None, _) => None,
        };
        let shown = match (shown, &self.nothing) {
            (Some(shown), Some(nothing)) => Some(format!("{shown}: {nothing}")),
            (shown, _) => shown,
        };
        let next = self.next.as_ref().map(|next| format!("next: {next}"));
        let ledgers = self.ledgers.iter().map(OfLedger::in_words);
        shown.into_iter().chain(next).chain(ledgers).collect::<Vec<_>>().join("; ")
    }
}

impl OfLedger {
    fn in_words(&self) -> String {
        let Self { db, coverage, .. } = self;
        let db = db.as_ref().map(|db| [db, "/"].concat()).unwrap_or_default();
        format!("{db}{}: {coverage}", coverage.ledger)
    }
}

/// The coverage of an export: of each ledger its part up to the `seq` where the export ended.
pub(crate) async fn of_export(
    reader: &AuditReader,
    query: &AuditQuery,
    ledgers: &[(String, u64)],
) -> Result<Coverage, Failure> {
    // Nothing of any ledger, for what concerns all of them.
    let mut whole = reader.coverage(query.clone().before_seq(0), 0).await?;
    whole.ledgers.clear();
    for (ledger, end) in ledgers {
        let one = reader.coverage(query.clone().ledger(ledger).before_seq(*end), u64::MAX).await?;
        whole.ledgers.extend(one.ledgers);
    }
    Ok(whole)
}

/// A failure, if an export may lack entries: one of this many rows, or one that has ended early.
pub(crate) fn verdict_of_export(coverage: &Coverage, rows: Option<u64>, log: &Log) -> Result<(), Failure> {
    let mut covered = Covered::default();
    covered.altered.clone_from(&coverage.altered);
    for one in &coverage.ledgers {
        let at_least = one.matching;
        covered.ledgers.push(OfLedger { db: None, at_least, is_part: log.is_part, coverage: one.clone() });
    }
    match rows {
        Some(rows) => covered.shows_all(rows).verdict(),
        None => covered.verdict(),
    }
}

/// The sum of numbers that are all known.
fn sum(mut numbers: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    numbers.try_fold(0, |sum: u64, number| Some(sum.saturating_add(number?)))
}

/// How many entries match, if it is cheap to know: of logs that have not many.
pub(crate) async fn matching(logs: &[Log], query: &AuditQuery) -> Result<Option<u64>, Failure> {
    let entries = logs.iter().flat_map(|log| &log.ledgers).map(|ledger: &Ledger| ledger.next_seq);
    // Somebody may have raised the heads.
    if entries.fold(0, u64::saturating_add) > AT_MOST {
        return Ok(None);
    }
    let mut matching = 0;
    for log in logs {
        // It is no read of its own: the record of reads has the query.
        matching += log.unrecorded().count(query).await?;
    }
    Ok(Some(matching))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of entries of each ledger when it was opened, and later, if that is known.
    fn covered(ledgers: &[(u64, Option<u64>)]) -> Covered {
        let of = |(opened, matching): &(u64, Option<u64>)| {
            let mut coverage = LedgerCoverage::default();
            coverage.matching = *matching;
            OfLedger { db: None, at_least: matching.map(|_| *opened), is_part: false, coverage }
        };
        Covered { ledgers: ledgers.iter().map(of).collect(), ..Covered::default() }
    }

    #[test]
    fn a_sum_that_differs_from_the_heads_of_the_ledgers_is_said() {
        // Entries may have been committed while they were counted.
        for (ledgers, entries) in [
            (&[(13, Some(13))][..], 13),
            (&[(13, Some(15))], 13),
            (&[(13, Some(15))], 15),
            (&[(13, Some(13)), (2, Some(3))], 16),
            (&[(13, Some(13)), (2, None)], 4),
            (&[], 0),
        ] {
            assert!(covered(ledgers).counts(entries).verdict().is_ok(), "{ledgers:?} {entries}");
        }
        for (ledgers, entries, says) in [
            (&[(13, Some(13))][..], 12, "13 entries match and 12 were counted"),
            (&[(13, Some(15))], 16, "15 entries match and 16 were counted"),
            (&[(13, Some(13)), (2, Some(2))], 14, "15 entries match and 14 were counted"),
        ] {
            match covered(ledgers).counts(entries).verdict() {
                Ok(()) => panic!("{ledgers:?} {entries}"),
                Err(failure) => {
                    assert!(failure.code() == 5 && failure.message().contains(says), "{}", failure.message());
                }
            }
        }
    }
}
