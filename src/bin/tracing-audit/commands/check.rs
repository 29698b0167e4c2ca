//! The command `check`: compares entries, batches, heads and tables with each other and with what they should be.

use clap::Args;
use serde::Serialize;
use tracing_audit::{
    AuditError,
    reader::{Finding, FindingKind},
};

use crate::{
    failure::Failure,
    input::{Database, Log},
    output::{self, Format, FromDatabase},
};

#[derive(Args)]
pub(crate) struct Check {
    /// The output format [default: lines for people on a terminal, JSON Lines elsewhere].
    #[arg(short = 'o', long, value_enum)]
    format: Option<Format>,
}

/// The last line: the extent of the check.
#[derive(Serialize)]
struct Ended<'a> {
    checked: &'a tracing_audit::reader::Checked,
}

impl Check {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        let table = Format::is_table(self.format);
        let logs = match database.open().await {
            // An object in the place of a table is a finding, and no ledger is read through it.
            Err(Failure::Audit(error)) if error.is_altered() => vec![unread(database, error)?],
            opened => opened?,
        };
        let mut findings = 0;
        for log in &logs {
            let db = log.db(&logs);
            let (is_part, mut passed, mut printed) = (log.is_part, 0, Ok(()));
            let tell = |found: Finding| {
                // The manifest of an exported file says that the other entries were not asked for.
                if is_part && found.kind == FindingKind::Missing {
                    passed += 1;
                    return;
                }
                if printed.is_err() {
                    return;
                }
                printed = if table {
                    let db = db.map(|db| [db, ": "].concat()).unwrap_or_default();
                    output::print_wrapped(&output::harmless(&[&db, &*found.message].concat()))
                } else {
                    output::print_json(&FromDatabase { db, found: &found })
                };
            };
            let mut checked = log.reader.check(tell).await?;
            printed?;
            checked.findings = checked.findings.saturating_sub(passed);
            findings += checked.findings;
            if table {
                let (name, entries) =
                    (output::harmless(&log.name), counted(checked.entries, "entry", "entries"));
                let batches = counted(checked.batches, "batch", "batches");
                let ledgers = counted(checked.ledgers, "ledger", "ledgers");
                let found = match checked.findings {
                    0 => "nothing found".to_owned(),
                    count => counted(count, "finding", "findings"),
                };
                output::print_wrapped(&format!(
                    "{name}: {entries} in {batches} of {ledgers} checked: {found}"
                ))?;
            } else {
                output::print_json(&FromDatabase { db, found: &Ended { checked: &checked } })?;
            }
        }
        match findings {
            0 => Ok(()),
            count => {
                let findings = counted(count, "finding", "findings");
                Err(Failure::Found(format!("the log is not as it was written: {findings}")))
            }
        }
    }
}

/// The database whose tables cannot be read, if it is the only one.
fn unread(database: &Database, error: AuditError) -> Result<Log, Failure> {
    if database.one().is_err() {
        return Err(error.into());
    }
    let (name, reader) = ("the database".to_owned(), database.reader()?);
    Ok(Log { name, store: None, is_part: false, reader, ledgers: Vec::new() })
}

/// The number, with the word for one or for several.
fn counted(count: u64, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}
