//! The notary: makes checkpoints of a ledger, signs them, and gives them to whatever keeps them outside.

use std::{
    error::Error,
    fmt,
    time::{Duration, Instant},
};

use super::{anchor::spelled, consistency::consistency, sink::CheckpointSink};
use crate::error::{AuditError, ErrorKind};
use crate::ledger::{Checkpoint, Note, Origin, Signer, verify_consistency};
use crate::reader::AuditReader;

/// After this time a checkpoint is published again, although nothing was committed since.
const REPUBLISH_EVERY: Duration = Duration::from_mins(10);

/// Makes checkpoints of a ledger, signs them, and gives them to sinks.
///
/// It never signs two trees of one size: before it signs, it verifies that the ledger continues everything that it has published, also
/// before it was started, as far as a [sink](CheckpointSink) remembers. A ledger that was rolled back or exchanged is refused, and
/// nothing is signed until it is the one that it was. With keys it believes of a [`CheckpointFile`](super::CheckpointFile) only what one of
/// them has signed, and signs nothing while others' lines are the last ones there, or the file has lost its end.
///
/// ```
/// # #[cfg(feature = "_sqlite")]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("checkpoints");
/// # let log = tracing_audit::AuditLog::open(directory.path().join("audit.db")).await?;
/// use tracing_audit::evidence::{CheckpointFile, CheckpointLog, Notary};
///
/// let mut notary = Notary::of(log.reader()).to(CheckpointFile::new(&path)).to(CheckpointLog);
/// let published = notary.publish().await?.expect("it is the first one");
/// assert_eq!(published.text().lines().count(), 3);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "_sqlite"))]
/// # fn main() {}
/// ```
#[must_use]
pub struct Notary {
    reader: AuditReader,
    origin: Option<Origin>,
    signers: Vec<Box<dyn Signer>>,
    sinks: Vec<Box<dyn CheckpointSink>>,
    republish_every: Duration,
    /// The checkpoints that were published, as far as they are known to this notary itself, and by what the sinks
    /// remember. They stay also after an error.
    memory: Vec<Checkpoint>,
    published_at: Option<Instant>,
}

/// A checkpoint that a [`Notary`] has published.
#[derive(Clone, Debug)]
pub struct Published {
    checkpoint: Checkpoint,
    text: String,
    failed: Vec<AuditError>,
}

impl Published {
    /// The checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The whole text: three lines, and with a key an empty one and the signatures.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// An error for each sink that has not taken it.
    #[must_use]
    pub fn failed(&self) -> &[AuditError] {
        &self.failed
    }
}

impl Notary {
    /// A notary of the reader's ledger.
    pub fn of(reader: AuditReader) -> Self {
        Self {
            reader,
            origin: None,
            signers: Vec::new(),
            sinks: Vec::new(),
            republish_every: REPUBLISH_EVERY,
            memory: Vec::new(),
            published_at: None,
        }
    }

    /// Names the ledger so in its checkpoints. Default: by the id that it got when it was created. It is the name of the keys that sign.
    /// By default the checkpoint that a file holds last must be one of this ledger, whatever name it has there: a file that several
    /// ledgers share needs their names.
    pub fn origin(self, origin: Origin) -> Self {
        Self { origin: Some(origin), ..self }
    }

    /// Signs with this key. With several ones, such as a key and the one that follows it, each of them signs.
    pub fn sign_with(mut self, signer: impl Signer) -> Self {
        self.signers.push(Box::new(signer));
        self
    }

    /// Gives each checkpoint to this sink.
    pub fn to(mut self, sink: impl CheckpointSink) -> Self {
        self.sinks.push(Box::new(sink));
        self
    }

    /// Publishes the same checkpoint again after this time, if nothing was committed since. Default: 10 minutes.
    pub fn republish_every(self, republish_every: Duration) -> Self {
        Self { republish_every, ..self }
    }

    /// Makes a checkpoint, signs it, and gives it to the sinks. `None` if there is nothing new since the last one, and that is not
    /// old enough to be published again. A signed checkpoint is published before this returns.
    ///
    /// Signing and the sinks block the thread meanwhile.
    ///
    /// # Errors
    /// [`is_altered`](AuditError::is_altered) if the ledger does not continue what was published: it was rolled back, or is
    /// another one; and if a file of checkpoints has lost its end, or none of the keys has signed what is last there.
    /// [`is_output`](AuditError::is_output) if a key cannot sign, if no sink has taken the checkpoint, or if a sink does not know
    /// what it holds. [`is_config`](AuditError::is_config) if the origin is that of another ledger. Else those of
    /// [`AuditReader::checkpoint`]. After each of them it may be called again.
    ///
    /// # Cancel safety
    /// It waits for the database only before anything is signed: if the future is dropped, nothing was.
    pub async fn publish(&mut self) -> Result<Option<Published>, AuditError> {
        let found = self.reader.checkpoint().await?;
        self.publish_this(found).await
    }

