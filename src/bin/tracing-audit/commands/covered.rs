//! Tells what an answer covers, beside it: one line for people, one JSON object for programs.

use std::io::{self, IsTerminal};

use serde::Serialize;
use tracing_audit::{
    AuditQuery, AuditReader,
    reader::{Coverage, Ledger, LedgerCoverage},
};

use crate::{
    failure::Failure,
    input::Log,
    output::{harmless, to_json},
};

/// The most numbers that are compared for an answer of `query` or `stats`: a tenth of a second.
const AT_MOST: u64 = 1_000_000;

/// What is told beside an answer.
#[derive(Default, Serialize)]
pub(crate) struct Covered {
    /// How many entries the answer has, if they are shown one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    shown: Option<u64>,
    /// How many match, if more match than are shown and it is cheap to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    matching: Option<u64>,
    /// Whether more match than are shown.
    more: bool,
    /// The option that shows the next ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
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
    /// Whether it is known why entries are not there.
    #[serde(skip)]
    is_part: bool,
    #[serde(flatten)]
    coverage: LedgerCoverage,
}

impl Covered {
    /// What the answer to this query covers. The answer is complete: what was committed meanwhile may be in it or not.
    pub(crate) async fn by(logs: &[Log], query: &AuditQuery) -> Result<Self, Failure> {
        let mut covered = Self::default();
        for log in logs {
            covered.add(log, logs, log.reader.coverage(query, AT_MOST).await?);
        }
        Ok(covered)
    }

    /// What the answer to this query covers, of one log, however many entries there are.
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
        self.ledgers.extend(other.ledgers);
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

    /// Says how many entries are shown, of all that match.
    pub(crate) fn shows_all(self, shown: u64) -> Self {
        let mut covered = self.shows(shown);
        let at_least: Option<u64> = covered.ledgers.iter().map(|ledger| ledger.at_least).sum();
        if let Some(at_least) = at_least.filter(|at_least| *at_least > shown) {
            let message = format!("{at_least} entries match and {shown} were found: the database is damaged");
            covered.altered.push(message);
        }
        covered
    }

    /// Tells it on standard error: after a table in words, to a person at a terminal; beside all other formats as one
    /// JSON object. An answer that may lack entries is a failure.
    pub(crate) fn tell(self, table: bool) -> Result<(), Failure> {
        if !table {
            #[derive(Serialize)]
            struct Told<'a> {
                coverage: &'a Covered,
            }
            anstream::eprintln!("{}", to_json(&Told { coverage: &self })?);
        } else if io::stderr().is_terminal() {
            anstream::eprintln!("{}", harmless(&self.in_words()));
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

/// What an export covers: of each ledger its part up to the `seq` where the export ended.
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

/// A failure, if an export of this many rows may lack entries.
pub(crate) fn verdict_of_export(coverage: &Coverage, rows: u64, log: &Log) -> Result<(), Failure> {
    let mut covered = Covered::default();
    covered.altered.clone_from(&coverage.altered);
    for one in &coverage.ledgers {
        let at_least = one.matching;
        covered.ledgers.push(OfLedger { db: None, at_least, is_part: log.is_part, coverage: one.clone() });
    }
    covered.shows_all(rows).verdict()
}

/// How many entries match, if it is cheap to know: of logs that have not many.
pub(crate) async fn matching(logs: &[Log], query: &AuditQuery) -> Result<Option<u64>, Failure> {
    let entries = |log: &Log| log.ledgers.iter().map(|ledger: &Ledger| ledger.next_seq).sum::<u64>();
    if logs.iter().map(entries).sum::<u64>() > AT_MOST {
        return Ok(None);
    }
    let mut matching = 0;
    for log in logs {
        // It is no read of its own: the record of reads has the query.
        matching += log.unrecorded().count(query).await?;
    }
    Ok(Some(matching))
}
