//! `Coverage`: the part of the ledgers that an answer has looked at, and the entries that are missing there.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::tally::SeqRange;
use crate::entry::from_micros;
use crate::store::SilentRow;

/// The coverage of an answer: which part of each ledger was looked at for it, and which entries are missing there. See
/// [`AuditReader::coverage`](crate::AuditReader::coverage).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Coverage {
    /// The part of each ledger that was looked at.
    pub ledgers: Vec<LedgerCoverage>,
    /// The reasons why the tables may not show all that was written, each as a sentence: a view in the place of a
    /// table, for instance.
    pub altered: Vec<String>,
}

/// The part of one ledger that was looked at, and the entries that are missing there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LedgerCoverage {
    /// The ledger.
    pub ledger: String,
    /// The part of the ledger that can hold matches of the query, by its bounds in `seq` and time.
    pub asked: SeqRange,
    /// The part of it whose entries and batches were compared: all of it, unless it has more numbers than were allowed.
    pub compared: SeqRange,
    /// The `seq` of the next entry of the ledger, its head.
    pub next_seq: u64,
    /// The numbers in the compared part that no entry has, at most 100 ranges. They are the holes in `seq`, which is
    /// contiguous in a ledger that nobody has changed.
    pub holes: Vec<Hole>,
    /// The count of numbers in the compared part that no entry has, and that no `audit.gap` entry of the log declares.
    pub missing: u64,
    /// The count of numbers in the compared part that no entry has, and that an `audit.gap` entry of the log declares.
    pub missing_as_declared: u64,
    /// The entries in the compared part that no batch holds, at most 100 ranges. Queries by time, and in the order of
    /// time, do not find them.
    pub uncovered: Vec<SeqRange>,
    /// The number of entries that no batch holds.
    pub uncovered_entries: u64,
    /// The first `seq` of batches that are empty, repeat the entries of another one, or reach beyond the head; at most
    /// 100 ranges.
    pub faulty_batches: Vec<SeqRange>,
    /// Entries that the database gives twice or not in their order: its file is damaged. At most 100 ranges.
    pub disorder: Vec<SeqRange>,
    /// The numbers whose `ts` was compared with what their batches say: those that were compared, and for a query by time others
    /// around them. Empty for a page in the order of `seq`.
    #[serde(default)]
    pub timed: SeqRange,
    /// The entries in this part whose `ts` is outside of what their batch says, at most 100 ranges: the time of the entry or of the
    /// batch was changed. Queries by time, and in the order of time, may miss them.
    #[serde(default)]
    pub untimely: Vec<SeqRange>,
    /// How many such entries there are. Some 10 000 are counted.
    #[serde(default)]
    pub untimely_entries: u64,
    /// For a query by the time of the commit: the first `seq` of batches in this part that were committed more than a minute before
    /// the one before them or before their writer began, or more than an hour from now; at most 100 ranges.
    #[serde(default)]
    pub misdated_batches: Vec<SeqRange>,
    /// The number of entries with a `seq` that the ledger cannot have given out, beyond its head or negative, and of batches
    /// beyond its head or before 0. At most 10 000 of each are counted.
    pub outside: u64,
    /// The `seq` of the next entry after the last commit, if the head names a lesser one now: the head was lowered,
    /// perhaps with all that it counted. The head itself remembers it, and, except for the coverage of a page, so do
    /// the writers' rows and the size of the tree.
    pub head_was: Option<u64>,
    /// The number of the log's own `audit.gap` entries that declare losses in the query's range of time, or, without
    /// one, stand in its range of `seq`. If there are more than 1000 in the ledger, or more than 100 for a page, the
    /// latest are looked at.
    pub declared_gaps: u64,
    /// The number of entries that are lost according to them.
    pub declared_losses: u64,
    /// The number of entries in quarantine, whenever they were put there. At most 10 000 are counted. `None` if the role
    /// may not read them.
    pub quarantined: Option<u64>,
    /// The time of the latest commit to the ledger, by its writer's clock.
    pub last_committed_at: Option<DateTime<Utc>>,
    /// The greatest time between an entry's `ts` and its commit in the compared part, in microseconds. `None` without
    /// batches.
    pub greatest_lag_micros: Option<i64>,
    /// The writers that have not ended, had accepted entries that are not committed when they said how far they are, and have not
    /// said so for ten seconds: whatever the query asks for. At most 20, those that began first. A log that was killed is
    /// one of them until the next one adopts its queue. `None` if the tables are of a version before 3, or the role may not
    /// read them.
    pub silent_writers: Option<Vec<SilentWriter>>,
    /// The number of entries that match, if it is known without another count: the query has no condition but its ranges
    /// of `seq`, and all of them were compared.
    pub matching: Option<u64>,
}

/// Numbers that no entry has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Hole {
    /// The numbers.
    #[serde(flatten)]
    pub range: SeqRange,
    /// Whether an `audit.gap` entry of the log declares that these entries are gone.
    pub declared: bool,
}

/// A writer that has accepted entries which are not committed, and says nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SilentWriter {
    /// Its id: one for each log that was opened.
    pub writer: Uuid,
    /// The host on which it ran, if it is known.
    pub host: Option<String>,
    /// When it began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it said last that it was there.
    pub said_at: Option<DateTime<Utc>>,
}

