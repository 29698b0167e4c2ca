//! The integrity of a ledger, without a database: leaves, trees, proofs and checkpoints, byte by byte.
//!
//! The entries of a ledger are the leaves of one tree, that of [RFC 6962](https://www.rfc-editor.org/rfc/rfc6962) with SHA-256:
//! leaf *i* is the entry with `seq` *i*. A person who keeps the size and the root of the tree somewhere else, a
//! [`Checkpoint`], can prove later that an entry was in the ledger then and was not changed since, and that the ledger
//! was only appended to.
//!
//! A [`Leaf`] shows no value. It is a list of commitments, one for each field of the entry: the hash of the value together with a
//! salt, without which nobody can test a guess. So a field can be withheld or erased, and everything else is still proven. The
//! salts come from the entry's seed, and the seeds of a batch from one: [`Seeds`].
//!
//! | file | what it does |
//! |---|---|
//! | `hash` | SHA-256 of leaves, nodes, commitments and seeds |
//! | `ledger_error` | `LedgerError`, the error of the room |
//! | `members` | cuts the text of a JSON object into its members |
//! | `columns` | the fields of an entry, and their bytes |
//! | `seeds` | a seed for each entry of a batch out of one, and salts out of it |
//! | `leaf` | the leaf of an entry: a commitment to each of its fields |
//! | `opening` | the fields of an entry with their salts, each open or withheld |
//! | `subtree` | full subtrees: their place, and where their hashes are stored |
//! | `frontier` | the right edge of a growing tree: takes leaves, gives the root and the nodes to be stored |
//! | `tile` | the files into which the hashes of a tree are cut, and their names |
//! | `shape` | which subtrees a proof is made of |
//! | `proof` | verifies proofs of inclusion and of consistency |
//! | `origin` | the name of a ledger in its checkpoints |
//! | `checkpoint` | the size and the root of a tree as a text |
//! | `note` | a text with signatures on it, a line each |
//! | `signer` | `Signer`, who signs checkpoints |
//! | `statement` | the statement of a batch, which its writer signs |
//! | `key` | keys: signs and verifies; with the feature `signing` |
//! | `trust` | whose signatures a checkpoint must have; with the feature `signing` |
//! | `noted` | a checkpoint with the lines of its signatures, and who trusts it |
//! | `disclosure` | the choice of the fields of an entry that are shown; all others are withheld |
//! | `proven` | the values of an entry that are proven |
//! | `entry_proof` | a proof of one entry as a file |
//! | `seal` | the trees of the workspaces, and the seal over them |
//! | `part` | the part of one workspace in a seal |
//! | `consistency_proof` | a proof that one tree begins with another, as a file |
//! | `bundle` | the lines of a file that proves many entries |
//! | `bundle_writer` | makes such a file, line by line |
//! | `bundle_verifier` | verifies such a file, line by line |
//!
//! Two decisions are about ledgers that are older than their tree, or were written without it:
//!
//! - A number that has no entry when the tree comes that far, because somebody had removed the entry, has a leaf without fields:
//!   `SHA-256(00, "tracing-audit/entry@v1\n")`. So the leaf with index *i* is always that of `seq` *i*, and an entry that is put there
//!   later is found.
//! - A range of numbers that no batch accounts for, because somebody had removed the row of the batch, has a row of leaf hashes with
//!   empty seeds, and leaves without fields. Without the batch the writer, the position and the time of commit are unknown, so
//!   entries that are left there cannot be proven: they are found as added.
//!
//! Nothing here does I/O, waits, or panics, whatever it is given; only a private key that signs as a `Signer` reads the
//! clock. Proofs that are made here can be verified by any other implementation of RFC 6962. Only the leaf is this
//! crate's own:
//!
//! ```text
//! leaf data  = "tracing-audit/entry@v1\n", then for each field its tag (1 byte) and its commitment (32 bytes)
//! commitment = SHA-256(02, tag, salt (16 bytes), value)
//! salts      = SHA-256(03, seed of the entry, number of the pair (2 bytes)), halved: those of two fields, one after the other
//! seeds      = SHA-256(04, seed), halved: the two below it; the entry's seed is 24 steps below that of its batch
//! ```

mod bundle;
mod bundle_verifier;
mod bundle_writer;
mod checkpoint;
mod columns;
mod consistency_proof;
mod disclosure;
mod entry_proof;
mod frontier;
mod hash;
#[cfg(feature = "signing")]
mod key;
mod leaf;
mod ledger_error;
mod members;
mod note;
mod noted;
mod opening;
mod origin;
mod part;
mod proof;
mod proven;
mod seal;
mod seeds;
mod shape;
mod signer;
mod statement;
mod subtree;
#[cfg(test)]
mod tests;
mod tile;
#[cfg(feature = "signing")]
mod trust;

pub use bundle_verifier::{BundleVerifier, VerifiedBundle, VerifiedPart};
pub use bundle_writer::BundleWriter;
pub use checkpoint::Checkpoint;
pub use columns::{Columns, Committed, Tag};
pub use consistency_proof::ConsistencyProof;
pub use disclosure::Disclosure;
pub use entry_proof::Proof;
pub use frontier::Frontier;
pub use hash::{EMPTY_ROOT, Hash, leaf_hash, node_hash};
#[cfg(feature = "signing")]
pub use key::{PrivateKey, SignatureType, VerifierKey};
pub use leaf::Leaf;
pub use ledger_error::LedgerError;
pub use note::{Note, NoteSignature};
pub use noted::{AsGiven, NotedCheckpoint, Trusts};
pub use opening::{Field, Opening};
pub use origin::Origin;
pub use part::{PartEnd, SealedPart};
pub use proof::{verify_consistency, verify_inclusion};
pub use proven::{ProvenCore, ProvenEntry, Shown};
pub use seal::{Parts, Seal};
pub use seeds::{Salt, Seed, Seeds, SeedsInOrder};
pub use shape::ProofShape;
pub use signer::Signer;
pub use statement::batch_statement;
pub use subtree::{MOST_LEAVES, Node, Subtree};
pub use tile::Tile;
#[cfg(feature = "signing")]
pub use trust::{OpenedCheckpoint, Trust};
