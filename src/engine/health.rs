//! Health: the state of a log in one word, which costs one atomic load to read.

use std::{
    fmt,
    sync::atomic::{AtomicU8, Ordering},
};

/// The state of a log, from best to worst.
///
/// ```
/// # use tracing_audit::Health;
/// assert!(Health::Healthy < Health::Rejecting);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Health {
    /// The last attempt of everything that the log does has succeeded.
    Healthy,
    /// The database cannot be reached or written to, or an attempt takes longer than `commit_timeout`; or a journal
    /// that is to survive a loss of power cannot be synced; or the journal of a dead process cannot be read. Entries
    /// are accepted and wait in the queue.
    Failing,
    /// The queue is full, and entries have been rejected since the last commit.
    Rejecting,
    /// The log was shut down, its thread could not be started, or this process was forked after the log was opened:
    /// every entry is rejected.
    Closed,
}

impl Health {
    /// Whether the log is [`Healthy`](Self::Healthy).
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

/// One thing that is wrong at the moment. Several can be wrong at once, so each is one bit.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Trouble {
    /// The database cannot be reached or written to, or does not answer.
    Failing = 1,
    /// The queue is full, and entries have been rejected since the last commit.
    Rejecting = 2,
    /// The log accepts nothing more.
    Closed = 4,
    /// The journal cannot be synced in time.
    Unsynced = 8,
    /// A journal of a dead process cannot be adopted or read.
    LeftBehind = 16,
}

/// The present troubles, one bit each.
#[derive(Debug, Default)]
pub(super) struct Condition(AtomicU8);

impl Condition {
    /// False: the trouble was set already.
    pub(super) fn set(&self, trouble: Trouble) -> bool {
        self.0.fetch_or(trouble as u8, Ordering::AcqRel) & trouble as u8 == 0
    }

    /// False: the trouble was not set.
    pub(super) fn clear(&self, trouble: Trouble) -> bool {
        self.0.fetch_and(!(trouble as u8), Ordering::AcqRel) & trouble as u8 != 0
    }

    pub(super) fn is(&self, trouble: Trouble) -> bool {
        self.0.load(Ordering::Acquire) & trouble as u8 != 0
    }

    /// The worst of the present troubles.
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
    fn health_is_the_worst_trouble_and_closed_is_final() {
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
