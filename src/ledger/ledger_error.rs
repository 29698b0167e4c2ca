//! The error of the room: an index, a size, a proof or a text that does not hold.

use std::{borrow::Cow, error::Error, fmt};

/// An index, a size, a proof, or bytes of a tree that do not hold, described in one sentence.
///
/// [`Root`](Self::Root) says that something was changed, or that the proof belongs to another tree, and
/// [`NotAsSealed`](Self::NotAsSealed) that entries of a workspace were left out, added, moved or changed.
/// [`BadSignature`](Self::BadSignature), [`UnknownKey`](Self::UnknownKey), [`KeyOutOfInterval`](Self::KeyOutOfInterval) and
/// [`Unwitnessed`](Self::Unwitnessed) say why a signed checkpoint is not to be believed, [`Untrusted`](Self::Untrusted) why one is not
/// that of a proof. All others say that the input is not of the form that it has to have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LedgerError {
    /// A tree of this size has no leaf with this index.
    Index {
        /// The index that was asked for, from 0.
        index: u64,
        /// The number of leaves of the tree.
        size: u64,
    },
    /// The earlier of two trees is larger than the later one.
    Sizes {
        /// The number of leaves of the earlier tree.
        from: u64,
        /// The number of leaves of the later tree.
        to: u64,
    },
    /// The size is larger than a tree can be, which is 2⁶³ - 1 leaves.
    TooLarge {
        /// The number of leaves.
        size: u64,
    },
    /// A proof has another number of hashes than one for these sizes.
    Length {
        /// The number of hashes that it must have.
        expected: usize,
        /// The number of hashes that it has.
        found: usize,
    },
    /// The hashes of a proof lead to another root than the one that is given.
    Root,
    /// A signature by a key that is trusted does not hold: the text or the signature is not as it was signed.
    #[non_exhaustive]
    BadSignature {
        /// The name and the id of the key.
        key: String,
    },
    /// No key that is trusted for this log has signed.
    #[non_exhaustive]
    UnknownKey {
        /// The origin of the log.
        origin: String,
        /// The names and the ids of the keys that have signed. Empty if it is not signed.
        signed_by: Vec<String>,
    },
    /// A key that is trusted for this log has signed, but may not sign a tree of this size, and no other one has signed.
    #[non_exhaustive]
    KeyOutOfInterval {
        /// The name and the id of the key.
        key: String,
        /// The size of the tree that it has signed.
        size: u64,
        /// The least size that it may sign.
        from: u64,
        /// The size from which on it may not sign any more. `None` if there is none.
        until: Option<u64>,
    },
    /// Fewer witnesses have signed than are asked for.
    #[non_exhaustive]
    Unwitnessed {
        /// The name of the quorum.
        quorum: String,
    },
    /// The checkpoint of a proof or of a bundle is not one that is trusted.
    #[non_exhaustive]
    Untrusted {
        /// The reason, with the remedy where there is one.
        problem: Cow<'static, str>,
    },
    /// An entry of a bundle does not hold.
    #[non_exhaustive]
    Entry {
        /// The number of the entry.
        seq: u64,
        /// The reason.
        cause: Box<LedgerError>,
    },
    /// The entries of a workspace are not those that were sealed: one was left out, added, moved or changed.
    NotAsSealed,
    /// Bytes or a text are not of the form that they must have.
    #[non_exhaustive]
    Malformed {
        /// The name of what is malformed, such as `checkpoint`.
        what: &'static str,
        /// The reason, with the remedy where there is one.
        problem: Cow<'static, str>,
    },
}

impl LedgerError {
    pub(super) fn malformed(what: &'static str, problem: impl Into<Cow<'static, str>>) -> Self {
        Self::Malformed { what, problem: problem.into() }
    }

    pub(super) fn untrusted(problem: impl Into<Cow<'static, str>>) -> Self {
        Self::Untrusted { problem: problem.into() }
    }

    /// The error as that of one entry of many.
    pub(super) fn of_entry(self, seq: u64) -> Self {
        Self::Entry { seq, cause: Box::new(self) }
    }
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index { index, size } => {
                write!(f, "there is no leaf {index} in a tree of {size} leaves, which are numbered from 0")
            }
            Self::Sizes { from, to } => {
                write!(f, "a tree of {from} leaves cannot have become one of {to}: a tree only grows")
            }
            Self::TooLarge { size } => {
                write!(f, "a tree has at most {} leaves, and not {size}", super::MOST_LEAVES)
            }
            Self::Length { expected, found } => {
                write!(f, "a proof for these sizes has {expected} hashes, and this one has {found}")
            }
            Self::Root => f.write_str(
                "the proof leads to another root: what it is about was changed, or it is the proof of something else",
            ),
            Self::BadSignature { key } => write!(
                f,
                "the signature of the key {key} does not hold: the checkpoint is not as it was signed, or this key has not signed it"
            ),
            Self::UnknownKey { origin, signed_by } => {
                write!(f, "no key that is trusted for {origin:?} has signed the checkpoint; it is ")?;
                match &**signed_by {
                    [] => f.write_str("not signed"),
                    keys => write!(f, "signed by {}", keys.join(", ")),
                }
            }
            Self::KeyOutOfInterval { key, size, from, until } => {
                write!(f, "the key {key} has signed a tree of {size} entries, and may sign sizes from {from} on")?;
                match until {
                    Some(until) => write!(f, ", below {until}"),
                    None => Ok(()),
                }
            }
            Self::Unwitnessed { quorum } => {
                write!(f, "the checkpoint lacks signatures of witnesses: those of the quorum {quorum:?}")
            }
            Self::Untrusted { problem } => f.write_str(problem),
            Self::NotAsSealed => f.write_str(
                "the entries are not all those of the workspace as they were sealed: one was left out, added, moved or changed",
            ),
            Self::Entry { seq, cause } => write!(f, "entry {seq}: {cause}"),
            Self::Malformed { what, problem } => write!(f, "malformed {what}: {problem}"),
        }
    }
}

impl Error for LedgerError {}
