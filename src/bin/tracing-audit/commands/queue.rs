//! The command `queue`: lists the journals in a queue directory.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use tracing_audit::journal::{Journal, inspect};

use crate::{
    failure::Failure,
    output::{Cells, harmless, print_table, remark},
};

#[derive(Args)]
pub(crate) struct Queue {
    /// The queue directory; for the SQLite file `audit.db` it is `audit.db.queue`.
    directory: PathBuf,
}

impl Queue {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let journals = inspect(&self.directory)?;
        print_journals(&journals)?;
        remark_on(&journals);
        Ok(())
    }
}

fn records(journal: &Journal) -> u64 {
    journal.segments.iter().map(|segment| segment.records).sum()
}

/// Says how much journals of dead processes hold for each ledger, and why some are not believed.
fn remark_on(journals: &[Journal]) {
    let mut held: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    for journal in journals.iter().filter(|journal| !journal.locked || journal.adopted) {
        if let (Some(database), Some(ledger)) = (&journal.database, &journal.ledger) {
            let (journals, entries) = held.entry((database, ledger)).or_default();
            *journals += 1;
            *entries += records(journal);
        }
        if let Some(refused) = &journal.refused {
            remark(refused);
        }
    }
    for ((database, ledger), (journals, entries)) in held {
        let (s, verb) = if journals == 1 { ("", "holds") } else { ("s", "hold") };
        remark(&format!(
            "{journals} journal{s} of dead processes {verb} at most {entries} entries that are not committed, for the \
             ledger {ledger} of {database}"
        ));
    }
}

/// Who has the journal.
fn state(journal: &Journal) -> &'static str {
    match (&journal.refused, journal.locked, journal.adopted) {
        (Some(_), ..) => "refused",
        (None, true, true) => "adopted",
        (None, true, false) => "in use",
        (None, false, _) => "left behind",
    }
}

fn print_journals(journals: &[Journal]) -> Result<(), Failure> {
    let row = |journal: &Journal| {
        let unknown = |text: &Option<String>| harmless(text.as_deref().unwrap_or("unknown")).into_owned();
        vec![
            journal.writer.to_string(),
            journal.owner.map_or_else(|| "unknown".to_owned(), |owner| owner.to_string()),
            state(journal).to_owned(),
            records(journal).to_string(),
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
