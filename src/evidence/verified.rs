//! `Verified`: what was verified, and what was found.

use super::{finding::Finding, state::VerifyState};
use crate::ledger::Checkpoint;

/// The outcome of a verification: the part that was verified, and the findings. A change that was found is no error:
/// see [`findings`](Self::findings).
#[derive(Clone, Debug)]
pub struct Verified {
    pub(super) ledger: String,
    pub(super) size: u64,
    pub(super) covered: u64,
    pub(super) anchored: bool,
    pub(super) entries: u64,
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) findings: Vec<Finding>,
    pub(super) more: u64,
    pub(super) state: Option<VerifyState>,
}

impl Verified {
    /// Adds checkpoints that are not signed as they must be.
    pub(super) fn and_refused(mut self, refused: Vec<Finding>) -> Self {
        self.findings.splice(0..0, refused);
        self
    }

    /// Adds seals that are not those of the entries before them.
    pub(super) fn and_seals(mut self, wrong: Vec<Finding>) -> Self {
        if !wrong.is_empty() {
            self.findings.extend(wrong);
            self.findings
                .sort_by_key(|found| (found.kind.is_information(), found.from, found.kind, found.until));
        }
        self
    }

    /// The name of the ledger.
    #[must_use]
    pub fn ledger(&self) -> &str {
        &self.ledger
    }

    /// The number of entries that the head of the ledger counts.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The number of entries, from the first, that the largest anchor covers to whose root the ledger leads. 0 if there is none.
    #[must_use]
    pub fn covered(&self) -> u64 {
        self.covered
    }

    /// Whether the ledger leads to the root of an anchor that covers at least one entry.
    #[must_use]
    pub fn is_anchored(&self) -> bool {
        self.anchored
    }

    /// The number of entries that were read. Entries before a state were not.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The checkpoint of the tree that was read: keep it outside of the database if nothing was found. `None` if a leaf hash is
    /// missing, or if the ledger has no name in checkpoints.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// The changes that were found, in the order of the entries; then the findings that are no sign of a change, and
    /// worth knowing. The findings of the state are among them.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The number of findings beyond the ten thousand that are kept.
    #[must_use]
    pub fn more(&self) -> u64 {
        self.more
    }

    /// Whether nothing was found that is a sign of a change. It says nothing of entries that no anchor covers:
    /// [`covered`](Self::covered).
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.more == 0 && self.findings.iter().all(|found| found.kind.is_information())
    }

    /// The state from which the next run begins: the earlier state, unless the ledger leads through that and goes on
    /// from there. `None` if there was none, and leaf hashes are missing.
    #[must_use]
    pub fn state(&self) -> Option<&VerifyState> {
        self.state.as_ref()
    }
}
