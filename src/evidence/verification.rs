//! `Verification`: against what a ledger is verified, and how.

use std::fmt;

use super::{anchor::Anchor, chunk::OVER_CHUNK, finding::Finding, state::VerifyState};

/// Against what a ledger is verified, and how: see [`AuditReader::verify`](crate::AuditReader::verify).
///
/// ```
/// use tracing_audit::evidence::{Anchor, Verification};
///
/// let kept: Anchor = "7 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".parse()?;
/// let verification = Verification::against(kept).jobs(2);
/// # Ok::<(), tracing_audit::AuditError>(())
/// ```
#[must_use]
pub struct Verification {
    pub(super) anchors: Vec<Anchor>,
    /// Checkpoints that are not signed as they must be.
    pub(super) refused: Vec<Finding>,
    pub(super) state: Option<VerifyState>,
    /// The state of earlier runs, also if it is no place to begin at: what is left in its place must continue it.
    pub(super) before: Option<VerifyState>,
    pub(super) whole: bool,
    /// Whether seals are verified too.
    pub(super) seals: bool,
    pub(super) jobs: usize,
    /// The level of the node over a range.
    pub(super) level: u8,
    pub(super) on_progress: Box<dyn FnMut(VerifyProgress) + Send>,
    pub(super) on_state: Box<dyn FnMut(&VerifyState) + Send>,
}

/// The progress of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyProgress {
    /// The `seq` after the last entry that was read.
    pub reached: u64,
    /// The `seq` at which reading ends.
    pub until: u64,
}

impl Verification {
    /// Against nothing from outside: only whether all that the database holds fits together.
    pub fn of_itself() -> Self {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from).min(4);
        Self {
            anchors: Vec::new(),
            refused: Vec::new(),
            state: None,
            before: None,
            whole: false,
            seals: false,
            jobs,
            level: OVER_CHUNK,
            on_progress: Box::new(|_| ()),
            on_state: Box::new(|_| ()),
        }
    }

    /// Against a checkpoint that was kept outside of the database.
    pub fn against(anchor: impl Into<Anchor>) -> Self {
        Self::of_itself().and(anchor)
    }

    /// Verifies against this checkpoint too. The more there are, the closer a change is located that reached up to the
    /// root.
    pub fn and(mut self, anchor: impl Into<Anchor>) -> Self {
        self.anchors.push(anchor.into());
        self
    }

    /// Continues where an earlier run has ended or was interrupted, which is an anchor too: only the entries that were
    /// committed since are read, and up to 65 535 entries before them. A change to an earlier entry is found only by
    /// [`whole`](Self::whole). The findings of earlier runs are reported again.
    ///
    /// If a checkpoint contradicts the state, everything is read without regard to it. One that is older than the state says
    /// nothing against it.
    pub fn state(self, state: VerifyState) -> Self {
        Self { before: Some(state.clone()), state: Some(state), ..self }
    }

    /// Begins with the first entry, also if there is a state, which then is an anchor only.
    pub fn whole(self) -> Self {
        Self { whole: true, ..self }
    }

    /// Also whether each [seal](crate::AuditLog::seal) is that of the entries before it, also before a state. It reads the workspace
    /// and the leaf hash of every entry once more, and its memory grows with the number of workspaces: some 400 bytes for each.
    pub fn seals(self) -> Self {
        Self { seals: true, ..self }
    }

    /// How many ranges of 65 536 entries are read at the same time, each on a connection and a thread of its own. Default: the
    /// number of cores, at most 4, which is also the most. Each takes some 20 MiB at most.
    pub fn jobs(self, jobs: usize) -> Self {
        Self { jobs: jobs.clamp(1, 4), ..self }
    }

    /// Ranges of this many entries, a power of two from 512 to 65 536, so that a small ledger in a test has several.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn ranges_of(self, entries: u64) -> Self {
        let level =
            u8::try_from(entries.trailing_zeros()).map_or(OVER_CHUNK, |level| level.clamp(9, OVER_CHUNK));
        Self { level, ..self }
    }

    /// Calls this after each range.
    pub fn on_progress(self, on_progress: impl FnMut(VerifyProgress) + Send + 'static) -> Self {
        Self { on_progress: Box::new(on_progress), ..self }
    }

    /// Calls this after each range with the state in which an interrupted run can be continued. With an [earlier
    /// state](Self::state), only from there on, and only if what was read leads through it.
    pub fn on_state(self, on_state: impl FnMut(&VerifyState) + Send + 'static) -> Self {
        Self { on_state: Box::new(on_state), ..self }
    }
}

impl fmt::Debug for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verification")
            .field("anchors", &self.anchors)
            .field("state", &self.state.as_ref().map(VerifyState::size))
            .field("whole", &self.whole)
            .field("jobs", &self.jobs)
            .finish_non_exhaustive()
    }
}
