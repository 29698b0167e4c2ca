//! The command `evidence`: one page for people, which shows entries and verifies itself.

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use chrono::SecondsFormat;
use clap::Args;
use futures_util::TryStreamExt;
use tracing_audit::{
    AuditReader,
    evidence::{Bundled, Bundling},
    ledger::{NotedCheckpoint, Trust},
};

use super::{
    kept::trust_with_text,
    prove::{Proving, not_proven, tell_beyond},
};
use crate::{
    failure::Failure,
    input::{Conditions, Database, one_of},
    output::{self, NewFile, Stdout},
    page::{Page, Statement},
    zone::now,
};

#[derive(Args)]
pub(crate) struct Evidence {
    #[command(flatten)]
    proving: Proving,
    /// The file that says which keys may sign the checkpoint, such as `key show` prints: the page says by which of them it is signed.
    ///
    /// Whoever reads the page compares them with the keys that they have from elsewhere.
    #[arg(long, value_name = "FILE", requires = "checkpoint")]
    trust: Option<PathBuf>,
    /// Who makes the file, as it says it [default: the name of --as].
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    conditions: Conditions,
}

impl Evidence {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        database.refuse_exported()?;
        self.proving.disclosure()?;
        let file = self.proving.file(database)?;
        let trust = self.trust.as_deref().map(trust_with_text).transpose()?;
        let log = database.open_one().await?;
        let ledger = one_of(self.conditions.ledger.as_ref(), &log.ledgers)?;
        let statement = Statement {
            ledger: ledger.clone(),
            asked: self.asked()?,
            made_at: now().to_rfc3339_opts(SecondsFormat::Secs, true),
            made_by: self.by.clone().or_else(|| database.reads_as().map(ToOwned::to_owned)),
            withheld: self.proving.withhold.clone(),
            only: self.proving.only.clone(),
            keys: trust.as_ref().map(|(_, text)| text.clone()).unwrap_or_default(),
        };
        let reader = log.reader.clone().of_ledger(ledger);
        let given = self.proving.given(&reader, trust.as_ref().map(|(trust, _)| trust)).await?;
        if let Some((trust, _)) = &trust {
            check(given.as_ref(), trust)?;
        }
        let bundling = self.proving.bundling(given)?;
        let bundled = if let Some(path) = file {
            let (out, bundled) = self.write(&reader, bundling, statement, NewFile::create(path)?).await?;
            out.finish()?;
            bundled
        } else {
            output::refuse_terminal()?;
            let (mut out, bundled) = self.write(&reader, bundling, statement, Stdout::default()).await?;
            out.flush()?;
            bundled
        };
        self.proving.tell(&bundled.checkpoint);
        tell_beyond(bundled.beyond, "evidence file");
        Ok(())
    }

    /// Writes the page to `out`, and gives that back.
    async fn write<W: Write>(
        &self,
        reader: &AuditReader,
        bundling: Bundling,
        statement: Statement,
        out: W,
    ) -> Result<(W, Bundled), Failure> {
        let mut page = Page::new(BufWriter::new(out), statement);
        let entries = reader.stream(self.conditions.query()?).map_ok(|found| found.seq);
        let bundled = reader.bundle(entries, bundling, &mut page).await;
        if let Some(refused) = page.refused() {
            return Err(refused);
        }
        let bundled = bundled.map_err(not_proven)?;
        let out = page.end(bundled.beyond)?.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok((out, bundled))
    }

    /// The conditions, as they were given.
    fn asked(&self) -> Result<Vec<String>, Failure> {
        let mut asked: Vec<String> = self.conditions.parts()?.into_iter().map(|(given, _)| given).collect();
        asked.extend(self.conditions.from_seq.map(|seq| format!("--from-seq {seq}")));
        asked.extend(self.conditions.before_seq.map(|seq| format!("--before-seq {seq}")));
        asked.extend(self.conditions.period.given());
        Ok(asked)
    }
}

/// Checks that a checkpoint is signed as the trust file asks for: otherwise the page would be red.
fn check(given: Option<&NotedCheckpoint>, trust: &Trust) -> Result<(), Failure> {
    let Some((noted, note)) = given.and_then(|noted| Some((noted, noted.note()?))) else {
        let message = "the checkpoint has no signature that the keys of --trust could verify: give a signed one by --checkpoint";
        return Err(Failure::Usage(message.to_owned()));
    };
    let size = noted.checkpoint().size();
    let opened = trust.open(note).map(drop);
    opened
        .map_err(|error| Failure::Found(format!("the checkpoint of {size} entries is not believed: {error}")))
}
