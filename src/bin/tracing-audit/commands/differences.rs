//! The differences that `compare` finds: prints and counts them.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    path::Path,
};

use serde::Serialize;
use serde_json::Value;
use tracing_audit::SequencedEntry;
use uuid::Uuid;

use crate::{
    failure::Failure,
    output::{self, harmless},
};

/// The differences of each kind that are shown to people.
const SHOWN: u64 = 20;

/// A difference.
#[derive(Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub(super) enum Finding<'a> {
    /// The ledger has another entry at this place, or other contents.
    Changed { ledger: &'a str, seq: u64, id: Uuid, fields: Vec<String> },
    /// The ledger has no entry at this place.
    Missing { ledger: &'a str, seq: u64, id: Uuid },
    /// The file lacks an entry that lies between its own.
    Added { ledger: &'a str, seq: u64, id: Uuid },
    /// A line of the file is not an entry, or not in the order of an export.
    Line { line: u64, fault: &'a str },
    /// The file is not the one that its manifest describes.
    File { sha256: &'a str, manifest: &'a str },
    /// The ledger has entries or batches with numbers that it cannot have given out.
    Outside { ledger: &'a str, rows: u64 },
    /// A table of the database is not as it should be.
    Schema { message: &'a str },
}

/// Prints the differences as they are found, and counts them.
pub(super) struct Report {
    json: bool,
    /// Entries that exist, unchanged, in the order of the file.
    same: u64,
    /// Entries that came since, and those among which the file would have none.
    pub(super) since: u64,
    pub(super) others: u64,
    /// Matching entries that come before those of the file, where nothing says whether it had them.
    before: u64,
    /// The number of findings of each kind.
    found: BTreeMap<&'static str, u64>,
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        let kinds = ["changed", "missing", "added", "line", "file", "outside", "schema"];
        Self { json, same: 0, since: 0, others: 0, before: 0, found: kinds.map(|kind| (kind, 0)).into() }
    }

    /// Says with which `seq` the file begins in a ledger, if it has entries of it, and how many matching entries of the
    /// database come before, if there are any: its beginning may have been cut off.
    pub(super) fn begins(&mut self, ledger: &str, first: Option<u64>, before: u64) -> Result<(), Failure> {
        if before == 0 {
            return Ok(());
        }
        self.before += before;
        if self.json {
            return output::print_json(&serde_json::json!({
                "begins": { "ledger": ledger, "seq": first, "before": before }
            }));
        }
        let ledger = harmless(ledger);
        output::print_wrapped(&match first {
            Some(first) => format!(
                "begins   {ledger} {first}: the database has {before} matching entries before that, and nothing says that the \
                 file had none of them"
            ),
            None => format!(
                "begins   {ledger}: the file has no entry of it, the database has {before} that match, and nothing says that \
                 the file had none of them"
            ),
        })
    }

    /// An entry of the file, and the one that is in its place now.
    pub(super) fn pair(&mut self, then: &SequencedEntry, now: &SequencedEntry) -> Result<(), Failure> {
        if then == now {
            self.same += 1;
            return Ok(());
        }
        let fields = |found: &SequencedEntry| match serde_json::to_value(found) {
            Ok(Value::Object(fields)) => Ok(fields),
            Ok(_) => Ok(serde_json::Map::new()),
            Err(error) => Err(io::Error::from(error)),
        };
        let (old, new) = (fields(then)?, fields(now)?);
        let names: HashSet<&String> = old.keys().chain(new.keys()).collect();
        let names = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
        let mut fields: Vec<String> = names.cloned().collect();
        fields.sort_unstable();
        self.add(&Finding::Changed { ledger: &then.ledger, seq: then.seq, id: then.entry.id, fields })
    }

    pub(super) fn add(&mut self, finding: &Finding<'_>) -> Result<(), Failure> {
        let kind = finding.kind();
        let count = self.found.entry(kind).or_default();
        *count += 1;
        match (self.json, *count) {
            (true, _) => output::print_json(finding),
            (false, count) if count <= SHOWN => output::print_wrapped(&finding.text()),
            (false, count) if count == SHOWN + 1 => {
                output::print_wrapped(&format!("{kind:<8} ... and more, which --format jsonl prints"))
            }
            (false, _) => Ok(()),
        }
    }

    /// Prints the counts. An error if there was a difference.
    pub(super) fn end(self, path: &Path) -> Result<(), Failure> {
        let count = |kind: &str| self.found.get(kind).copied().unwrap_or(0);
        let Self { json, same, since, others, before, .. } = self;
        if json {
            let mut counts = serde_json::Map::new();
            let all = self.found.iter().map(|(kind, count)| (*kind, *count)).chain([
                ("same", same),
                ("since", since),
                ("others", others),
                ("before", before),
            ]);
            counts.extend(all.map(|(name, count)| (name.to_owned(), count.into())));
            output::print_json(&serde_json::json!({ "compared": counts }))?;
        } else {
            output::print_wrapped(&format!(
                "{same} entries are there, unchanged and in the same order; {} changed, {} missing, {} added among them; \
                 {since} came since",
                count("changed"),
                count("missing"),
                count("added")
            ))?;
            if others > 0 {
                output::print_wrapped(&format!("{others} others came since, which were not asked for"))?;
            }
        }
        if self.found.values().all(|count| *count == 0) {
            return if before == 0 { Ok(()) } else { Err(unknown_beginning(before, path)) };
        }
        Err(Failure::Found(format!("the database does not hold what {} holds", path.display())))
    }
}

/// The failure of a comparison that has found nothing, of a file whose beginning may have been cut off.
fn unknown_beginning(before: u64, path: &Path) -> Failure {
    Failure::Unanchored(format!(
        "nothing says whether {} is whole: the database has {before} matching entries before those of the file. Name its \
         manifest by --manifest, or give the conditions of the export again, such as --ledger and --from-seq",
        path.display()
    ))
}

impl Finding<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Changed { .. } => "changed",
            Self::Missing { .. } => "missing",
            Self::Added { .. } => "added",
            Self::Line { .. } => "line",
            Self::File { .. } => "file",
            Self::Outside { .. } => "outside",
            Self::Schema { .. } => "schema",
        }
    }

    fn text(&self) -> String {
        let kind = self.kind();
        match self {
            Self::Changed { ledger, seq, id, fields } => {
                let (ledger, fields) = (harmless(ledger), fields.join(", "));
                format!("{kind:<8} {ledger} {seq} {id}: {}", harmless(&fields))
            }
            Self::Missing { ledger, seq, id } => {
                let ledger = harmless(ledger);
                format!("{kind:<8} {ledger} {seq} {id}: the database has no entry there")
            }
            Self::Added { ledger, seq, id } => {
                let ledger = harmless(ledger);
                format!("{kind:<8} {ledger} {seq} {id}: the file has no such entry, and others behind it")
            }
            Self::Line { line, fault } => format!("{kind:<8} {line}: {}", harmless(fault)),
            Self::File { sha256, manifest } => {
                let manifest = harmless(manifest);
                format!("{kind:<8} its SHA-256 is {sha256}, and {manifest} by its manifest: it was changed")
            }
            Self::Outside { ledger, rows } => {
                let ledger = harmless(ledger);
                format!(
                    "{kind:<8} {ledger}: {rows} entries or batches have numbers that the ledger cannot have given out"
                )
            }
            Self::Schema { message } => format!("{kind:<8} {}", harmless(message)),
        }
    }
}
