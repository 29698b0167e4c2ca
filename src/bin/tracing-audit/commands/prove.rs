//! The commands `prove` and `bundle`: prove one entry, or many, to a person who has a checkpoint and no database.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args;
use futures_util::TryStreamExt;
use tracing_audit::{
    AuditError, AuditReader,
    evidence::{Bundled, Bundling},
    ledger::{Disclosure, NotedCheckpoint, Trust},
};
use uuid::Uuid;

use super::{
    kept::{Kept, short},
    verify::OfLedger,
};
use crate::{
    failure::Failure,
    input::{Conditions, Database, one_of},
    output::{self, GzipIf, NewFile, Stdout},
};

/// The checkpoint by which something is proven, and the fields that are shown.
#[derive(Args)]
pub(super) struct Proving {
    /// The checkpoint that the receiver has: a file, or its text, or "SIZE ROOT" [default: the one of now].
    ///
    /// If a file holds several, such as that of a notary, the newest is used. Its signatures go along with it.
    #[arg(long, value_name = "FILE_OR_TEXT")]
    checkpoint: Option<String>,
    /// Withhold these fields: `session_id`, `agent_id`, `resource_id`, `reason`, `problems`, `metadata`, `metadata.NAME`, or `core` for
    /// all others.
    ///
    /// The proof still shows that there is such a field, and still proves everything else. A member of the metadata is
    /// withheld as a whole, with whatever is inside. With `agent_id` or `session_id` goes the name in the metadata that
    /// the id was made from. A field that no entry has is refused, because its name may be a mistake.
    #[arg(long, value_name = "FIELD", value_delimiter = ',')]
    pub(super) withhold: Vec<String>,
    /// Show these fields only, and withhold all others.
    #[arg(long, value_name = "FIELD", value_delimiter = ',', conflicts_with = "withhold")]
    pub(super) only: Vec<String>,
    /// The file to write [default: standard output].
    ///
    /// It appears under its name when it is complete, for this user alone.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Prove {
    /// The entry: its seq, LEDGER:SEQ, or its id.
    #[arg(value_name = "SEQ|LEDGER:SEQ|ID")]
    entry: String,
    #[command(flatten)]
    ledger: OfLedger,
    #[command(flatten)]
    proving: Proving,
}

#[derive(Args)]
pub(crate) struct Bundle {
    #[command(flatten)]
    proving: Proving,
    /// Compress the output with gzip, whatever the file's name. A name that ends with .gz means it.
    #[arg(long)]
    gzip: bool,
    /// All entries of the workspace that --workspace names, and the proof that none is withheld.
    ///
    /// They are those before the last seal that the checkpoint covers: `seal` makes one. Other conditions are not possible.
    #[arg(long, requires = "workspace")]
    complete: bool,
    /// Leave out the first entries of the workspace, this many of them, which an earlier bundle had.
    ///
    /// Whoever verifies gives what `verify-bundle` has said of the earlier one by --continues.
    #[arg(long, value_name = "ENTRIES", requires = "complete")]
    after: Option<u64>,
    #[command(flatten)]
    conditions: Conditions,
}

impl Proving {
    pub(super) fn disclosure(&self) -> Result<Disclosure, Failure> {
        let disclosure = if self.only.is_empty() {
            Disclosure::all_but(&self.withhold)
        } else {
            Disclosure::only(&self.only)
        };
        disclosure.map_err(|error| Failure::Usage(error.to_string()))
    }

    /// The checkpoint that was given: of several the newest one that counts beside a trust file.
    pub(super) async fn given(
        &self,
        reader: &AuditReader,
        trust: Option<&Trust>,
    ) -> Result<Option<NotedCheckpoint>, Failure> {
        match &self.checkpoint {
            Some(given) => Ok(Some(Kept::newest(given, trust)?.noted(reader).await?)),
            None => Ok(None),
        }
    }

    /// A bundle by the checkpoint that was given, with the fields that are shown.
    pub(super) fn bundling(&self, given: Option<NotedCheckpoint>) -> Result<Bundling, Failure> {
        let bundling = Bundling::new().disclosing(self.disclosure()?);
        Ok(match given {
            Some(checkpoint) => bundling.checkpoint(checkpoint),
            None => bundling,
        })
    }

    /// Says which checkpoint it is, if none was given.
    pub(super) fn tell(&self, checkpoint: &NotedCheckpoint) {
        if self.checkpoint.is_none() {
            let kept = short(checkpoint.checkpoint());
            output::remark(&format!(
                "by a checkpoint of now, which the receiver needs from elsewhere: {kept}"
            ));
        }
    }

    /// The file to write. `None` for standard output.
    pub(super) fn file(&self, database: &Database) -> Result<Option<&Path>, Failure> {
        let Some(path) = self.output.as_deref().filter(|path| *path != Path::new("-")) else {
            return Ok(None);
        };
        database.refuse_output(path)?;
        Ok(Some(path))
    }
}

