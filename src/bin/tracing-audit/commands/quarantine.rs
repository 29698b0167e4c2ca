//! The command `quarantine`: lists, exports and retries entries that the database refused.

use clap::Subcommand;
use tracing_audit::{migrate::Migrate, reader::QuarantinedEntry};

use crate::{
    failure::Failure,
    input::{Database, end_log, one_of},
    output::{self, Cells, Format, FromDatabase, Stdout, harmless, print_table_as, sentence, shown_time},
    zone::Zone,
};

#[derive(Subcommand)]
pub(crate) enum Action {
    /// List the quarantined entries and the errors that the database gave.
    List {
        /// The output format [default: a table on a terminal, JSON Lines elsewhere].
        #[arg(short = 'o', long, value_enum)]
        format: Option<Format>,
    },
    /// Write the quarantined entries as JSON Lines, in full.
    Export,
    /// Try to add each quarantined entry to its ledger again, once the cause has been removed.
    Retry {
        /// The ledger [default: the only one].
        #[arg(long)]
        ledger: Option<String>,
        /// The output format [default: a line for people on a terminal, JSON Lines elsewhere].
        #[arg(short = 'o', long, value_enum)]
        format: Option<Format>,
    },
}

impl Action {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        database.refuse_exported()?;
        match self {
            Self::List { format } => {
                let (logs, mut found) = (database.open().await?, Vec::new());
                for log in &logs {
                    let entries = log.reader.quarantined().await?;
                    found.extend(entries.into_iter().map(|entry| (log.db(&logs), entry)));
                }
                print_entries(&found, format)
            }
            Self::Export => {
                let reader = database.open_one().await?.reader;
                output::refuse_terminal()?;
                reader.export_quarantined(Stdout::default()).await?;
                Ok(())
            }
            Self::Retry { ledger, format } => {
                let ledgers = database.open_one().await?.ledgers;
                let ledger = one_of(ledger.as_ref(), &ledgers)?;
                let log = database.open_log(&ledger, Migrate::Check).await?;
                let readmitted = log.writer().retry_quarantined().await?;
                end_log(&log).await?;
                let (committed, refused) = (readmitted.committed, readmitted.refused);
                if Format::is_table(format) {
                    output::print_line(&format!("{committed} committed, {refused} refused again"))
                } else {
                    output::print_json(&serde_json::json!({ "committed": committed, "refused": refused }))
                }
            }
        }
    }
}

fn print_entries(
    entries: &[(Option<&str>, QuarantinedEntry)],
    format: Option<Format>,
) -> Result<(), Failure> {
    if !Format::is_table(format) {
        return entries
            .iter()
            .try_for_each(|(db, found)| output::print_json(&FromDatabase { db: *db, found }));
    }
    if entries.is_empty() {
        output::tell_person("no entry is in quarantine");
    }
    let row = |(db, one): &(Option<&str>, QuarantinedEntry)| {
        let action = one.entry.as_ref().map_or("(unreadable)", |entry| &entry.action);
        vec![
            harmless(db.unwrap_or_default()).into_owned(),
            shown_time(one.quarantined_at, Zone::Utc),
            one.id.map(|id| id.to_string()).unwrap_or_default(),
            harmless(action).into_owned(),
            sentence(&one.error).into_owned(),
        ]
    };
    let columns = [
        ("database", Cells::Cut),
        ("quarantined", Cells::Whole),
        ("id", Cells::Whole),
        ("action", Cells::Cut),
        ("error", Cells::Text),
    ];
    print_table_as(format, &columns, &entries.iter().map(row).collect::<Vec<_>>())
}
