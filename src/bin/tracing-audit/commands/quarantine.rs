//! Quarantined entries.

use chrono_tz::Tz;
use clap::Subcommand;
use tracing_audit::{Migrate, QuarantinedEntry};

use crate::{
    failure::Failure,
    input::{Database, one_of},
    output::{self, Cells, Out, harmless, table, time},
};

#[derive(Subcommand)]
pub(crate) enum Action {
    /// A line for each entry.
    List,
    /// All of it as JSON Lines.
    Export,
    /// Tries to add each entry to its ledger again.
    Retry {
        /// The ledger. Default: the only one.
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
                show(&found)
            }
            Self::Export => {
                let (reader, _) = database.open_one().await?;
                output::not_to_a_terminal()?;
                reader.export_quarantined(Out::default()).await?;
                Ok(())
            }
            Self::Retry { ledger } => {
                let (_, ledgers) = database.open_one().await?;
                let ledger = one_of(ledger.as_ref(), &ledgers)?;
                let log = database.open_log(&ledger, Migrate::Check).await?;
                let readmitted = log.writer().retry_quarantined().await?;
                output::line(&format!(
                    "{} committed, {} refused again",
                    readmitted.committed, readmitted.refused
                ))
            }
        }
    }
}

fn show(entries: &[QuarantinedEntry]) -> Result<(), Failure> {
    let row = |one: &QuarantinedEntry| {
        let action = one.entry.as_ref().map_or("(unreadable)", |entry| &entry.action);
        let id = one.id.map(|id| id.to_string()).unwrap_or_default();
        vec![
            time(one.quarantined_at, Tz::UTC),
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
    table(&columns, &entries.iter().map(row).collect::<Vec<_>>())
}
