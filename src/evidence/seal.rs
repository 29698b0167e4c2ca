//! Seals: a root over the entries of each workspace, which entries of the ledger declare.

use serde::Serialize;

use super::{
    chunk::signed,
    finding::{Finding, FindingKind},
    opened::Opened,
    parts::Reading,
};
use crate::error::{AuditError, ErrorKind};
use crate::ledger::{ProvenEntry, Seal, Seed};
use crate::platform::secret;
use crate::reader::AuditReader;

/// The action of the entries that declare seals.
const ACTION: &str = "audit.sealed";

/// Entries with this action that are looked for at a time.
const PAGE: u32 = 64;

/// A seal, and the entry that declares it: see [`AuditLog::seal`](crate::AuditLog::seal).
///
/// Serialized, it is one object with `seq`, `until`, `workspaces` and `root`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Sealed {
    /// The number of the entry that declares the seal.
    pub seq: u64,
    /// The seal.
    #[serde(flatten)]
    pub seal: Seal,
}

impl Sealed {
    pub(crate) fn new(seq: u64, seal: Seal) -> Self {
        Self { seq, seal }
    }
}

/// A seal that is to be declared, or was.
pub(crate) enum Sealing {
    /// Nothing but the entry of this one was committed since.
    Declared(Sealed),
    New {
        seal: Seal,
        seed: Seed,
    },
}

impl AuditReader {
    /// The last seal of the ledger. `None` if it has none.
    ///
    /// # Errors
    /// [`is_altered`](AuditError::is_altered) if its entry, or what proves that, was changed, and otherwise as
    /// [`checkpoint`](Self::checkpoint).
    ///
    /// # Cancel safety
    /// Reads only; dropping the future loses nothing.
    pub async fn sealed(&self) -> Result<Option<Sealed>, AuditError> {
        let size = self.checkpoint().await?.size();
        Ok(self.last_seal(size).await?.map(|(sealed, _)| sealed))
    }

    /// A seal over all entries that are in the tree, which is still to be declared. It reads the workspace and the leaf hash of
    /// each, and holds the hashes against the root of the ledger.
    pub(crate) async fn sealing(&self) -> Result<Sealing, AuditError> {
        let now = self.checkpoint().await?;
        let until = now.size();
        match self.last_seal(until).await {
            Ok(Some((sealed, _))) if sealed.seq + 1 == until => return Ok(Sealing::Declared(sealed)),
            // Whoever has changed the entry of a seal keeps nobody from making the next one.
            Err(error) if !error.is_altered() => return Err(error),
            _ => {}
        }
        let mut reading = Reading::of(self.store.backend().evidence()?, &self.ledger, None);
        reading.to(until).await?;
        if reading.parts.is_empty() {
            return Err(AuditError::new(ErrorKind::Query, "the ledger has no entry that could be sealed"));
        }
        if reading.tree.root() != *now.root() {
            let message = "the leaf hashes of the ledger do not lead to its root: verify the ledger, which says what was changed";
            return Err(AuditError::new(ErrorKind::Altered, message));
        }
        let seed = secret().map_err(|cause| {
            AuditError::new(ErrorKind::Store, "the operating system gives no random bytes for a seal")
                .because(cause)
        })?;
        Ok(Sealing::New { seal: reading.parts.seal(until, &seed), seed })
    }

    /// The last seal that is declared before this entry, and its seed.
    pub(super) async fn last_seal(&self, before: u64) -> Result<Option<(Sealed, Seed)>, AuditError> {
        let evidence = self.store.backend().evidence()?;
        let mut before = signed(before);
        loop {
            let seqs = evidence.last_of(&self.ledger, ACTION, before, PAGE).await?;
            let Some(last) = seqs.last() else { return Ok(None) };
            before = *last;
            for seq in seqs {
                if let Some(found) = self.declared(seq.cast_unsigned()).await? {
                    return Ok(Some(found));
                }
            }
        }
    }

    /// The seals of the entries before this one that are not over the entries which are there. Memory grows with the number of
    /// workspaces.
    pub(super) async fn wrong_seals(&self, before: u64) -> Result<Vec<Finding>, AuditError> {
        let (evidence, mut seals) = (self.store.backend().evidence()?, Vec::<(Sealed, Seed)>::new());
        let mut before = signed(before);
        loop {
            let seqs = evidence.last_of(&self.ledger, ACTION, before, PAGE).await?;
            let Some(last) = seqs.last() else { break };
            before = *last;
            for seq in seqs {
                match self.declared(seq.cast_unsigned()).await {
                    // An entry that was changed is a finding already.
                    Err(error) if error.is_altered() => {}
                    found => seals.extend(found?),
                }
            }
        }
        seals.sort_by_key(|(sealed, _)| (sealed.seal.until(), sealed.seq));
        let (mut reading, mut wrong) = (Reading::of(evidence, &self.ledger, None), Vec::new());
        for (Sealed { seq, seal }, seed) in seals {
            let mut found =
                |text: String| wrong.push(Finding::new(FindingKind::SealWrong, seq..seq + 1, text));
            match reading.to(seal.until()).await {
                Ok(()) if reading.parts.seal(seal.until(), &seed) == seal => {}
                Ok(()) => found(format!(
                    "the seal that this entry declares is not that of the entries before {}: an entry was left out, or counted for \
                     another workspace",
                    seal.until()
                )),
                Err(error) if error.is_altered() => {
                    found(format!(
                        "neither the seal that this entry declares nor a later one can be verified: {error}"
                    ));
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(wrong)
    }

    /// The seal that an entry declares, and its seed. `None` if it declares none.
    async fn declared(&self, seq: u64) -> Result<Option<(Sealed, Seed)>, AuditError> {
        let opened = Opened::read(self.store.backend().evidence()?, &self.ledger, seq..seq + 1).await?;
        let mut entry = None;
        opened
            .each(&[seq], |seq, opening| {
                entry = ProvenEntry::of(seq, &opening).ok();
                Ok(())
            })
            .await?;
        let seal = |entry: &ProvenEntry| {
            let (seal, seed) = (Seal::of(entry).ok()?, Seal::seed_of(entry).ok()?);
            Some((Sealed { seq, seal }, seed))
        };
        Ok(entry.as_ref().and_then(seal))
    }
}
