//! The command `queue`: lists the journals in a queue directory.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Serialize;
use tracing_audit::journal::{Journal, inspect};
use uuid::Uuid;

use crate::{
    failure::Failure,
    output::{Cells, Format, harmless, print_json, print_table_as, remark, tell_person},
};

#[derive(Args)]
pub(crate) struct Queue {
    /// The queue directory; for the SQLite file `audit.db` it is `audit.db.queue`.
    directory: PathBuf,
    /// The output format [default: a table on a terminal, JSON Lines elsewhere].
    #[arg(short = 'o', long, value_enum)]
    format: Option<Format>,
}

/// A journal as JSON.
#[derive(Serialize)]
struct Line<'a> {
    journal: String,
    process: Option<u32>,
    state: &'static str,
    records: u64,
    ledger: Option<&'a str>,
    database: Option<&'a str>,
    directory: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'a str>,
}

impl Queue {
    pub(crate) fn run(self) -> Result<(), Failure> {
        if !self.directory.is_dir() {
            let (path, what) = (self.directory.display(), std::fs::metadata(&self.directory));
            return Err(Failure::Lost(match what {
                Ok(_) => {
                    format!("{path} is no directory; the queue of the SQLite file audit.db is audit.db.queue")
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    format!(
                        "there is no directory {path}; the queue of the SQLite file audit.db is audit.db.queue"
                    )
                }
                Err(error) => format!("cannot read {path}: {error}"),
            }));
        }
        let journals = inspect(&self.directory)?;
        let foreign = foreign_to(&self.directory)
            .map_err(|error| Failure::Lost(format!("cannot read {}: {error}", self.directory.display())))?;
        if let Some(foreign) = foreign {
            return Err(Failure::Lost(format!(
                "{} is no queue: it holds {foreign:?}, and no journal; the queue of the SQLite file audit.db is \
                 audit.db.queue",
                self.directory.display()
            )));
        }
        if Format::is_table(self.format) {
            print_journals(&journals, self.format)?;
        } else {
            journals.iter().try_for_each(|journal| print_json(&line(journal)))?;
        }
        remark_on(&journals);
        Ok(())
    }
}

/// A name that belongs to no queue, if the directory holds only such names. An empty directory may be a queue.
fn foreign_to(directory: &Path) -> io::Result<Option<String>> {
    let mut foreign = None;
    for found in std::fs::read_dir(directory)? {
        let name = found?.file_name().to_string_lossy().into_owned();
        // A journal has the name of its writer, also while it is being made.
        let is_journal = name.get(..36).is_some_and(|writer| writer.parse::<Uuid>().is_ok());
        if is_journal || name == "damaged" {
            return Ok(None);
        }
        foreign.get_or_insert(name);
    }
    Ok(foreign)
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

/// The state of the journal: which process has it, if one has.
fn state(journal: &Journal) -> &'static str {
    match (&journal.refused, journal.locked, journal.adopted) {
        (Some(_), ..) => "refused",
        (None, true, true) => "adopted",
        (None, true, false) => "in use",
        (None, false, _) => "left behind",
    }
}

fn line(journal: &Journal) -> Line<'_> {
    Line {
        journal: journal.writer.to_string(),
        process: journal.owner,
        state: state(journal),
        records: records(journal),
        ledger: journal.ledger.as_deref(),
        database: journal.database.as_deref(),
        directory: journal.directory.display().to_string(),
        refused: journal.refused.as_deref(),
    }
}

fn print_journals(journals: &[Journal], format: Option<Format>) -> Result<(), Failure> {
    if journals.is_empty() {
        tell_person("the directory holds no journal: nothing waits for a database there");
    }
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
        ("state", Cells::Whole),
        ("records", Cells::Whole),
        ("ledger", Cells::Cut),
        ("database", Cells::Cut),
    ];
    print_table_as(format, &columns, &journals.iter().map(row).collect::<Vec<_>>())
}
