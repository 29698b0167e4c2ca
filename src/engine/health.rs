//! How a log is doing, in one word that costs one atomic load.

use std::{
    fmt,
    sync::atomic::{AtomicU8, Ordering},
};

/// How a log is doing, from best to worst.
///
/// ```
/// # use tracing_audit::Health;
/// assert!(Health::Healthy < Health::Rejecting);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Health {
    /// What was last tried, worked.
    Healthy,
    /// The database cannot be written, or an attempt takes longer than `commit_timeout`; or a journal that is to
    /// survive a loss of power cannot be synced; or what a dead process left in its journal cannot be read. Entries
    /// are accepted and wait in the queue.
    Failing,
    /// The queue is full, and entries were rejected since the last commit.
    Rejecting,
    /// Shut down, or the log's thread could not be started: everything is rejected.
    Closed,
}

impl Health {
    /// Whether it is [`Healthy`](Self::Healthy).
    #[must_use]
    pub fn is_healthy(self) -> bool {
        self == Self::Healthy
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Failing => "failing",
            Self::Rejecting => "rejecting",
            Self::Closed => "closed",
        })
    }
}

/// What is wrong at the moment; several things can be.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Trouble {
    Failing = 1,
    Rejecting = 2,
    Closed = 4,
    /// The journal cannot be synced.
    Unsynced = 8,
    /// A journal of a dead process cannot be adopted or read.
    LeftBehind = 16,
}

/// The troubles of now, as bits.
#[derive(Debug, Default)]
pub(super) struct Condition(AtomicU8);

impl Condition {
    /// False: it was so already.
    pub(super) fn set(&self, trouble: Trouble) -> bool {
        self.0.fetch_or(trouble as u8, Ordering::AcqRel) & trouble as u8 == 0
    }

    /// False: there was no such trouble.
    pub(super) fn clear(&self, trouble: Trouble) -> bool {
        self.0.fetch_and(!(trouble as u8), Ordering::AcqRel) & trouble as u8 != 0
    }

    pub(super) fn is(&self, trouble: Trouble) -> bool {
        self.0.load(Ordering::Acquire) & trouble as u8 != 0
    }

    pub(super) fn health(&self) -> Health {
        let troubles = self.0.load(Ordering::Acquire);
        let has = |trouble| troubles & trouble as u8 != 0;
        if has(Trouble::Closed) {
            Health::Closed
        } else if has(Trouble::Rejecting) {
            Health::Rejecting
        } else if [Trouble::Failing, Trouble::Unsynced, Trouble::LeftBehind].into_iter().any(has) {
            Health::Failing
        } else {
            Health::Healthy
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_trouble_is_the_health_and_closed_is_for_good() {
        let condition = Condition::default();
        assert_eq!(condition.health(), Health::Healthy);
        assert!(!condition.clear(Trouble::Failing));
        assert!(condition.set(Trouble::Failing) && !condition.set(Trouble::Failing));
        assert_eq!(condition.health(), Health::Failing);
        condition.set(Trouble::Rejecting);
        assert_eq!(condition.health(), Health::Rejecting);
        assert!(condition.clear(Trouble::Rejecting));
        assert_eq!(condition.health(), Health::Failing);
        assert!(condition.clear(Trouble::Failing));
        assert_eq!(condition.health(), Health::Healthy);
        condition.set(Trouble::Failing);
        condition.set(Trouble::Closed);
        assert!(condition.clear(Trouble::Failing));
        assert_eq!(condition.health(), Health::Closed);
    }
}
