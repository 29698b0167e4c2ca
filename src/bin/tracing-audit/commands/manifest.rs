//! The plan of an export, which is settled when it begins, and the manifest, which records it.

use std::path::Path;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing_audit::{AuditReader, reader::Ledger};

use crate::{
    failure::Failure,
    input::{Place, Range},
};

/// A ledger as far as it is exported.
#[derive(Serialize, Deserialize)]
pub(crate) struct Part {
    /// The ledger, and its length when the export began: later entries are not in the file.
    #[serde(flatten)]
    pub(crate) ledger: Ledger,
    /// Its last entry at that time. `None` if that was removed, or there was none.
    last: Option<Place>,
}

/// The plan of an export. It is settled once, when the export begins: a time such as `30d` is the same moment in the
/// file, in the plan and in the manifest, whenever the export is continued.
#[derive(Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The command's options, without those that name the database.
    pub(crate) query: Vec<String>,
    #[serde(flatten)]
    pub(crate) range: Range,
    pub(crate) began_at: DateTime<Utc>,
    pub(crate) ledgers: Vec<Part>,
}

impl Plan {
    /// The plan of an export of these ledgers that begins now. The reader should be one whose reads are not recorded.
    pub(crate) async fn new(
        reader: &AuditReader,
        range: Range,
        ledgers: Vec<Ledger>,
    ) -> Result<Self, Failure> {
        let mut parts = Vec::new();
        for ledger in ledgers {
            let last = Place::before(reader, &ledger.name, ledger.next_seq).await?;
            parts.push(Part { ledger, last });
        }
        Ok(Self { query: options(), range, began_at: Utc::now(), ledgers: parts })
    }

    /// Reads the plan of an interrupted export.
    pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Self, Failure> {
        let plan: Self = serde_json::from_slice(bytes).map_err(|_| {
            Failure::Usage(format!(
                "{} is not a plan of this command: remove {}, or name another output file",
                path.display(),
                begun(path)
            ))
        })?;
        plan.agrees().map_err(|what| {
            Failure::Usage(format!(
                "{} contradicts itself: {what}. Remove {}, or name another output file",
                path.display(),
                begun(path)
            ))
        })?;
        Ok(plan)
    }

    /// An error that says what in it cannot be, if it has been changed since it was settled.
    pub(crate) fn agrees(&self) -> Result<(), String> {
        for (number, Part { ledger, last }) in self.ledgers.iter().enumerate() {
            let (name, next_seq) = (&ledger.name, ledger.next_seq);
            if let Some(last) = last.filter(|last| last.seq.checked_add(1) != Some(next_seq)) {
                return Err(format!(
                    "the ledger {name:?} ended before seq {next_seq}, and its last entry has seq {}",
                    last.seq
                ));
            }
            if self.ledgers.iter().take(number).any(|other| other.ledger.name == *name) {
                return Err(format!("it has the ledger {name:?} twice"));
            }
        }
        Ok(())
    }

    /// Refuses to continue by other options, or with another log than the one with which the export began.
    pub(crate) async fn check(
        &self,
        path: &Path,
        reader: &AuditReader,
        now: &[Ledger],
    ) -> Result<(), Failure> {
        let begun = begun(path);
        if self.query != options() {
            return Err(Failure::Usage(format!(
                "the interrupted export had other options ({}): repeat those, or remove {begun} to begin again",
                self.query.join(" ")
            )));
        }
        let remedy =
            format!("Give the database with which the export began, or remove {begun} to export this one");
        for Part { ledger, last } in &self.ledgers {
            let (name, planned) = (&ledger.name, ledger.next_seq);
            let next_seq = now.iter().find(|one| one.name == *name).map_or(0, |one| one.next_seq);
            if next_seq < planned {
                return Err(Failure::Lost(format!(
                    "the ledger {name:?} ends at seq {next_seq}, and ended at {planned} when the export began: the \
                     database was restored from a backup, or is another one. {remedy}"
                )));
            }
            if let Some(last) = last {
                last.check(reader, name, "the last one when the export began", &remedy).await?;
            }
        }
        Ok(())
    }
}

/// The files of the interrupted export that has this plan.
fn begun(plan: &Path) -> String {
    format!("{} and {}", plan.with_extension("").display(), plan.display())
}

/// The manifest, which describes an exported file.
#[derive(Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) file: String,
    pub(crate) rows: u64,
    /// The SHA-256 of the file's bytes, after compression.
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
    /// The format of the file's lines.
    pub(crate) format: String,
    /// The order of the entries.
    pub(crate) order: String,
    /// The first line, if it names the columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) header: Option<String>,
    /// The database's kind.
    pub(crate) database: String,
    /// Every condition, as the record of reads has it.
    pub(crate) asked: Map<String, Value>,
    /// The options, the ranges of time that they gave, when it began, and the length of each ledger then.
    #[serde(flatten)]
    pub(crate) plan: Plan,
    /// The ledgers and times that were looked at, and the entries that are missing there. Manifests of earlier versions
    /// have no coverage.
    #[serde(default)]
    pub(crate) coverage: Value,
    /// Of an archive: the SHA-256 of its lines, and the last checkpoint of the ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) archived: Option<Value>,
    pub(crate) exported_at: DateTime<Utc>,
    /// The version of this crate.
    pub(crate) tracing_audit: String,
}

/// The command's options, without those that name a database, which may hold a password.
pub(crate) fn options() -> Vec<String> {
    let mut options = Vec::new();
    let mut arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        if argument == "--db" || argument == "--tell" {
            arguments.next();
        } else if !argument.starts_with("--db=") && !argument.starts_with("--tell=") {
            options.push(argument);
        }
    }
    options
}
