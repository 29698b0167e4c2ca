//! The notary: makes checkpoints of a ledger, signs them, and gives them to whatever keeps them outside.

use std::{
    error::Error,
    fmt,
    time::{Duration, Instant},
};

use super::{
    anchor::spelled, consistency::consistency, publication, sink::CheckpointSink,
    tile_directory::TileDirectory,
};
#[cfg(feature = "signing")]
use super::{witness::Witness, witnesses::Witnesses};
use crate::error::{AuditError, ErrorKind};
use crate::ledger::{Checkpoint, Note, Origin, Signer, verify_consistency};
use crate::reader::AuditReader;

/// After this time a checkpoint is published again, although nothing was committed since.
const REPUBLISH_EVERY: Duration = Duration::from_mins(10);

/// The same while no sink has it, a witness has not cosigned it, or the directory of tiles lacks it.
const RETRY_EVERY: Duration = Duration::from_mins(1);

/// Makes checkpoints of a ledger, signs them, gives them to sinks, has them cosigned by witnesses, and publishes the
/// tree.
///
/// It never signs two trees of one size: before it signs, it verifies that the ledger continues everything that it has published, also
/// before it was started, as far as a [sink](CheckpointSink) remembers. A ledger that was rolled back or exchanged is refused, and
/// nothing is signed until it is the one that it was. With keys it believes of a [`CheckpointFile`](super::CheckpointFile) only what one of
/// them has signed, and signs nothing while others' lines are the last ones there, or the file has lost its end.
///
/// What is signed goes to the sinks first, so that it is remembered before anybody else sees it. Then the witnesses are
/// asked, all at the same time, and the sinks get it again with the cosignatures. The [directory of
/// tiles](TileDirectory) gets it last. Each of them that fails is reported, and holds up none of the others.
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
    #[cfg(feature = "signing")]
    witnesses: Witnesses,
    directory: Option<TileDirectory>,
    republish_every: Duration,
    /// The checkpoints that were published, as far as they are known to this notary itself, and by what the sinks
    /// remember. They stay also after an error.
    memory: Vec<Checkpoint>,
    published_at: Option<Instant>,
    /// Whether no sink, a witness that has not cosigned it, or the directory lacks what was published last.
    is_lacking: bool,
}

/// A checkpoint that a [`Notary`] has published.
#[derive(Clone, Debug)]
pub struct Published {
    checkpoint: Checkpoint,
    text: String,
    failed: Vec<AuditError>,
    unwitnessed: Vec<AuditError>,
}

impl Published {
    /// The checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The whole text: three lines, and with a key an empty one and the signatures, those of witnesses last.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// An error for each sink that has not taken it, and for the directory of tiles if it could not be published there.
    #[must_use]
    pub fn failed(&self) -> &[AuditError] {
        &self.failed
    }

    /// An error for each witness that has not cosigned it. [`is_altered`](AuditError::is_altered) if the witness has
    /// cosigned what the ledger does not continue: it was rolled back or exchanged, or another notary is ahead.
    #[must_use]
    pub fn unwitnessed(&self) -> &[AuditError] {
        &self.unwitnessed
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
            #[cfg(feature = "signing")]
            witnesses: Witnesses::default(),
            directory: None,
            republish_every: REPUBLISH_EVERY,
            memory: Vec::new(),
            published_at: None,
            is_lacking: false,
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

    /// Asks this witness to cosign each checkpoint. It takes a key: a witness cosigns signed checkpoints only.
    #[cfg(feature = "signing")]
    pub fn witness(mut self, witness: Witness) -> Self {
        self.witnesses.add(witness);
        self
    }

    /// Publishes each checkpoint, and the tree that it is of, in this directory. The ledger must also continue the
    /// checkpoint that is published there.
    pub fn tiles_in(self, directory: TileDirectory) -> Self {
        Self { directory: Some(directory), ..self }
    }

    /// Publishes the same checkpoint again after this time, if nothing was committed since. Default: 10 minutes. While
    /// no sink has it, a witness has not cosigned it, or the directory of tiles lacks it: after a minute, if that is
    /// less.
    pub fn republish_every(self, republish_every: Duration) -> Self {
        Self { republish_every, ..self }
    }

    /// Makes a checkpoint, signs it, and gives it to the sinks. `None` if there is nothing new since the last one, and that is not
    /// old enough to be published again. A signed checkpoint is published before this returns.
    ///
    /// Signing, the sinks, the witnesses and the directory of tiles block the thread meanwhile.
    ///
    /// # Errors
    /// [`is_altered`](AuditError::is_altered) if the ledger does not continue what was published: it was rolled back, or is
    /// another one; and if a file of checkpoints has lost its end, or none of the keys has signed what is last there.
    /// [`is_output`](AuditError::is_output) if a key cannot sign, if no sink has taken the checkpoint, or if a sink does not know
    /// what it holds. [`is_config`](AuditError::is_config) if the origin is that of another ledger, if the directory of
    /// tiles is, or if there is a witness and no key. Else those of [`AuditReader::checkpoint`]. After each of them it
    /// may be called again. Witnesses and the directory of tiles give none: see [`Published::unwitnessed`] and
    /// [`Published::failed`].
    ///
    /// # Cancel safety
    /// Without witnesses and a directory of tiles it waits for the database only before anything is signed: if the
    /// future is dropped, nothing was. With them it also waits after the sinks have what was signed: if it is dropped
    /// then, the sinks lack cosignatures, or the directory is published with a later checkpoint.
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
        if !is_new && self.published_at.is_some_and(|at| at.elapsed() < self.pause()) {
            return Ok(None);
        }
        let text = self.signed(&checkpoint)?;
        self.memory = vec![checkpoint.clone()];
        self.published_at = Some(Instant::now());
        // A future that is dropped from here on leaves this to the next one.
        self.is_lacking = true;
        let mut failed = self.give(&checkpoint, &text);
        if failed.len() == self.sinks.len()
            && let Some(last) = failed.pop()
        {
            // Nobody has it but this process: it must not look as if it were kept, and nobody else may see it.
            return Err(last);
        }
        let (text, unwitnessed) = self.cosigned(&checkpoint, text, &mut failed).await;
        if let Some(directory) = &self.directory {
            let published = publication::publish(directory, &self.reader, &checkpoint, &text).await;
            self.is_lacking = published.is_err();
            failed.extend(published.err());
        } else {
            self.is_lacking = false;
        }
        self.is_lacking |= !unwitnessed.is_empty();
        Ok(Some(Published { checkpoint, text, failed, unwitnessed }))
    }

