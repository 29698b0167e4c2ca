//! The command `checkpoint`: prints, signs and publishes checkpoints of a ledger, once or again and again.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use tracing_audit::{
    AuditError, AuditReader,
    evidence::{
        CheckpointFile, CheckpointSink, Notary, Published, TileDirectory, Verification, VerifyState, open_key,
    },
    ledger::{LedgerError, NotedCheckpoint, Origin, PrivateKey, Trust, Trusts, VerifierKey},
};

use super::{kept::trust, verify::OfLedger, witness::witnesses};
use crate::{
    failure::Failure,
    input::{Database, refuse_no_file},
    output::{self, with_path},
};

/// The environment variable that may hold a private key.
const KEY: &str = "TRACING_AUDIT_KEY";

/// The longest time to wait for a witness, if no other one is given.
const WITNESS_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(crate) struct Checkpoint {
    #[command(flatten)]
    ledger: OfLedger,
    /// Sign it with the private key in this file, which `key new` makes. Nobody else may be able to read it.
    ///
    /// May be repeated: then each key signs, as a key and the one that follows it do once. Instead of a file, the environment variable
    /// `TRACING_AUDIT_KEY` may hold the key. Before anything is signed, it is proven that the ledger continues what was signed
    /// before, as the files of --to remember it, and the entries are verified: all of them at first, and with --every then
    /// those that are new.
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// Append it to this file too, as a line of JSON. May be repeated.
    ///
    /// Keep the file where whoever may write to the database may not change it. The ledger must continue what is last in it. With a
    /// key, that must be signed by one of the keys: a line that none of them has signed is named, and nothing is signed until it is
    /// removed, or another file is named. A file that is there and holds nothing yet is begun, and that is said.
    #[arg(long, value_name = "FILE")]
    to: Vec<PathBuf>,
    /// Go on until a signal comes, and look for new entries each time this time has passed, such as 10s, 5m or 1h.
    ///
    /// If nothing is new, the checkpoint is published again after 10 minutes, or after one minute while a witness has
    /// not cosigned it.
    #[arg(long, value_name = "TIME", value_parser = interval)]
    every: Option<Duration>,
    /// Ask the witness at this URL to cosign each checkpoint. May be repeated, each with its --witness-key.
    ///
    /// The URL is the submission prefix of <https://c2sp.org/tlog-witness>, to which /add-checkpoint is appended. The
    /// checkpoint is kept in the files of --to first, and once more with the cosignatures. A witness that is away, or
    /// refuses, is told; all else goes on.
    #[arg(long, value_name = "URL", requires = "witness_key")]
    witness: Vec<String>,
    /// The verifier key of the witness, in the order of --witness: only a cosignature that it verifies is taken.
    #[arg(long, value_name = "KEY", requires = "witness")]
    witness_key: Vec<VerifierKey>,
    /// Ask the witnesses to which this trust file gives a URL, too, and fail unless the checkpoint is signed as it asks
    /// for.
    ///
    /// It is the file of those who verify, with lines such as `witness a KEY URL`, `group g 2 a b c` and `quorum g`.
    /// While its quorum is reached, a witness that has not cosigned is told, and is no failure.
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// The longest time to wait for a witness, such as 5s [default: 10s].
    #[arg(long, value_name = "TIME", value_parser = interval)]
    witness_timeout: Option<Duration>,
    /// Publish each checkpoint, and the tree that it is of, in this directory, for a web server.
    ///
    /// Its files are those of <https://c2sp.org/tlog-tiles>. They show no entry. The directory is complete at each
    /// instant. A file that is there with other contents is told and stays, and then nothing is published.
    #[arg(long, value_name = "DIR")]
    publish: Option<PathBuf>,
    /// Publish the data of the leaves too. They show no value, but how many fields each entry has.
    #[arg(long, requires = "publish")]
    with_leaf_data: bool,
    /// Sign the tree as the database holds it, without reading the entries.
    #[arg(long)]
    tree_only: bool,
}

/// Makes checkpoints of a ledger, and signs those of which the entries are as they were committed.
struct Maker {
    notary: Notary,
    /// Whether it knows what was published before.
    remembers: bool,
    /// `None` if no entries are read.
    rows: Option<AuditReader>,
    /// The entries that were read, and are as they were committed.
    state: Option<VerifyState>,
    /// The files that were there, and hold no checkpoint of the ledger.
    begun: Vec<PathBuf>,
    /// What the signatures of a checkpoint must be, as those who verify ask for.
    trust: Option<Trust>,
}

/// What one round has done.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Done {
    /// There was nothing to publish.
    #[default]
    Nothing,
    Published,
    Failed,
}

/// The result of one round.
#[derive(Default)]
struct Round {
    done: Done,
    /// What is said beside the failure.
    remarks: Vec<String>,
    failure: Option<Failure>,
}

impl Round {
    /// Adds a failure. The first one is that of the round.
    fn fail(&mut self, failure: Failure) {
        if self.failure.is_none() {
            self.failure = Some(failure);
        } else {
            self.remarks.push(failure.message());
        }
    }
}