    /// The same with this checkpoint in place of the one that the head of the ledger has: that of a verification, which has read
    /// all the entries ([`Verified::checkpoint`](super::Verified::checkpoint)).
    ///
    /// # Errors
    /// The same as those of [`publish`](Self::publish).
    ///
    /// # Cancel safety
    /// The same as that of [`publish`](Self::publish).
    pub async fn publish_this(&mut self, found: Checkpoint) -> Result<Option<Published>, AuditError> {
        let checkpoint = self.named(found)?;
        self.recall(checkpoint.origin())?;
        let memory = self.memory.clone();
        let checkpoint = if memory.iter().any(|earlier| earlier.size() > checkpoint.size()) {
            // Another notary may have published meanwhile what was committed meanwhile.
            let again = self.reader.checkpoint().await?;
            self.named(again)?
        } else {
            checkpoint
        };
        for earlier in &memory {
            continues(&self.reader, earlier, &checkpoint).await?;
        }
        let is_new = memory.iter().all(|earlier| earlier.size() < checkpoint.size());
        if !is_new && self.published_at.is_some_and(|at| at.elapsed() < self.republish_every) {
            return Ok(None);
        }
        let text = self.signed(&checkpoint)?;
        self.memory = vec![checkpoint.clone()];
        self.published_at = Some(Instant::now());
        let mut failed = Vec::new();
        for sink in &mut self.sinks {
            if let Err(cause) = sink.publish(&checkpoint, &text) {
                let message =
                    format!("the checkpoint of {} entries was not taken by a sink", checkpoint.size());
                failed.push(AuditError::new(ErrorKind::Output, message).because(cause));
            }
        }
        match failed.pop() {
            // Nobody has it but this process: it must not look as if it were kept.
            Some(last) if failed.len() + 1 == self.sinks.len() => Err(last),
            last => {
                failed.extend(last);
                Ok(Some(Published { checkpoint, text, failed }))
            }
        }
    }

    /// The checkpoint with the name that the ledger has here.
    fn named(&self, found: Checkpoint) -> Result<Checkpoint, AuditError> {
        let Some(origin) = &self.origin else { return Ok(found) };
        if origin.as_str().starts_with("tracing-audit.invalid/") && origin != found.origin() {
            let message =
                format!("{origin} is the origin of another ledger: that of this one is {}", found.origin());
            return Err(AuditError::new(ErrorKind::Config, message));
        }
        Checkpoint::new(origin.clone(), found.size(), *found.root())
            .map_err(|cause| AuditError::new(ErrorKind::Store, cause.to_string()))
    }

    /// Remembers what the sinks remember of what was published.
    fn recall(&mut self, origin: &Origin) -> Result<(), AuditError> {
        let keys: Vec<String> = self.signers.iter().flat_map(|signer| signer.verifier_keys()).collect();
        for sink in &mut self.sinks {
            let latest = sink.latest_signed(origin, &keys).map_err(unknown)?;
            let last = if self.origin.is_none() { sink.last_kept().map_err(unknown)? } else { None };
            for found in latest.into_iter().chain(last) {
                if !self.memory.contains(&found) {
                    self.memory.push(found);
                }
            }
        }
        Ok(())
    }

    /// The text of the checkpoint with the signatures of all keys.
    fn signed(&mut self, checkpoint: &Checkpoint) -> Result<String, AuditError> {
        let text = checkpoint.to_string();
        if self.signers.is_empty() {
            return Ok(text);
        }
        let failed = || AuditError::new(ErrorKind::Output, "the checkpoint could not be signed");
        let mut lines = String::new();
        for signer in &mut self.signers {
            lines.push_str(&signer.sign(&text).map_err(|cause| failed().because(cause))?);
        }
        let note = Note::new(&text, &lines).map_err(|cause| failed().because(cause))?;
        Ok(note.to_string())
    }
}

/// The error of a sink that does not say what was published last, or that somebody has changed.
fn unknown(cause: Box<dyn Error + Send + Sync>) -> AuditError {
    if cause.downcast_ref::<AuditError>().is_some_and(AuditError::is_altered) {
        return AuditError::new(ErrorKind::Altered, "nothing is signed").because(cause);
    }
    let message = "nothing is signed, because a sink does not say what was published last";
    AuditError::new(ErrorKind::Output, message).because(cause)
}

/// Verifies that the ledger continues what was published.
async fn continues(reader: &AuditReader, earlier: &Checkpoint, now: &Checkpoint) -> Result<(), AuditError> {
    let (from, to) = (earlier.size(), now.size());
    let kept = format!("\"{from} {}\"", spelled(earlier.root()));
    if to < from {
        let message = format!(
            "nothing is signed: the ledger was rolled back. Its checkpoint of {from} entries was published, and {to} are left in its \
             tree. Hold it against that one: `tracing-audit verify --checkpoint {kept}`"
        );
        return Err(AuditError::new(ErrorKind::Altered, message));
    }
    let evidence = reader.store.backend().evidence()?;
    let proof = consistency(evidence, &reader.ledger, from, to).await?;
    let held = proof.map(|proof| verify_consistency(from, to, &proof, earlier.root(), now.root()));
    if matches!(held, Some(Ok(()))) {
        return Ok(());
    }
    let message = format!(
        "nothing is signed: the ledger of {to} entries does not continue the one whose checkpoint of {from} entries was published. It \
         was changed, or is another one. Hold it against that one: `tracing-audit verify --checkpoint {kept}`"
    );
    Err(AuditError::new(ErrorKind::Altered, message))
}

impl fmt::Debug for Notary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.signers.iter().flat_map(|signer| signer.verifier_keys()).collect();
        f.debug_struct("Notary")
            .field("origin", &self.origin)
            .field("keys", &keys)
            .field("sinks", &self.sinks.len())
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}
