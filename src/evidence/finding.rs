//! `Finding`: one thing in a ledger that is not as it was, or that is worth knowing.

use std::{fmt, ops::Range};

use serde::{Deserialize, Serialize};

/// The kind of a [`Finding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FindingKind {
    /// An entry is not as it was committed.
    Modified,
    /// An entry is gone.
    Missing,
    /// A row that no writer has committed: beyond the head, before the first entry, or twice.
    Added,
    /// An entry stands at the place of another one.
    Moved,
    /// The row of a batch, its seed or its leaf hashes were changed or removed, or all its entries were.
    BatchAltered,
    /// Leaf hashes were changed, so that it cannot be said which of these entries were changed too.
    TileAltered,
    /// The hash of a node was changed or removed, and nothing below it.
    NodeAltered,
    /// The head of the ledger is not what its entries lead to.
    HeadAltered,
    /// A seal is not that of the entries before it.
    SealWrong,
    /// The end of the ledger was cut off.
    Truncated,
    /// The ledger was replaced by an earlier state of it, and other entries were committed since.
    RolledBack,
    /// The ledger has another root than a checkpoint of the same size, or is another ledger.
    Forked,
    /// A table is not as this crate makes it, or something hangs on it. Nothing is read through a view in the place of one.
    SchemaAltered,
    /// A signature of a checkpoint does not hold.
    BadSignature,
    /// A checkpoint is signed by no key that is trusted for it, or is not signed at all.
    UnknownKey,
    /// A checkpoint is signed only by keys that may not sign a tree of its size, such as one after its rotation.
    KeyOutOfInterval,
    /// A checkpoint lacks signatures of witnesses that are asked for.
    Unsigned,
    /// Nothing from outside speaks for these entries. Information.
    NotCovered,
    /// Numbers of a writer are in no batch and not in quarantine. Information.
    WriterGap,
    /// Records are in quarantine, where no tree covers them. Information.
    Quarantined,
    /// Entries `audit.gap` say that others were lost. Information.
    Losses,
}

impl FindingKind {
    /// Whether it is worth knowing, and no sign of a change.
    #[must_use]
    pub fn is_information(self) -> bool {
        matches!(self, Self::NotCovered | Self::WriterGap | Self::Quarantined | Self::Losses)
    }

    /// Whether it is about a checkpoint that is not signed as it must be, and says nothing of the ledger.
    #[must_use]
    pub fn is_about_a_checkpoint(self) -> bool {
        matches!(self, Self::BadSignature | Self::UnknownKey | Self::KeyOutOfInterval | Self::Unsigned)
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One thing in a ledger that is not as it was, or that is worth knowing. A finding is a result, not an error.
///
/// `Display` is one line, such as `Modified 7: the entry is not as it was committed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Finding {
    /// The kind of the finding.
    #[serde(rename = "finding")]
    pub kind: FindingKind,
    /// The `seq` of the first entry that it is about. Somebody may have added one below 0.
    pub from: i64,
    /// The `seq` after the last entry that it is about. The same as `from` if it is about no entry.
    pub until: i64,
    /// The `seq` at which a [`Moved`](FindingKind::Moved) entry was committed. `None` for other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub belongs_at: Option<u64>,
    /// The sentence that says what was found.
    pub text: String,
}

impl Finding {
    pub(super) fn new(kind: FindingKind, range: Range<u64>, text: impl Into<String>) -> Self {
        let bounded = |seq| i64::try_from(seq).unwrap_or(i64::MAX);
        let (from, until) = (bounded(range.start), bounded(range.end));
        Self { kind, from, until, belongs_at: None, text: text.into() }
    }

    /// A finding about one entry, which may have an impossible `seq`.
    pub(super) fn at(kind: FindingKind, seq: i64, text: impl Into<String>) -> Self {
        Self { kind, from: seq, until: seq.saturating_add(1), belongs_at: None, text: text.into() }
    }

    /// The entries that it is about.
    pub(super) fn range(&self) -> Range<i64> {
        self.from..self.until
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, from, until, belongs_at, text } = self;
        write!(f, "{kind}")?;
        match until.saturating_sub(*from) {
            0 => {}
            1 => write!(f, " {from}")?,
            _ => write!(f, " {from} to {}", until.saturating_sub(1))?,
        }
        if let Some(belongs_at) = belongs_at {
            write!(f, " from {belongs_at}")?;
        }
        write!(f, ": {text}")
    }
}
