//! The user's decisions about a queue: how an emitter behaves when the queue is full, and which failures an entry in it
//! survives.

use std::time::Duration;

/// The behaviour of an emitter when the queue is full.
///
/// A journal's write takes a microsecond, but its disk may hang. Nothing can interrupt an emitter whose own write hangs
/// in the kernel. The emitters behind it wait for it as they would for room, with [`Reject`](Self::Reject) for at most
/// a second, and are then rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// Wait for room, at most `timeout`, then reject. Once an emitter has waited that long without getting room,
    /// further entries are rejected at once until there is room again, so that a dead database costs an application
    /// one delay.
    Block {
        /// The longest wait.
        timeout: Duration,
    },
    /// Reject at once.
    Reject,
}

impl WhenFull {
    /// Whether an emitter never waits longer than `patience`.
    pub(crate) fn waits_at_most(self, patience: Duration) -> bool {
        match self {
            Self::Block { timeout } => timeout <= patience,
            Self::Reject => true,
        }
    }
}

/// The failures that an accepted entry survives while it waits in a journal.
///
/// An entry that `commit`, `committed` or `flush` has confirmed is in the database and on stable storage, whichever
/// of these is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// The entry survives whatever happens to the process: `kill -9`, a panic, `abort`, running out of memory. This
    /// costs nothing beyond the write. If the machine loses power, entries are lost that the kernel had not written
    /// by itself and the database had not committed.
    #[default]
    ProcessCrash,
    /// The entry also survives a loss of power of the machine, unless it was accepted within the last `within`. The
    /// journal is synced in the background: a sync begins after half of `within` and covers every entry accepted
    /// until then. If a sync fails, or is not done when `within` has passed, health is
    /// [`Failing`](crate::Health::Failing) until a sync succeeds.
    PowerLoss {
        /// The longest time for which an accepted entry is not on stable storage.
        within: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wait_as_long_as_configured_says_that_the_queue_stays_full() {
        let block = WhenFull::Block { timeout: Duration::from_secs(1) };
        assert!(block.waits_at_most(Duration::from_secs(1)) && block.waits_at_most(Duration::MAX));
        assert!(!block.waits_at_most(Duration::from_millis(999)));
        assert!(WhenFull::Reject.waits_at_most(Duration::ZERO));
    }
}
