//! The leaf of an entry: a salted commitment to each of its fields.

use std::{fmt, ops::Range};

use super::{
    columns::{Columns, Committed, Tag},
    hash::{COMMITMENT, Hash, LEAF, sha256, sha256_short},
    seeds::{Salt, Salts, Seed},
};

/// The beginning of the data of a leaf.
const LABEL: &[u8] = b"tracing-audit/entry@v1\n";

/// The bytes of a field in a leaf: its tag and its commitment.
const FIELD_BYTES: usize = 1 + 32;

/// The leaf of an entry, which shows no value: a line that names its version, then the tag of each field and a commitment to it.
///
/// A commitment is the hash of the tag, a salt and the value. Without the salt nobody can test it against a guess.
///
/// A `Leaf` can be used for one entry after the other, which saves its allocations. [`prepare`](Self::prepare) commits to what
/// is known of an entry before its batch is committed, [`finish`](Self::finish) to the rest.
#[derive(Clone, Default)]
pub struct Leaf {
    /// The byte that makes it a leaf, then its data.
    message: Vec<u8>,
    core_salt: Salt,
    /// The message of one commitment.
    scratch: Vec<u8>,
    members: Vec<Range<usize>>,
}

impl Leaf {
    /// A leaf of no entry, whose data are a label and nothing else. It stands in the tree for a number that no entry has,
    /// because somebody had removed the entry, or its batch, before the tree came that far.
    #[must_use]
    pub fn new() -> Self {
        let mut leaf = Self::default();
        leaf.begin();
        leaf
    }

    /// The leaf of an entry.
    #[must_use]
    pub fn of(columns: &Columns<'_>, committed: &Committed, seed: &Seed) -> Self {
        let mut leaf = Self::new();
        leaf.prepare(columns, seed);
        leaf.finish(columns, committed);
        leaf
    }

    /// Commits to all fields but the core. They depend neither on the entry's place in the ledger nor on its batch.
    pub fn prepare(&mut self, columns: &Columns<'_>, seed: &Seed) {
        let mut salts = Salts::of(seed);
        self.core_salt = salts.next();
        self.begin();
        // The place of the core.
        self.message.push(Tag::Core as u8);
        self.message.extend_from_slice(&[0; 32]);
        columns.fields(&mut self.members, |tag, value| {
            let commitment = commitment(&mut self.scratch, tag, &salts.next(), value);
            self.message.push(tag as u8);
            self.message.extend_from_slice(&commitment);
        });
    }

    /// Commits to the core, and returns the hash of the leaf. The columns must be those that it was prepared with.
    pub fn finish(&mut self, columns: &Columns<'_>, committed: &Committed) -> Hash {
        self.scratch.clear();
        self.scratch.extend_from_slice(&beginning(Tag::Core, &self.core_salt));
        columns.core(committed, &mut self.scratch);
        let core = sha256(&self.scratch);
        let begin = 1 + LABEL.len() + 1;
        if let Some(place) = self.message.get_mut(begin..begin + 32) {
            place.copy_from_slice(&core);
        }
        self.hash()
    }

    /// The hash of the leaf.
    #[must_use]
    pub fn hash(&self) -> Hash {
        sha256(&self.message)
    }

    /// The data of the leaf, of which [`leaf_hash`](super::leaf_hash) makes its hash.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.message.split_first().map_or(&[], |(_, data)| data)
    }

    /// The tag of each field, and the commitment to it.
    pub fn commitments(&self) -> impl Iterator<Item = (u8, &Hash)> {
        let fields = self.data().get(LABEL.len()..).unwrap_or_default();
        fields.as_chunks::<FIELD_BYTES>().0.iter().filter_map(|field| Some((field[0], field.last_chunk()?)))
    }

    fn begin(&mut self) {
        self.message.clear();
        self.message.push(LEAF);
        self.message.extend_from_slice(LABEL);
    }

    /// Adds a field to which somebody else has committed.
    pub(super) fn push(&mut self, tag: Tag, commitment: &Hash) {
        self.message.push(tag as u8);
        self.message.extend_from_slice(commitment);
    }
}

impl PartialEq for Leaf {
    fn eq(&self, other: &Self) -> bool {
        self.message == other.message
    }
}

impl Eq for Leaf {}

impl fmt::Debug for Leaf {
    /// Shows no salt and no value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf").field("fields", &self.commitments().count()).finish_non_exhaustive()
    }
}

/// The commitment to a value.
#[inline]
pub(super) fn commitment(scratch: &mut Vec<u8>, tag: Tag, salt: &Salt, value: &[u8]) -> Hash {
    let beginning = beginning(tag, salt);
    sha256_short(&beginning, value).unwrap_or_else(|| {
        scratch.clear();
        scratch.extend_from_slice(&beginning);
        scratch.extend_from_slice(value);
        sha256(scratch)
    })
}

/// The bytes of a commitment's message before the value.
fn beginning(tag: Tag, salt: &Salt) -> [u8; 18] {
    let mut bytes = [0; 18];
    let [kind, number, rest @ ..] = &mut bytes;
    (*kind, *number, *rest) = (COMMITMENT, tag as u8, *salt);
    bytes
}