impl Maker {
    /// Makes the next checkpoint, prints it, and says what has gone wrong.
    async fn round(&mut self) -> Round {
        match self.next().await {
            Ok(Some(published)) => self.told(&published),
            Ok(None) => Round::default(),
            Err(failure) => Round { done: Done::Failed, failure: Some(failure), ..Round::default() },
        }
    }

    fn told(&self, published: &Published) -> Round {
        let mut round = Round { done: Done::Published, ..Round::default() };
        if let Err(failure) = output::print_line(published.text().trim_end()) {
            round.fail(failure);
        }
        for error in published.failed() {
            round.fail(failure(error.clone(), true));
        }
        let trusted = self.trust.as_ref().map(|trust| trusted(published.text(), trust));
        if let Some(Err(error)) = &trusted {
            let message =
                format!("whoever verifies by the trust file does not believe the checkpoint: {error}");
            round.fail(Failure::Found(message));
        }
        for error in published.unwitnessed() {
            let failure = failure(error.clone(), true);
            // As many witnesses as are asked for have cosigned it, and this one says nothing of another ledger.
            if matches!(trusted, Some(Ok(()))) && !error.is_altered() {
                round.remarks.push(failure.message());
            } else {
                round.fail(failure);
            }
        }
        round
    }

    /// The next checkpoint. Says of files that were there and have their first one now.
    async fn next(&mut self) -> Result<Option<Published>, Failure> {
        let published = self.made().await?;
        if published.is_some() {
            for path in self.begun.drain(..) {
                output::remark(&format!(
                    "{} was there and held no checkpoint of the ledger, so it is begun anew: if there had been any, it does not know \
                     what was published, and a ledger that was rolled back since is not recognised by it",
                    path.display()
                ));
            }
        }
        Ok(published)
    }

    async fn made(&mut self) -> Result<Option<Published>, Failure> {
        let remembers = self.remembers;
        let failure = |error| failure(error, remembers);
        let Some(reader) = &self.rows else { return self.notary.publish().await.map_err(failure) };
        let size = reader.checkpoint().await?.size();
        if self.state.as_ref().is_some_and(|state| state.size() == size) {
            return self.notary.publish().await.map_err(failure);
        }
        let verification = Verification::of_itself();
        let verification = match &self.state {
            Some(state) => verification.state(state.clone()),
            None => verification,
        };
        let verified = reader.verify(verification).await?;
        let found = verified.findings().iter().find(|found| !found.kind.is_information());
        match (found, verified.checkpoint()) {
            (None, Some(checkpoint)) => {
                self.state = verified.state().cloned();
                self.notary.publish_this(checkpoint.clone()).await.map_err(failure)
            }
            // The state stays: once the ledger is what it was, it goes on from there.
            (found, _) => {
                let first = found.map_or_else(|| "leaf hashes are missing".to_owned(), ToString::to_string);
                Err(Failure::Found(format!(
                    "nothing is signed: the ledger is not as it was: {first}. `tracing-audit verify` says all of it"
                )))
            }
        }
    }
}

/// Reads a time such as 10s.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let malformed =
        || "give a number of seconds, minutes or hours, at least one, such as 10s, 5m or 1h".to_owned();
    let of = |unit: char, seconds: u64| text.strip_suffix(unit).map(|number| (number, seconds));
    let (number, seconds) = of('s', 1).or(of('m', 60)).or(of('h', 3600)).ok_or_else(malformed)?;
    let number = number.parse::<u32>().ok().filter(|number| *number > 0).ok_or_else(malformed)?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

impl Checkpoint {
    pub(crate) async fn run(self, database: &Database) -> Result<(), Failure> {
        let every = self.every;
        let mut maker = self.maker(database).await?;
        let Some(every) = every else {
            let Round { remarks, failure, .. } = maker.round().await;
            for remark in &remarks {
                output::remark(remark);
            }
            return failure.map_or(Ok(()), Err);
        };
        let mut end = std::pin::pin!(ended());
        let (mut is_over, mut last, mut lacking) = (false, Vec::new(), Vec::new());
        loop {
            let Round { done, mut remarks, failure } = maker.round().await;
            if matches!(&failure, Some(Failure::Audit(error)) if error.is_config()) {
                return failure.map_or(Ok(()), Err);
            }
            remarks.extend(failure.as_ref().map(Failure::message));
            // Told once, not every few seconds.
            remarks.iter().filter(|said| !last.contains(*said)).for_each(|said| output::remark(said));
            match done {
                // What the last checkpoint lacks, it lacks still.
                Done::Nothing => last.clone_from(&lacking),
                Done::Published => {
                    lacking.clone_from(&remarks);
                    last = remarks;
                }
                Done::Failed => last = remarks,
            }
            if is_over {
                return failure.map_or(Ok(()), Err);
            }
            tokio::select! {
                () = &mut end => is_over = true,
                () = tokio::time::sleep(every) => {}
            }
        }
    }

