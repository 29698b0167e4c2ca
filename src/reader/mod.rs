//! Answers for people's code: entries, pages, counts, and the record of who read the log.
//!
//! | file | what it does |
//! |---|---|
//! | `audit_reader` | `AuditReader`: query, count, page |
//! | `page` | pages, and the cursors between them |
//! | `pieces` | the matches of one ledger, piece by piece |
//! | `follow` | entries in the order of commit: get, stream, follow |
//! | `periods` | the ledgers of all periods as one |
//! | `follow_periods` | new entries of all periods, as they are committed |
//! | `counts` | counts, ledgers |
//! | `coverage` | `Coverage`: what an answer has looked at, and what is missing there |
//! | `survey` | surveys the part of each ledger that can hold matches, for a coverage |
//! | `check` | checks a whole log, and names each finding |
//! | `tally` | compares entries and batches piece by piece |
//! | `quarantine` | lists and exports quarantined entries |
//! | `recording` | a read in progress, to be recorded |
//! | `recorded_reads` | the record of who read the log |
//! | `blocking` | the same calls without an async runtime |
//! | `row` | a row of the ledger as an entry |

mod audit_reader;
pub(crate) mod blocking;
mod check;
mod counts;
mod coverage;
mod follow;
mod follow_periods;
mod page;
mod periods;
mod pieces;
mod quarantine;
mod recorded_reads;
mod recording;
mod survey;
mod tally;

pub use audit_reader::AuditReader;
pub use check::{Checked, Finding, FindingKind};
pub use counts::{Change, CountKey, Counted, CountedBy, Counts, Ledger};
pub use coverage::{Coverage, Hole, LedgerCoverage, SilentWriter};
pub use page::{Cursor, Page};
pub use periods::{PeriodCursor, PeriodPage, PeriodReader};
pub use quarantine::QuarantinedEntry;
pub(crate) use quarantine::output_error;
pub use recorded_reads::RecordedRead;
pub use tally::SeqRange;
