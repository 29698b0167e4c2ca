//! The command `check`: compares entries, batches, heads and tables with each other and with what they should be.

use clap::Args;
use serde::Serialize;
use tracing_audit::reader::Finding;

use crate::{
    failure::Failure,
    input::Database,
    output::{self, Format, FromDatabase},
};

#[derive(Args)]
pub(crate) struct Check {
    /// The output format [default: lines for people on a terminal, JSON Lines elsewhere].
    #[arg(long, value_enum)]
    format: Option<Format>,
}

/// The last line: the extent of the check.
#[derive(Serialize)]
struct Ended<'a> {
    checked: &'a tracing_audit::reader::Checked,
}

impl Check {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        let table = self.format.map_or_else(output::is_terminal, |format| format == Format::Table);
        let logs = database.open().await?;
        let mut findings = 0;
        for log in &logs {
            let db = log.db(&logs);
            let mut printed = Ok(());
            let tell = |found: Finding| {
                if printed.is_err() {
                    return;
                }
                printed = if table {
                    let db = db.map(|db| [db, ": "].concat()).unwrap_or_default();
                    output::print_line(&output::harmless(&[&db, &*found.message].concat()))
                } else {
                    output::print_json(&FromDatabase { db, found: &found })
                };
            };
            let checked = log.reader.check(tell).await?;
            printed?;
            findings += checked.findings;
            if table {
                output::print_line(&format!(
                    "{}: {} entries in {} batches of {} ledgers checked: {}",
                    output::harmless(&log.name),
                    checked.entries,
                    checked.batches,
                    checked.ledgers,
                    match checked.findings {
                        0 => "nothing found".to_owned(),
                        1 => "1 finding".to_owned(),
                        count => format!("{count} findings"),
                    }
                ))?;
            } else {
                output::print_json(&FromDatabase { db, found: &Ended { checked: &checked } })?;
            }
        }
        match findings {
            0 => Ok(()),
            1 => Err(Failure::Found("the log is not as it was written: 1 finding".to_owned())),
            count => Err(Failure::Found(format!("the log is not as it was written: {count} findings"))),
        }
    }
}