    async fn maker(self, database: &Database) -> Result<Maker, Failure> {
        let keys = self.keys()?;
        for path in &self.to {
            database.refuse_output(path)?;
            output::refuse_of_others(path)?;
            refuse_no_file(path).map_err(|error| {
                Failure::Usage(format!("checkpoints cannot be kept in {}", with_path(path, &error)))
            })?;
        }
        let reader = self.ledger.reader(database).await?;
        let rows = Some(reader.clone()).filter(|_| !self.tree_only && !keys.is_empty());
        let origin = match keys.first() {
            Some(key) => Some(key.origin().clone()),
            None if self.to.is_empty() => None,
            // A problem with the ledger is reported once the ledger is read.
            None => reader.checkpoint().await.ok().map(|now| now.origin().clone()),
        };
        let begun = origin.map(|origin| begun(&self.to, &origin)).unwrap_or_default();
        let (remembers, mut notary) = (!self.to.is_empty(), Notary::of(reader));
        if let [first, others @ ..] = &*keys {
            if let Some(other) = others.iter().find(|other| other.origin() != first.origin()) {
                let message = format!(
                    "the keys are of two ledgers, {} and {}: give those of one",
                    first.origin(),
                    other.origin()
                );
                return Err(Failure::Usage(message));
            }
            if self.to.is_empty() {
                let message = "give a file by --to, in which the signed checkpoints are kept: without it nothing remembers what was \
                               signed, and a ledger that was rolled back would be signed too";
                return Err(Failure::Usage(message.to_owned()));
            }
            notary = notary.origin(first.origin().clone());
        }
        let trust = self.trust.as_deref().map(trust).transpose()?;
        notary = self.shown(database, notary, trust.as_ref(), keys.is_empty())?;
        for key in keys {
            notary = notary.sign_with(key);
        }
        for path in self.to {
            notary = notary.to(CheckpointFile::new(path));
        }
        Ok(Maker { notary, remembers, rows, state: None, begun, trust })
    }

    /// The notary, with all that shows checkpoints to others: witnesses, and the directory of tiles.
    fn shown(
        &self,
        database: &Database,
        mut notary: Notary,
        trust: Option<&Trust>,
        has_no_key: bool,
    ) -> Result<Notary, Failure> {
        let timeout = self.witness_timeout.unwrap_or(WITNESS_TIMEOUT);
        let witnesses = witnesses(&self.witness, &self.witness_key, trust, timeout)?;
        if has_no_key && (trust.is_some() || !witnesses.is_empty() || self.publish.is_some()) {
            let message = "give a key by --key: witnesses cosign, --trust believes, and --publish shows signed checkpoints only";
            return Err(Failure::Usage(message.to_owned()));
        }
        for witness in witnesses {
            notary = notary.witness(witness);
        }
        let Some(path) = &self.publish else { return Ok(notary) };
        database.refuse_output(path)?;
        if path.exists() && !path.is_dir() {
            return Err(Failure::Usage(format!(
                "{} is no directory: name one for --publish",
                path.display()
            )));
        }
        let directory = TileDirectory::new(path);
        Ok(notary.tiles_in(if self.with_leaf_data { directory.with_leaf_data() } else { directory }))
    }

    fn keys(&self) -> Result<Vec<PrivateKey>, Failure> {
        if !self.key.is_empty() {
            return Ok(self.key.iter().map(open_key).collect::<Result<_, AuditError>>()?);
        }
        match std::env::var(KEY) {
            Ok(line) if !line.is_empty() => match line.parse::<PrivateKey>() {
                Ok(key) => Ok(vec![key]),
                Err(error) => Err(Failure::Usage(format!("{KEY} holds no key: {error}"))),
            },
            Ok(_) | Err(std::env::VarError::NotPresent) => Ok(Vec::new()),
            Err(std::env::VarError::NotUnicode(_)) => Err(Failure::Usage(format!("{KEY} holds no key"))),
        }
    }
}

/// Those of the files that are there, and hold no checkpoint of the ledger.
fn begun(files: &[PathBuf], origin: &Origin) -> Vec<PathBuf> {
    let holds_none = |path: &PathBuf| matches!(CheckpointFile::new(path).latest(origin), Ok(None));
    files.iter().filter(|path| path.exists() && holds_none(path)).cloned().collect()
}

/// A ledger that does not continue what was published is what the command has found.
fn failure(error: AuditError, remembers: bool) -> Failure {
    let is_found = remembers && error.is_altered();
    let failure = Failure::Audit(error);
    if is_found { Failure::Found(failure.message()) } else { failure }
}

/// Whether a checkpoint is signed as a trust file asks for.
fn trusted(text: &str, trust: &Trust) -> Result<(), LedgerError> {
    trust.trusts(&text.parse::<NotedCheckpoint>()?)
}

/// Waits for a signal that ends the command.
pub(super) async fn ended() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    drop(tokio::signal::ctrl_c().await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_number_and_a_unit() {
        for (text, seconds) in [("10s", 10), ("5m", 300), ("1h", 3600), ("4294967295h", 4_294_967_295 * 3600)]
        {
            assert_eq!(interval(text), Ok(Duration::from_secs(seconds)));
        }
        for wrong in ["", "10", "s", "0s", "-1s", "1.5s", "10 s", "10d", "4294967296s", "10ms"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
