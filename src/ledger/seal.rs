//! Seals: a root over the trees of all workspaces, each of which is over the entries of one.

use std::{collections::HashMap, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};
use uuid::Uuid;

use super::{
    entry_proof::hash_of,
    frontier::Frontier,
    hash::{BLIND, Hash, LEAF, sha256},
    ledger_error::LedgerError,
    proven::{ProvenEntry, Shown},
    seeds::Seed,
};

/// The beginnings of the data of leaves: of an entry in its workspace's tree, and of a workspace in the tree of a seal.
const PART: &[u8] = b"tracing-audit/part@v1\n";
const SEAL: &[u8] = b"tracing-audit/seal@v1\n";

/// The action of the entry that declares a seal.
const ACTION: &str = "audit.sealed";

/// Random bytes in the leaf of a workspace. Without them nobody can test a guess of what another leaf stands for.
pub(super) type Blind = [u8; 16];

/// The leaf of an entry in the tree of its workspace.
pub(super) fn part_leaf(seq: u64, leaf: &Hash) -> Hash {
    sha256(&[&[LEAF][..], PART, &seq.to_be_bytes(), leaf].concat())
}

/// The blind of a workspace in a seal with this seed.
pub(super) fn blind(seed: &Seed, workspace: Uuid) -> Blind {
    let hash = sha256(&[&[BLIND][..], seed, workspace.as_bytes()].concat());
    let mut blind = Blind::default();
    blind.copy_from_slice(hash.split_at(16).0);
    blind
}

/// The leaf of a workspace in a seal: the number of its entries, and the root of their tree.
pub(super) fn seal_leaf(workspace: Uuid, blind: &Blind, entries: u64, root: &Hash) -> Hash {
    sha256(&[&[LEAF][..], SEAL, workspace.as_bytes(), blind, &entries.to_be_bytes(), root].concat())
}

/// The trees of the workspaces of a ledger: the part of each workspace, which is a tree over its entries in their order.
///
/// ```
/// use tracing_audit::ledger::{Parts, leaf_hash};
/// use uuid::Uuid;
///
/// let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
/// let mut parts = Parts::new();
/// for (seq, workspace) in [(0, one), (1, other), (2, one)] {
///     parts.push(workspace, seq, &leaf_hash(b"an entry"));
/// }
/// assert_eq!(parts.get(one).map(|part| part.size()), Some(2));
/// assert_eq!(parts.seal(3, &[7; 16]).workspaces(), 2);
/// ```
#[derive(Clone, Default)]
pub struct Parts {
    parts: HashMap<Uuid, Frontier>,
}

impl Parts {
    /// Those of an empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an entry with this leaf to the tree of its workspace. The entries come in the order of their numbers.
    pub fn push(&mut self, workspace: Uuid, seq: u64, leaf: &Hash) {
        self.parts.entry(workspace).or_default().push(part_leaf(seq, leaf));
    }

    /// The tree of a workspace. `None` if it has no entry.
    #[must_use]
    pub fn get(&self, workspace: Uuid) -> Option<&Frontier> {
        self.parts.get(&workspace)
    }

    /// The number of workspaces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The seal over them, which are those of the entries before `until`. The blinds are made of the seed.
    #[must_use]
    pub fn seal(&self, until: u64, seed: &Seed) -> Seal {
        let leaves = self.leaves(seed);
        Seal { until, workspaces: leaves.len() as u64, root: root_over(&leaves) }
    }

    /// The leaves of a seal over them, in their order in its tree.
    pub(super) fn leaves(&self, seed: &Seed) -> Vec<Hash> {
        let leaf = |(workspace, part): (&Uuid, &Frontier)| {
            seal_leaf(*workspace, &blind(seed, *workspace), part.size(), &part.root())
        };
        let mut leaves: Vec<Hash> = self.parts.iter().map(leaf).collect();
        leaves.sort_unstable();
        leaves
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("workspaces", &self.parts.len()).finish_non_exhaustive()
    }
}