impl From<SilentRow> for SilentWriter {
    fn from(row: SilentRow) -> Self {
        Self {
            writer: row.writer,
            host: row.host,
            started_at: row.started_at.map(from_micros),
            said_at: row.said_at.map(from_micros),
        }
    }
}

impl LedgerCoverage {
    /// Whether an answer may lack entries, or have some that the ledger did not give: there are holes that no entry
    /// declares, entries without a batch, batches, numbers or times that cannot be, or entries outside of the ledger.
    #[must_use]
    pub fn lacks(&self) -> bool {
        let Self { missing, uncovered_entries, outside, faulty_batches, disorder, .. } = self;
        [missing, uncovered_entries, outside, &self.untimely_entries].iter().any(|count| **count > 0)
            || self.head_was.is_some()
            || !self.misdated_batches.is_empty()
            || !faulty_batches.is_empty()
            || !disorder.is_empty()
    }

    /// Whether all that can hold matches was compared.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.asked == self.compared
    }
}

impl Coverage {
    /// Whether an answer may lack entries: [`LedgerCoverage::lacks`] of any ledger, or an altered table.
    #[must_use]
    pub fn lacks(&self) -> bool {
        !self.altered.is_empty() || self.ledgers.iter().any(LedgerCoverage::lacks)
    }

    /// Whether all that can hold matches was compared, in every ledger.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.ledgers.iter().all(LedgerCoverage::is_whole)
    }
}

impl fmt::Display for LedgerCoverage {
    /// One line for people, without the name of the ledger.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.asked.numbers() {
            0 => write!(f, "nothing of {} entries", self.next_seq)?,
            _ => write!(
                f,
                "seq {} to {} of {}",
                self.asked.from_seq,
                self.asked.before_seq - 1,
                self.next_seq
            )?,
        }
        if !self.is_whole() {
            let rest = self.asked.numbers() - self.compared.numbers();
            write!(f, ", {rest} of them not compared with their batches")?;
        }
        self.fmt_findings(f)?;
        for (count, what) in [
            (self.missing_as_declared, "gone as declared by audit.gap"),
            (self.declared_losses, "lost as declared by audit.gap"),
            (self.quarantined.unwrap_or(0), "in quarantine"),
        ] {
            if count > 0 {
                write!(f, "; {count} {what}")?;
            }
        }
        if let Some(last) = self.last_committed_at {
            write!(f, "; last commit {}", last.to_rfc3339_opts(SecondsFormat::Secs, true))?;
        }
        if let Some(lag) = self.greatest_lag_micros.filter(|lag| *lag >= 1_000_000) {
            write!(f, ", at most {} after its event", Lag(lag / 1_000_000))?;
        }
        match self.silent_writers.as_ref().map_or(0, Vec::len) {
            0 => Ok(()),
            1 => f.write_str("; 1 writer silent"),
            silent => write!(f, "; {silent} writers silent"),
        }
    }
}

impl LedgerCoverage {
    fn fmt_findings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let undeclared = self.holes.iter().filter(|hole| !hole.declared).map(|hole| hole.range);
        for (count, what, ranges) in [
            (self.missing, "missing", undeclared.collect()),
            (self.uncovered_entries, "in no batch", self.uncovered.clone()),
            (self.faulty_batches.len() as u64, "batches at fault", self.faulty_batches.clone()),
            (self.disorder.len() as u64, "twice or out of order", self.disorder.clone()),
            (self.untimely_entries, "with a time outside of their batch", self.untimely.clone()),
            (
                self.misdated_batches.iter().map(SeqRange::numbers).sum::<u64>(),
                "batches with a time of commit that cannot be",
                self.misdated_batches.clone(),
            ),
            (self.outside, "outside of the ledger", Vec::new()),
        ] {
            if count > 0 {
                write!(f, "; {count} {what}{}", Shown(&ranges))?;
            }
        }
        match self.head_was {
            Some(was) => {
                write!(f, "; the ledger ended at {was} before its head was lowered to {}", self.next_seq)
            }
            None => Ok(()),
        }
    }
}

/// Seconds, in a unit of which there are not too many.
struct Lag(i64);

impl fmt::Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds @ ..120 => write!(f, "{seconds} s"),
            seconds @ ..7200 => write!(f, "{} min", seconds / 60),
            seconds @ ..172_800 => write!(f, "{} h", seconds / 3600),
            seconds => write!(f, "{} days", seconds / 86_400),
        }
    }
}

/// The first ranges, in parentheses.
struct Shown<'a>(&'a [SeqRange]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        for (index, range) in self.0.iter().take(SHOWN).enumerate() {
            f.write_str(if index == 0 { " (seq " } else { ", " })?;
            match range.numbers() {
                1 => write!(f, "{}", range.from_seq)?,
                _ => write!(f, "{} to {}", range.from_seq, range.before_seq - 1)?,
            }
        }
        match self.0.len() {
            0 => Ok(()),
            len if len > SHOWN => f.write_str(", ...)"),
            _ => f.write_str(")"),
        }
    }
}
