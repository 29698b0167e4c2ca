//! The command `queue`: lists the journals in a queue directory.

use std::path::PathBuf;

use clap::Args;
use tracing_audit::journal::{Journal, inspect};

use crate::{
    failure::Failure,
    output::{Cells, harmless, print_table},
};

#[derive(Args)]
pub(crate) struct Queue {
    /// The queue directory; for the SQLite file `audit.db` it is `audit.db.queue`.
    directory: PathBuf,
}

impl Queue {
    pub(crate) fn run(self) -> Result<(), Failure> {
        print_journals(&inspect(&self.directory)?)
    }
}

fn print_journals(journals: &[Journal]) -> Result<(), Failure> {
    let row = |journal: &Journal| {
        let records: u64 = journal.segments.iter().map(|segment| segment.records).sum();
        let unknown = |text: &Option<String>| harmless(text.as_deref().unwrap_or("unknown")).into_owned();
        vec![
            journal.writer.to_string(),
            journal.owner.map_or_else(|| "unknown".to_owned(), |owner| owner.to_string()),
            if journal.locked { "in use" } else { "left behind" }.to_owned(),
            records.to_string(),
            unknown(&journal.ledger),
            unknown(&journal.database),
        ]
    };
    let columns = [
        ("journal", Cells::Whole),
        ("process", Cells::Whole),
        ("", Cells::Whole),
        ("records", Cells::Whole),
        ("ledger", Cells::Cut),
        ("database", Cells::Cut),
    ];
    print_table(&columns, &journals.iter().map(row).collect::<Vec<_>>())
}
