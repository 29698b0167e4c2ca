//! The command `consistency`: proves, and verifies, that a ledger was only appended to.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args;
use tracing_audit::{evidence::Anchor, ledger::ConsistencyProof};

use super::{
    kept::{Kept, short, tell_unsigned, trust},
    prove::not_proven,
    verify::OfLedger,
};
use crate::{
    failure::Failure,
    input::{Database, read_small_or_pipe, text_of},
    output::{self, NewFile, Stdout, with_path},
};

#[derive(Args)]
pub(crate) struct Consistency {
    #[command(flatten)]
    ledger: OfLedger,
    /// The earlier checkpoint: a file, of several in which it is the newest, or its text, or "SIZE ROOT".
    #[arg(long, value_name = "FILE_OR_TEXT")]
    from: String,
    /// The later checkpoint [default: the one of now].
    #[arg(long, value_name = "FILE_OR_TEXT")]
    to: Option<String>,
    /// The file that says whose signatures each checkpoint that is given must have. `key show` prints one.
    ///
    /// One that is not signed so, or not at all, is refused with exit code 1.
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// Verify this proof, which an earlier run has written, and ask no database.
    #[arg(long, value_name = "FILE", requires = "to", conflicts_with = "output")]
    proof: Option<PathBuf>,
    /// The file to write: one hash on a line, in base64 [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Consistency {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        let trust = self.trust.as_deref().map(trust).transpose()?;
        let kept = |given: &str| Kept::newest(given, trust.as_ref())?.believed(trust.as_ref());
        let from = kept(&self.from)?;
        let to = self.to.as_deref().map(kept).transpose()?;
        if let (Some(path), Some(to)) = (&self.proof, &to) {
            let text = read_small_or_pipe(path)
                .and_then(text_of)
                .map_err(|error| Failure::Usage(format!("cannot read {}", with_path(path, &error))))?;
            let proof = text.parse::<ConsistencyProof>();
            let proof = proof.map_err(|error| Failure::Found(format!("{}: {error}", path.display())))?;
            continues(&proof, &from, to)?;
            if trust.is_none() {
                tell_unsigned();
            }
            return said(&from, to);
        }
        let file = self.output.as_deref().filter(|path| *path != Path::new("-"));
        if let Some(path) = file {
            database.refuse_output(path)?;
        }
        let reader = self.ledger.reader(database).await?;
        let is_now = to.is_none();
        let (to, kept) = if let Some(to) = to {
            (to, String::new())
        } else {
            let now = reader.checkpoint().await?;
            let kept = short(&now);
            // The database knows no name that a notary gives to the ledger.
            let has_name =
                from.origin().is_some_and(|name| !name.as_str().starts_with("tracing-audit.invalid/"));
            (if has_name { kept.parse()? } else { Anchor::from(now) }, kept)
        };
        if from.size() > to.size() {
            let (earlier, later) = (from.size(), to.size());
            return Err(if is_now {
                Failure::Found(format!(
                    "the checkpoint is of {earlier} entries, and the tree of the ledger has {later}: it is of another ledger, or \
                     the end was cut off"
                ))
            } else {
                Failure::Usage(format!(
                    "--from is of {earlier} entries, and --to of {later}: the earlier checkpoint is the smaller one"
                ))
            });
        }
        let proof = reader.consistency(from.size(), to.size()).await.map_err(not_proven)?;
        continues(&proof, &from, &to)?;
        if trust.is_none() {
            tell_unsigned();
        }
        if is_now {
            output::remark(&format!(
                "up to a checkpoint of now, which the receiver needs from elsewhere: {kept}"
            ));
        }
        let text = proof.to_string();
        let Some(path) = file else {
            let mut out = Stdout::default();
            out.write_all(text.as_bytes())?;
            return Ok(out.flush()?);
        };
        let mut file = NewFile::create(path)?;
        file.write_all(text.as_bytes())?;
        file.finish()?;
        said(&from, &to)
    }
}

/// Verifies the proof between the two.
fn continues(proof: &ConsistencyProof, from: &Anchor, to: &Anchor) -> Result<(), Failure> {
    if let (Some(earlier), Some(later)) = (from.origin(), to.origin())
        && earlier != later
    {
        return Err(Failure::Found(format!(
            "the two checkpoints are of different ledgers: {} and {}",
            earlier.as_str(),
            later.as_str()
        )));
    }
    let held = proof.verify((from.size(), from.root()), (to.size(), to.root()));
    held.map_err(|error| {
        Failure::Found(format!(
            "the ledger of {} entries does not continue that of {}: {error}",
            to.size(),
            from.size()
        ))
    })
}

fn said(from: &Anchor, to: &Anchor) -> Result<(), Failure> {
    output::print_wrapped(&format!(
        "the ledger of {} entries begins with all of the {} of the earlier checkpoint, unchanged",
        to.size(),
        from.size()
    ))
}
