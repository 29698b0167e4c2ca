//! The command `quarantine`: lists, exports and retries entries that the database refused.

use chrono_tz::Tz;
use clap::Subcommand;
use tracing_audit::{migrate::Migrate, reader::QuarantinedEntry};

use crate::{
    failure::Failure,
    input::{Database, one_of},
    output::{self, Cells, Stdout, harmless, print_table, shown_time},
};

#[derive(Subcommand)]
pub(crate) enum Action {
    /// List the quarantined entries and the errors that the database gave.
    List,
    /// Write the quarantined entries as JSON Lines, in full.
    Export,
    /// Try to add each quarantined entry to its ledger again, once the cause has been removed.
    Retry {
        /// The ledger [default: the only one].
        #[arg(long)]
        ledger: Option<String>,
    },
}

impl Action {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        match self {
            Self::List => {
                let mut found = Vec::new();
                for log in database.open().await? {
                    found.extend(log.reader.quarantined().await?);
                }
                print_entries(&found)
            }
            Self::Export => {
                let reader = database.open_one().await?.reader;
                output::refuse_terminal()?;
                reader.export_quarantined(Stdout::default()).await?;
                Ok(())
            }
            Self::Retry { ledger } => {
                let ledgers = database.open_one().await?.ledgers;
                let ledger = one_of(ledger.as_ref(), &ledgers)?;
                let log = database.open_log(&ledger, Migrate::Check).await?;
                let readmitted = log.writer().retry_quarantined().await?;
                output::print_line(&format!(
                    "{} committed, {} refused again",
                    readmitted.committed, readmitted.refused
                ))
            }
        }
    }
}

fn print_entries(entries: &[QuarantinedEntry]) -> Result<(), Failure> {
    let row = |one: &QuarantinedEntry| {
        let action = one.entry.as_ref().map_or("(unreadable)", |entry| &entry.action);
        let id = one.id.map(|id| id.to_string()).unwrap_or_default();
        vec![
            shown_time(one.quarantined_at, Tz::UTC),
            id,
            harmless(action).into_owned(),
            harmless(&one.error).into_owned(),
        ]
    };
    if entries.is_empty() {
        return Ok(());
    }
    let columns =
        [("quarantined", Cells::Whole), ("id", Cells::Whole), ("action", Cells::Cut), ("error", Cells::Cut)];
    print_table(&columns, &entries.iter().map(row).collect::<Vec<_>>())
}