impl Prove {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        let (disclosure, file) = (self.proving.disclosure()?, self.proving.file(database)?);
        let (reader, seq) = self.found(database).await?;
        let checkpoint = self.proving.given(&reader, None).await?;
        let proof = reader.prove(seq, checkpoint.as_ref()).await.map_err(|error| {
            // There is no such entry, or the checkpoint is older.
            if error.is_query() { Failure::NotFound(error.to_string()) } else { not_proven(error) }
        })?;
        let proof = proof.disclosing(disclosure).map_err(|error| Failure::Usage(error.to_string()))?;
        let text = proof.to_string();
        if let Some(path) = file {
            let mut file = NewFile::create(path)?;
            file.write_all(text.as_bytes())?;
            file.finish()?;
        } else {
            let mut out = Stdout::default();
            out.write_all(text.as_bytes())?;
            out.flush()?;
        }
        self.proving.tell(proof.checkpoint());
        Ok(())
    }

    /// The ledger of the entry, and its number there.
    async fn found(&self, database: &Database) -> Result<(AuditReader, u64), Failure> {
        let text = self.entry.trim();
        if let Ok(id) = text.parse::<Uuid>() {
            let reader = database.reader()?;
            let mut found = reader.get(id).await?;
            found.retain(|entry| self.ledger.is_of(&entry.ledger));
            return match &*found {
                [one] => Ok((reader.clone().of_ledger(one.ledger.clone()), one.seq)),
                [] => Err(Failure::NotFound(format!("no entry has the id {id}"))),
                several => {
                    let names: Vec<_> = several.iter().map(|entry| &*entry.ledger).collect();
                    Err(Failure::Usage(format!(
                        "several ledgers have an entry with the id {id}: choose one by --ledger, from {}",
                        names.join(", ")
                    )))
                }
            };
        }
        let (ledger, number) = match text.rsplit_once([':', '/']) {
            Some((ledger, number)) => (Some(ledger), number),
            None => (None, text),
        };
        let Ok(seq) = number.parse::<u64>() else {
            return Err(Failure::Usage(format!("{text:?} is no entry: give its seq, LEDGER:SEQ, or its id")));
        };
        let reader = match ledger {
            Some(ledger) => OfLedger::named(ledger).reader(database).await?,
            None => self.ledger.reader(database).await?,
        };
        Ok((reader, seq))
    }
}

impl Bundle {
    /// All entries of a workspace, with all their fields, by the checkpoint of now.
    pub(super) fn complete(conditions: Conditions, output: Option<PathBuf>, gzip: bool) -> Self {
        let proving = Proving { checkpoint: None, withhold: Vec::new(), only: Vec::new(), output };
        Self { proving, gzip, complete: true, after: None, conditions }
    }

    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        database.refuse_exported()?;
        let all_of = self.complete.then(|| self.conditions.only_workspace()).transpose()?;
        self.proving.disclosure()?;
        let file = self.proving.file(database)?;
        let log = database.open_one().await?;
        let ledger = one_of(self.conditions.ledger.as_ref(), &log.ledgers)?;
        let reader = log.reader.clone().of_ledger(ledger);
        let bundling =
            self.proving.bundling(self.proving.given(&reader, None).await?)?.after(self.after.unwrap_or(0));
        let bundled = if let Some(path) = file {
            let gzip = self.gzip || path.extension().is_some_and(|end| end == "gz");
            let mut out = GzipIf::new(NewFile::create(path)?, gzip);
            let bundled = self.write(&reader, all_of, bundling, &mut out).await?;
            out.finish()?.finish()?;
            bundled
        } else {
            output::refuse_terminal()?;
            let mut out = GzipIf::new(Stdout::default(), self.gzip);
            let bundled = self.write(&reader, all_of, bundling, &mut out).await?;
            out.finish()?.flush()?;
            bundled
        };
        self.proving.tell(&bundled.checkpoint);
        if bundled.beyond > 0 && self.complete {
            output::remark(&format!(
                "{} later entries of the workspace are not in the bundle, because no seal covers them: `seal` makes one",
                bundled.beyond
            ));
        } else {
            tell_beyond(bundled.beyond, "bundle");
        }
        Ok(())
    }

    async fn write(
        &self,
        reader: &AuditReader,
        all_of: Option<Uuid>,
        bundling: Bundling,
        out: &mut impl Write,
    ) -> Result<Bundled, Failure> {
        if let Some(workspace) = all_of {
            return reader.bundle_part(workspace, bundling, out).await.map_err(not_proven);
        }
        let (from, before) = (self.conditions.from_seq.unwrap_or(0), self.conditions.before_seq);
        let query = self.conditions.query()?;
        let is_range = self.conditions.parts()?.is_empty() && !self.conditions.period.range()?.is_bounded();
        let bundled = match before {
            Some(before) if is_range => reader.bundle_range(from..before, bundling, out).await,
            None if is_range => reader.bundle_range(from.., bundling, out).await,
            _ => {
                let entries = reader.stream(query).map_ok(|found| found.seq);
                reader.bundle(entries, bundling, out).await
            }
        };
        bundled.map_err(not_proven)
    }
}

/// Says how many entries a checkpoint does not cover.
pub(super) fn tell_beyond(beyond: u64, what: &str) {
    if beyond > 0 {
        output::remark(&format!(
            "{beyond} matching entries are not in the {what}, because its checkpoint does not cover them: take a later one"
        ));
    }
}

/// The failure of a proof is a finding if the cause is a change.
pub(super) fn not_proven(error: AuditError) -> Failure {
    let is_found = error.is_altered();
    let failure = Failure::Audit(error);
    if is_found { Failure::Found(failure.message()) } else { failure }
}
