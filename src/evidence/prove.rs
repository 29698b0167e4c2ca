//! `AuditReader::prove` and `AuditReader::consistency`: proofs for people who have no database.

use serde_json::Map;

use super::{
    opened::Opened,
    tiles::{Tiles, impossible},
};
use crate::error::{AuditError, ErrorKind};
use crate::ledger::{AsGiven, ConsistencyProof, LedgerError, NotedCheckpoint, Proof, ProofShape};
use crate::reader::AuditReader;

impl AuditReader {
    /// Proves an entry by a checkpoint that covers it: `None` is the one of now. The proof can be verified without the database,
    /// and can withhold fields: see [`Proof`].
    ///
    /// It reads the entry, its batch and its seed, and up to six tiles of 256 hashes, whatever the size of the ledger. The proof was
    /// verified when it is returned.
    ///
    /// ```
    /// # #[cfg(feature = "_sqlite")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let log = tracing_audit::AuditLog::open(directory.path().join("audit.db")).await?;
    /// use tracing_audit::{AuditEntry, ledger::{Disclosure, Proof}};
    ///
    /// log.writer().commit(AuditEntry::new(uuid::Uuid::nil(), "document.read", "document")).await?;
    /// let kept = log.reader().checkpoint().await?;
    /// let proof = log.reader().prove(0, Some(&kept.clone().into())).await?;
    /// let file = proof.disclosing(Disclosure::only(["core"])?)?.to_string();
    ///
    /// // Elsewhere, where only the checkpoint is.
    /// let proven = file.parse::<Proof>()?.verify(&kept)?;
    /// assert_eq!(proven.seq, 0);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "_sqlite"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// [`is_query`](AuditError::is_query) if the checkpoint does not cover the entry, [`is_altered`](AuditError::is_altered) if the
    /// entry, its batch or hashes were changed, or if the ledger does not lead to the checkpoint, and otherwise as
    /// [`checkpoint`](Self::checkpoint).
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn prove(&self, seq: u64, checkpoint: Option<&NotedCheckpoint>) -> Result<Proof, AuditError> {
        let checkpoint = self.provable(checkpoint).await?;
        let size = checkpoint.checkpoint().size();
        let proof = self.proof(seq, checkpoint).await?;
        let asked = [("seq".to_owned(), seq.into()), ("size".to_owned(), size.into())];
        self.recording("prove", asked.into_iter().collect()).record_answer(1).await?;
        Ok(proof)
    }

    /// The same by a checkpoint that the ledger has reached, without a record of the read.
    pub(super) async fn proof(&self, seq: u64, checkpoint: NotedCheckpoint) -> Result<Proof, AuditError> {
        let size = checkpoint.checkpoint().size();
        let shape = ProofShape::inclusion(seq, size).map_err(|_| not_covered(seq, size))?;
        let evidence = self.store.backend().evidence()?;
        let mut found = None;
        let opened = Opened::read(evidence, &self.ledger, seq..seq + 1).await?;
        opened
            .each(&[seq], |_, opening| {
                found = Some(opening);
                Ok(())
            })
            .await?;
        let opening = found.ok_or_else(|| not_covered(seq, size))?;
        let path = Tiles::new(evidence, &self.ledger, size).proof(&shape).await?;
        let proof = Proof::new(opening, seq, path, checkpoint);
        proof.verify(&AsGiven).map_err(|cause| contradicted(size, cause))?;
        Ok(proof)
    }

    /// The proof that the ledger of `to` entries begins with all of the ledger of `from` entries. It holds by the two checkpoints
    /// of these sizes, if nothing was changed: [`ConsistencyProof::verify`] says whether it does.
    ///
    /// # Errors
    /// [`is_query`](AuditError::is_query) if `from` is greater than `to`, [`is_altered`](AuditError::is_altered) if the tree has fewer
    /// than `to` leaves, or if hashes are missing, and otherwise as [`checkpoint`](Self::checkpoint).
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn consistency(&self, from: u64, to: u64) -> Result<ConsistencyProof, AuditError> {
        let shape = ProofShape::consistency(from, to).map_err(impossible)?;
        let now = self.checkpoint().await?.size();
        if to > now {
            return Err(too_short(to, now));
        }
        let evidence = self.store.backend().evidence()?;
        let hashes = Tiles::new(evidence, &self.ledger, to).proof(&shape).await?;
        self.recording("consistency", Map::new()).record_answer(0).await?;
        Ok(ConsistencyProof::new(hashes))
    }

    /// The checkpoint, or that of now. An error if the ledger has fewer entries than it.
    pub(super) async fn provable(
        &self,
        checkpoint: Option<&NotedCheckpoint>,
    ) -> Result<NotedCheckpoint, AuditError> {
        let now = self.checkpoint().await?;
        match checkpoint {
            None => Ok(now.into()),
            Some(given) if given.checkpoint().size() <= now.size() => Ok(given.clone()),
            Some(given) => Err(too_short(given.checkpoint().size(), now.size())),
        }
    }
}

pub(super) fn not_covered(seq: u64, size: u64) -> AuditError {
    AuditError::new(
        ErrorKind::Query,
        format!(
            "entry {seq} is not among the {size} entries that the checkpoint covers: take a later checkpoint"
        ),
    )
}

fn too_short(size: u64, now: u64) -> AuditError {
    AuditError::new(
        ErrorKind::Altered,
        format!(
            "the checkpoint is of {size} entries, and the tree of the ledger has {now}: it is of another ledger, or the end was \
             cut off; verify the ledger by it"
        ),
    )
}

/// The error of a proof that does not lead to the checkpoint.
pub(super) fn contradicted(size: u64, cause: LedgerError) -> AuditError {
    let message = format!(
        "the ledger does not lead to the checkpoint of {size} entries: it is of another ledger, or what it covers was changed; \
         verify the ledger by it"
    );
    AuditError::new(ErrorKind::Altered, message).because(cause)
}