/// The root of the tree over these leaves.
pub(super) fn root_over(leaves: &[Hash]) -> Hash {
    let mut tree = Frontier::new();
    for leaf in leaves {
        tree.push(*leaf);
    }
    tree.root()
}

/// A root over the parts of all workspaces, for the entries before one number. An entry with the action `audit.sealed` declares it,
/// so that it is in the tree of the ledger.
///
/// By it the entries of one workspace can be proven to be all that it had: see [`SealedPart`](super::SealedPart). The order of its
/// leaves is that of their hashes, which says nothing of the workspaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    pub(super) until: u64,
    pub(super) workspaces: u64,
    pub(super) root: Hash,
}

/// The metadata of the entry that declares a seal. There may be others beside them.
#[derive(Deserialize)]
struct Declared {
    until: u64,
    workspaces: u64,
    root: String,
    seed: Option<String>,
}

impl Seal {
    /// The number after those of the entries that are sealed.
    #[must_use]
    pub fn until(&self) -> u64 {
        self.until
    }

    /// The number of workspaces that have entries.
    #[must_use]
    pub fn workspaces(&self) -> u64 {
        self.workspaces
    }

    /// The root over the parts of the workspaces.
    #[must_use]
    pub fn root(&self) -> &Hash {
        &self.root
    }

    /// The seal that an entry declares, whose values are proven.
    ///
    /// # Errors
    ///
    /// If it declares none, if an application has written it and not the log itself, or if it does not show its core and the members
    /// `until`, `workspaces` and `root` of its metadata.
    pub fn of(entry: &ProvenEntry) -> Result<Self, LedgerError> {
        let Shown::Open(core) = &entry.core else {
            return Err(malformed("its entry does not show its core"));
        };
        if core.action != ACTION {
            return Err(malformed(format!("its entry has the action {:?}, and not {ACTION:?}", core.action)));
        }
        if entry.problems != Shown::Absent {
            return Err(malformed("an application has written its entry, and not the log itself"));
        }
        let declared = declared(entry)?;
        let root = hash_of(&declared.root).ok_or_else(|| malformed("its root is not 32 bytes in base64"))?;
        if declared.until > entry.seq {
            return Err(malformed(format!(
                "it is of the entries before {}, and its own entry, {}, is among them",
                declared.until, entry.seq
            )));
        }
        Ok(Self { until: declared.until, workspaces: declared.workspaces, root })
    }

    /// The seed of the seal that an entry declares.
    ///
    /// # Errors
    ///
    /// If the entry does not show it.
    pub fn seed_of(entry: &ProvenEntry) -> Result<Seed, LedgerError> {
        let seed = declared(entry)?.seed.and_then(|seed| Seed::try_from(STANDARD.decode(seed).ok()?).ok());
        seed.ok_or_else(|| malformed("its entry shows no seed of 16 bytes in base64"))
    }

    /// Its root, and a seed, as the entry that declares it has them.
    #[must_use]
    pub fn spelled(&self, seed: &Seed) -> [String; 2] {
        [STANDARD.encode(self.root), STANDARD.encode(seed)]
    }
}

impl Serialize for Seal {
    /// An object with `until`, `workspaces` and `root`, which is in base64.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seal = serializer.serialize_struct("Seal", 3)?;
        seal.serialize_field("until", &self.until)?;
        seal.serialize_field("workspaces", &self.workspaces)?;
        seal.serialize_field("root", &STANDARD.encode(self.root))?;
        seal.end()
    }
}

fn declared(entry: &ProvenEntry) -> Result<Declared, LedgerError> {
    let Shown::Open(metadata) = &entry.metadata else {
        return Err(malformed("its entry does not show its metadata"));
    };
    serde_json::from_str(metadata)
        .map_err(|error| malformed(format!("the metadata of its entry declare none: {error}")))
}

pub(super) fn malformed(problem: impl Into<String>) -> LedgerError {
    let problem: String = problem.into();
    LedgerError::malformed("seal", problem)
}