    /// The time after which a checkpoint that is not new is published again.
    fn pause(&self) -> Duration {
        if self.is_lacking { self.republish_every.min(RETRY_EVERY) } else { self.republish_every }
    }

    /// Gives a checkpoint to all sinks. Returns an error for each that has not taken it.
    fn give(&mut self, checkpoint: &Checkpoint, text: &str) -> Vec<AuditError> {
        let mut failed = Vec::new();
        for sink in &mut self.sinks {
            if let Err(cause) = sink.publish(checkpoint, text) {
                let message =
                    format!("the checkpoint of {} entries was not taken by a sink", checkpoint.size());
                failed.push(AuditError::new(ErrorKind::Output, message).because(cause));
            }
        }
        failed
    }

    /// The checkpoint with the cosignatures of all witnesses, which the sinks get too, and an error for each witness
    /// that has not cosigned it.
    #[cfg(feature = "signing")]
    async fn cosigned(
        &mut self,
        checkpoint: &Checkpoint,
        text: String,
        failed: &mut Vec<AuditError>,
    ) -> (String, Vec<AuditError>) {
        let cosigned = self.witnesses.cosign(&self.reader, checkpoint, &text).await;
        if cosigned.signatures.is_empty() {
            return (text, cosigned.failed);
        }
        let lines = cosigned.signatures.iter().map(|signature| format!("{signature}\n"));
        let whole = text + &lines.collect::<String>();
        *failed = self.give(checkpoint, &whole);
        (whole, cosigned.failed)
    }

    #[cfg(not(feature = "signing"))]
    #[allow(clippy::unused_async, clippy::unused_self, reason = "it is as with the feature")]
    async fn cosigned(
        &mut self,
        _checkpoint: &Checkpoint,
        text: String,
        _failed: &mut Vec<AuditError>,
    ) -> (String, Vec<AuditError>) {
        (text, Vec::new())
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

    /// Remembers what the sinks and the directory of tiles remember of what was published.
    fn recall(&mut self, origin: &Origin) -> Result<(), AuditError> {
        #[cfg(feature = "signing")]
        if self.signers.is_empty() && !self.witnesses.is_empty() {
            let message = "a witness cosigns signed checkpoints only: give the notary a key";
            return Err(AuditError::new(ErrorKind::Config, message));
        }
        let keys: Vec<String> = self.signers.iter().flat_map(|signer| signer.verifier_keys()).collect();
        let mut remembered = Vec::new();
        for sink in &mut self.sinks {
            remembered.extend(sink.latest_signed(origin, &keys).map_err(unknown)?);
            if self.origin.is_none() {
                remembered.extend(sink.last_kept().map_err(unknown)?);
            }
        }
        if let Some(directory) = &self.directory {
            remembered.extend(directory.latest(origin, &keys)?);
        }
        for found in remembered {
            if !self.memory.contains(&found) {
                self.memory.push(found);
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
            .field("directory", &self.directory)
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}
