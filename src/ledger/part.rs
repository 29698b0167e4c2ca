//! The part of a bundle that has all entries of one workspace, and the seal by which it holds.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use uuid::Uuid;

use super::{
    checkpoint::Checkpoint,
    entry_proof::{Proof, hash_of},
    frontier::Frontier,
    hash::Hash,
    ledger_error::LedgerError,
    opening::Opening,
    proof::verify_inclusion,
    proven::ProvenEntry,
    seal::{Blind, Parts, Seal, blind, malformed, root_over, seal_leaf},
    seeds::Seed,
    shape::ProofShape,
    subtree::Subtree,
};

/// The part of a workspace in a seal: how many entries it had before the seal, the way from their tree up to the root of the seal,
/// and the way from the entry that declares the seal up to a checkpoint.
///
/// With it a bundle of these entries holds only if it has all of them: one that is left out, added, moved or changed leads to another
/// root. It shows nothing of other workspaces, but how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedPart {
    pub(super) workspace: Uuid,
    pub(super) entries: u64,
    pub(super) seal: Seal,
    /// The place of the workspace in the tree of the seal.
    pub(super) index: u64,
    pub(super) path: Vec<Hash>,
    pub(super) blind: Blind,
    /// The entry that declares the seal, and its path to the checkpoint.
    pub(super) seq: u64,
    pub(super) opening: Opening,
    pub(super) path_of_seal: Vec<Hash>,
}

impl SealedPart {
    /// The part of a workspace in the seal that an entry declares. `parts` are those of all workspaces, for the entries before the
    /// seal, and `proof` proves the entry. Of it is shown what the proof shows, which need not be the seed.
    ///
    /// # Errors
    ///
    /// [`LedgerError::NotAsSealed`] if the parts are not those that were sealed. Another error if the workspace has no entry there, or
    /// if the entry declares no seal.
    pub fn of(parts: &Parts, workspace: Uuid, seed: &Seed, proof: &Proof) -> Result<Self, LedgerError> {
        let seal = Seal::of(&ProvenEntry::of(proof.seq(), proof.opening())?)?;
        let none = || malformed(format!("no entry before it is of the workspace {workspace}"));
        let part = parts.get(workspace).ok_or_else(none)?;
        let (blind, leaves) = (blind(seed, workspace), parts.leaves(seed));
        if root_over(&leaves) != seal.root || leaves.len() as u64 != seal.workspaces {
            return Err(LedgerError::NotAsSealed);
        }
        let own = seal_leaf(workspace, &blind, part.size(), &part.root());
        let index = leaves.binary_search(&own).map_err(|_| none())? as u64;
        let shape = ProofShape::inclusion(index, seal.workspaces)?;
        let path = shape.hashes(|subtree| over(&leaves, subtree).ok_or_else(none))?;
        let (entries, seq) = (part.size(), proof.seq());
        let (opening, path_of_seal) = (proof.opening().clone(), proof.path().to_vec());
        Ok(Self { workspace, entries, seal, index, path, blind, seq, opening, path_of_seal })
    }

    /// The workspace.
    #[must_use]
    pub fn workspace(&self) -> Uuid {
        self.workspace
    }

    /// The number of its entries before the seal.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The seal.
    #[must_use]
    pub fn seal(&self) -> &Seal {
        &self.seal
    }

    /// Checks that the seal is the one that its entry declares, and that the entry leads to the checkpoint.
    pub(super) fn check(&self, checkpoint: &Checkpoint) -> Result<(), LedgerError> {
        let of_entry = |error: LedgerError| error.of_entry(self.seq);
        let leaf = self.opening.leaf().hash();
        let (size, root) = (checkpoint.size(), checkpoint.root());
        verify_inclusion(&leaf, self.seq, size, &self.path_of_seal, root).map_err(of_entry)?;
        let declared = ProvenEntry::of(self.seq, &self.opening).and_then(|entry| Seal::of(&entry));
        if declared.map_err(of_entry)? == self.seal {
            return Ok(());
        }
        Err(of_entry(malformed(
            "the one that this entry declares has another end, another root, or more workspaces or fewer",
        )))
    }

    /// Checks that the entries that lead to this tree are all of the workspace, as they were sealed.
    pub(super) fn is_all(&self, reached: &Frontier) -> Result<(), LedgerError> {
        if reached.size() != self.entries {
            return Err(malformed(format!(
                "it is of {} entries of the workspace, and there are {}: some were removed or added",
                self.entries,
                reached.size()
            )));
        }
        let leaf = seal_leaf(self.workspace, &self.blind, reached.size(), &reached.root());
        verify_inclusion(&leaf, self.index, self.seal.workspaces, &self.path, &self.seal.root).map_err(
            |error| match error {
                LedgerError::Root => LedgerError::NotAsSealed,
                other => other,
            },
        )
    }
}

/// How many entries of a workspace there are, and the root of the tree over them: what its owner keeps of a bundle, so that a later one
/// can leave out the entries that this one had.
///
/// `Display` and `FromStr` are the number and the root in base64, with a blank between them.
///
/// ```
/// use tracing_audit::ledger::PartEnd;
///
/// let kept: PartEnd = "8 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".parse()?;
/// assert_eq!(kept.entries, 8);
/// # Ok::<(), tracing_audit::ledger::LedgerError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartEnd {
    /// The number of entries.
    pub entries: u64,
    /// The root of the tree over them.
    pub root: Hash,
}

impl PartEnd {
    pub(super) fn of(tree: &Frontier) -> Self {
        Self { entries: tree.size(), root: tree.root() }
    }
}

impl fmt::Display for PartEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.entries, STANDARD.encode(self.root))
    }
}

impl FromStr for PartEnd {
    type Err = LedgerError;

    fn from_str(text: &str) -> Result<Self, LedgerError> {
        let read = || {
            let (entries, root) = text.split_once(' ')?;
            Some(Self { entries: entries.parse().ok()?, root: hash_of(root)? })
        };
        read().filter(|read| read.to_string() == text).ok_or_else(|| {
            let problem =
                format!("{text:?} is not the number of its entries, a blank, and 32 bytes in base64");
            LedgerError::malformed("end of a part", problem)
        })
    }
}

/// The root over the leaves of a subtree.
fn over(leaves: &[Hash], subtree: Subtree) -> Option<Hash> {
    let first = usize::try_from(subtree.index << subtree.level).ok()?;
    let length = 1_usize.checked_shl(subtree.level.into())?;
    Some(root_over(leaves.get(first..first.checked_add(length)?)?))
}
