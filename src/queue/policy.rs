//! The user's decisions about the queue: what happens when it is full, and what an entry in it survives.

use std::time::Duration;

/// What an emitter does when the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// Wait for room, at most this long, then reject. After one such wait was in vain, further entries are
    /// rejected at once until there is room again, so that a dead database costs an application one delay.
    Block {
        /// The longest wait.
        timeout: Duration,
    },
    /// Reject at once.
    Reject,
}

impl WhenFull {
    /// Whether a wait is never longer than this.
    pub(crate) fn waits_at_most(self, patience: Duration) -> bool {
        match self {
            Self::Block { timeout } => timeout <= patience,
            Self::Reject => true,
        }
    }
}

/// What an accepted entry survives while it waits in a journal.
///
/// What `commit`, `committed` or `flush` confirmed is in the database, and on stable storage in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Whatever happens to the process: `kill -9`, a panic, `abort`, running out of memory. It costs nothing
    /// beyond the write. The machine's loss of power takes what the kernel had not written by itself and the
    /// database had not committed.
    #[default]
    ProcessCrash,
    /// The machine's loss of power too, but for the last `within`: the journal is synced in the background, one
    /// sync for all that was accepted meanwhile, which begins after half of `within`. If a sync fails, or is not
    /// done when `within` has passed, health is [`Failing`](crate::Health::Failing) until one succeeds.
    PowerLoss {
        /// The longest that an accepted entry is not on stable storage.
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
