//! The command `ledger`: shows the state of a ledger's tree, and lets a ledger go on that was restored from a backup.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tracing_audit::{
    AuditReader,
    evidence::{create_key, open_key},
    ledger::{Checkpoint, Origin, Trust},
    migrate::Migrate,
};

use super::{kept::checkpoints, key::undeclared, verify::OfLedger};
use crate::{
    failure::Failure,
    input::{Database, end_log},
    output,
};

#[derive(Subcommand)]
pub(crate) enum LedgerAction {
    /// Show the size and the root of the ledger's tree, and whether it is catching up.
    Status(OfLedger),
    /// Let a ledger go on under another name, after a backup was restored that lacks entries of published checkpoints.
    ///
    /// A notary refuses such a ledger, because an attacker may have put the backup there. This command declares in the ledger, by
    /// an entry `audit.restored`, that it was you. It makes a key of the other name for the notary, and prints the trust file in
    /// which the old key signs only what is left. End the notary first, and let it begin another file of checkpoints.
    AcceptRestore(AcceptRestore),
}

#[derive(Args)]
pub(crate) struct AcceptRestore {
    #[command(flatten)]
    ledger: OfLedger,
    /// The origin of the ledger from now on, such as audit.example.com/payments/1.
    origin: Origin,
    /// The file of the key that has signed until now.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The checkpoints that it has signed: the file of the notary.
    #[arg(long, value_name = "FILE_OR_TEXT")]
    checkpoint: String,
    /// The file for the new key, which only you may read. It must not exist.
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// The name of the person who accepts it. It becomes a part of the ledger.
    #[arg(long, value_name = "NAME")]
    by: String,
    /// The reason why the backup was restored. It becomes a part of the ledger.
    #[arg(long)]
    reason: String,
}

impl LedgerAction {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        match self {
            Self::Status(ledger) => status(&ledger, database).await,
            Self::AcceptRestore(accepted) => accepted.run(database).await,
        }
    }
}

async fn status(ledger: &OfLedger, database: &Database) -> Result<(), Failure> {
    let status = ledger.reader(database).await?.ledger_status().await?;
    if !output::is_terminal() {
        return output::print_json(&status);
    }
    let behind = status.next_seq.saturating_sub(status.tree_size);
    let catching_up = if behind == 0 { String::new() } else { format!(", {behind} entries behind") };
    let origin = status.origin.unwrap_or_else(|| "none yet".to_owned());
    for (name, value) in [
        ("ledger", output::harmless(&status.ledger).into_owned()),
        ("origin", output::harmless(&origin).into_owned()),
        ("next seq", status.next_seq.to_string()),
        ("tree", format!("{} leaves{catching_up}", status.tree_size)),
        ("root", status.root),
    ] {
        output::print_line(&format!("{name:8} {value}"))?;
    }
    Ok(())
}

impl AcceptRestore {
    async fn run(self, database: &Database) -> Result<(), Failure> {
        let old = open_key(&self.key)?;
        if self.origin == *old.origin() {
            let message = format!("{} is the name until now: give the ledger another one", self.origin);
            return Err(Failure::Usage(message));
        }
        database.refuse_output(&self.out)?;
        let reader = self.ledger.reader(database).await?;
        let (lost, kept) = self.lost(&reader, &Trust::in_key(old.verifier())).await?;
        let name = reader.ledger_status().await?.ledger;
        let log = database.open_log(&name, Migrate::Check).await?;
        let declared = match create_key(&self.out, self.origin) {
            Ok(new) => {
                let declared = log.writer().declare_restore(&lost, kept, &self.by, &self.reason).await;
                declared.map(|seq| (seq, new)).inspect_err(|error| undeclared(&self.out, error))
            }
            Err(error) => Err(error),
        };
        let ended = end_log(&log).await;
        let (seq, new) = declared?;
        // Signatures of the old key are valid up to the largest checkpoint that is left.
        let before = Trust::lines_of(&old.verifier(), 0, Some(kept.saturating_add(1)));
        let from_then = Trust::lines_of(&new.verifier(), seq.saturating_add(1), None);
        output::print_line(&format!("{before}{from_then}quorum none"))?;
        ended
    }

    /// The largest checkpoint whose entries are lost, and the size of the largest one that the ledger continues.
    async fn lost(&self, reader: &AuditReader, trust: &Trust) -> Result<(Checkpoint, u64), Failure> {
        let now = reader.checkpoint().await?;
        let mut published = Vec::new();
        for kept in checkpoints(&self.checkpoint)? {
            let noted = kept.noted(reader).await?;
            if let Some(note) = noted.note() {
                let opened = trust.open(note);
                let opened = opened.map_err(|error| Failure::Found(error.to_string()))?;
                published.push(opened.checkpoint().clone());
            }
        }
        published.sort_by_key(Checkpoint::size);
        let nothing = || {
            Failure::Usage(format!(
                "the ledger continues the checkpoints of {}, or none of them is signed: nothing is to be accepted",
                self.checkpoint.lines().next().unwrap_or_default()
            ))
        };
        let mut lost = None;
        while let Some(last) = published.pop() {
            if continues(reader, &last, &now).await? {
                return lost.map(|lost| (lost, last.size())).ok_or_else(nothing);
            }
            lost.get_or_insert(last);
        }
        lost.map(|lost| (lost, 0)).ok_or_else(nothing)
    }
}

/// Whether the ledger continues a checkpoint.
async fn continues(reader: &AuditReader, earlier: &Checkpoint, now: &Checkpoint) -> Result<bool, Failure> {
    if earlier.size() > now.size() {
        return Ok(false);
    }
    let proof = match reader.consistency(earlier.size(), now.size()).await {
        Ok(proof) => proof,
        Err(error) if error.is_altered() => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    Ok(proof.verify((earlier.size(), earlier.root()), (now.size(), now.root())).is_ok())
}
