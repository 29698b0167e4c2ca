//! `AuditReader::bundle_part`: all entries of one workspace, with the proof that none was left out.

use std::io::Write;

use uuid::Uuid;

use super::{
    bundle::{Bundled, Bundling, Work},
    chunk::signed,
    parts::Reading,
    prove::contradicted,
    seal::Sealed,
};
use crate::error::{AuditError, ErrorKind};
use crate::ledger::{BundleWriter, Disclosure, LedgerError, SealedPart};
use crate::reader::AuditReader;

/// The parts that are shown of the entry that declares the seal. Its seed is not among them.
const SHOWN: [&str; 4] = ["core", "metadata.until", "metadata.workspaces", "metadata.root"];

impl AuditReader {
    /// Writes a bundle of all entries of a workspace to `out`, up to the last [seal](crate::AuditLog::seal) that the checkpoint covers.
    /// It proves that none of them was left out, added or moved since that seal was made. Of other workspaces it shows nothing, but
    /// how many there are.
    ///
    /// It reads the workspace and the leaf hash of every entry before the seal. [`VerifiedBundle::part`] is what it proves.
    /// [`Bundled::beyond`] counts the entries of the workspace since the seal, which are not in it. [`Bundling::after`] leaves out what
    /// an earlier bundle had.
    ///
    /// ```
    /// # #[cfg(feature = "_sqlite")]
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let log = tracing_audit::AuditLog::open(directory.path().join("audit.db")).await?;
    /// use tracing_audit::{AuditEntry, audit_id, evidence::Bundling};
    ///
    /// for customer in ["acme", "globex", "acme"] {
    ///     let entry = AuditEntry { workspace_id: audit_id(customer), ..AuditEntry::new(uuid::Uuid::nil(), "read", "document") };
    ///     log.writer().commit(entry).await?;
    /// }
    /// log.seal().await?;
    /// let mut file = Vec::new();
    /// let bundled = log.reader().bundle_part(audit_id("acme"), Bundling::new(), &mut file).await?;
    /// assert_eq!((bundled.entries, bundled.beyond), (2, 0));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "_sqlite"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// [`is_query`](AuditError::is_query) if the checkpoint covers no seal, if the workspace has no entry before it, or fewer than are
    /// to be left out, or if none has a field that was to be withheld; [`is_altered`](AuditError::is_altered) if an entry or its hash
    /// was changed, or if the entries are not those that were sealed; [`is_output`](AuditError::is_output) if `out` fails; and
    /// otherwise as [`checkpoint`](Self::checkpoint).
    ///
    /// # Cancel safety
    /// Dropping the future leaves a partial file.
    ///
    /// [`VerifiedBundle::part`]: crate::ledger::VerifiedBundle::part
    pub async fn bundle_part(
        &self,
        workspace: Uuid,
        bundling: Bundling,
        out: impl Write,
    ) -> Result<Bundled, AuditError> {
        let asked = [("workspace_id".to_owned(), workspace.to_string().into())];
        let recording = self.recording("bundle", asked.into_iter().collect());
        recording.record_start().await?;
        let checkpoint = self.provable(bundling.checkpoint.as_ref()).await?;
        let (size, block) = (checkpoint.checkpoint().size(), bundling.block);
        let (sealed, seed) = self.last_seal(size).await?.ok_or_else(|| not_sealed(size))?;
        let until = sealed.seal.until();
        let mut reading = Reading::of(self.store.backend().evidence()?, &self.ledger, Some(workspace));
        (reading.block, reading.without) = (block, bundling.without);
        reading.to(until).await?;
        if reading.own.is_empty() {
            let message = format!(
                "the workspace {workspace} has no entry before {until}, up to which the entry {} seals the ledger",
                sealed.seq
            );
            return Err(AuditError::new(ErrorKind::Query, message));
        }
        let without = usize::try_from(bundling.without).unwrap_or(usize::MAX);
        let Some(own) = reading.own.get(without..) else {
            let message = format!(
                "the first {without} entries of the workspace were to be left out, and it has {} before {until}",
                reading.own.len()
            );
            return Err(AuditError::new(ErrorKind::Query, message));
        };
        let proof = self.proof(sealed.seq, checkpoint.clone()).await?;
        let proof = Disclosure::only(SHOWN).and_then(|shown| proof.disclosing(shown));
        let part = proof.and_then(|proof| SealedPart::of(&reading.parts, workspace, &seed, &proof));
        let part = part.map_err(|cause| not_as_sealed(&sealed, cause))?;
        let mut work = Work::new(self, &checkpoint, bundling.disclosure, out)?;
        work.has_paths = false;
        let mut lines = Vec::new();
        let writer = BundleWriter::part(checkpoint.clone(), part, reading.start.clone(), &mut lines);
        work.begin(writer.map_err(|cause| contradicted(size, cause))?, lines);
        for wanted in own.chunk_by(|one, next| one / block == next / block) {
            let Some(first) = wanted.first().map(|first| first - first % block) else { continue };
            work.add(first..(first + block).min(until), wanted).await?;
        }
        let entries = work.end()?;
        let beyond = self.since(until, workspace, block).await?;
        recording.record_end(entries).await?;
        Ok(Bundled { entries, beyond, checkpoint })
    }

    /// The number of entries of a workspace from this number on.
    async fn since(&self, mut from: u64, workspace: Uuid, block: u64) -> Result<u64, AuditError> {
        let (evidence, size) = (self.store.backend().evidence()?, self.checkpoint().await?.size());
        let mut found = 0;
        while from < size {
            let until = (from + block).min(size);
            let rows = evidence.workspaces(&self.ledger, signed(from)..signed(until)).await?;
            found += rows.iter().filter(|(_, of)| *of == Some(workspace)).count() as u64;
            from = until;
        }
        Ok(found)
    }
}

fn not_sealed(size: u64) -> AuditError {
    AuditError::new(
        ErrorKind::Query,
        format!(
            "no seal is among the {size} entries that the checkpoint covers: seal the ledger by `tracing-audit seal` or AuditLog::seal, \
             and take a checkpoint after that"
        ),
    )
}

fn not_as_sealed(sealed: &Sealed, cause: LedgerError) -> AuditError {
    let message = format!(
        "the entries before {} are not those that the entry {} has sealed: verify the ledger, with its seals",
        sealed.seal.until(),
        sealed.seq
    );
    AuditError::new(ErrorKind::Altered, message).because(cause)
}
