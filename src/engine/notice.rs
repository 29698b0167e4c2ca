//! Notices: reports to the application what goes wrong, at most once a second and never while the log is healthy.

use std::{fmt, sync::Arc, time::Duration};

use super::{health::Health, stats::Stats};
use crate::error::AuditError;

/// Least time between two notices of one log.
pub(super) const NOTICE_PAUSE: Duration = Duration::from_secs(1);

/// The changes since the last notice. See [`on_notice`](crate::AuditLogBuilder::on_notice).
///
/// `Display` gives them in one sentence.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Notice {
    /// The log's health now.
    pub health: Health,
    /// The log's health at the last notice.
    pub was: Health,
    /// Number of entries rejected since the last notice. An `audit.gap` entry in the ledger reports them too.
    pub rejected: u64,
    /// Number of entries set aside in quarantine since the last notice.
    pub quarantined: u64,
    /// Number of entries that wait in the queue.
    pub pending: u64,
    /// The last error: of a log that is not healthy, of an entry that was quarantined, or of an index that cannot be
    /// created. Or, once, the SQLite library's [WAL-reset bug](https://www.sqlite.org/wal.html#walresetbug), of which
    /// [`compatibility`](crate::guide::compatibility) says more.
    pub error: Option<AuditError>,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the audit log is {}", self.health)?;
        if self.health != self.was {
            write!(f, " (it was {})", self.was)?;
        }
        let waiting = if self.pending == 1 { "entry waits" } else { "entries wait" };
        write!(f, ", {} {waiting}", self.pending)?;
        for (count, done) in [(self.rejected, "rejected"), (self.quarantined, "quarantined")] {
            match count {
                0 => {}
                1 => write!(f, ", 1 more was {done}")?,
                count => write!(f, ", {count} more were {done}")?,
            }
        }
        if let Some(error) = &self.error {
            let mut cause: Option<&dyn std::error::Error> = Some(error);
            while let Some(error) = cause {
                write!(f, ": {error}")?;
                cause = error.source();
            }
        }
        Ok(())
    }
}

/// The application's handler of notices. The default emits them as events of `tracing`.
#[derive(Clone)]
pub(crate) struct OnNotice(pub(crate) Arc<dyn Fn(Notice) + Send + Sync>);

impl fmt::Debug for OnNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnNotice")
    }
}

impl Default for OnNotice {
    fn default() -> Self {
        Self(Arc::new(|notice| {
            if notice.health.is_healthy()
                && notice.rejected == 0
                && notice.quarantined == 0
                && notice.error.is_none()
            {
                tracing::info!(target: "tracing_audit", "{notice}");
            } else {
                tracing::warn!(target: "tracing_audit", "{notice}");
            }
        }))
    }
}

/// The state that the last notice reported.
#[derive(Debug)]
pub(super) struct LastNotice {
    health: Health,
    rejected: u64,
    quarantined: u64,
}

impl Default for LastNotice {
    fn default() -> Self {
        Self { health: Health::Healthy, rejected: 0, quarantined: 0 }
    }
}

impl LastNotice {
    /// The notice of everything that has changed since the last one, if anything has. `aside` is an error that changes
    /// no health: why an index cannot be created, or a defect of the database's library.
    pub(super) fn next(&mut self, health: Health, stats: Stats, aside: Option<AuditError>) -> Option<Notice> {
        let now = Self { health, rejected: stats.rejected, quarantined: stats.quarantined };
        let before = std::mem::replace(self, now);
        let quarantined = stats.quarantined - before.quarantined;
        let is_aside = aside.is_some();
        let failed = stats.last_error.filter(|_| !health.is_healthy() || quarantined > 0);
        let notice = Notice {
            health,
            was: before.health,
            rejected: stats.rejected - before.rejected,
            quarantined,
            pending: stats.pending,
            // The error aside is reported here alone. The other one is also kept in the books, and comes again.
            error: aside.or(failed),
        };
        // A shutdown that leaves nothing pending needs no notice.
        let closed_well = health == Health::Closed && stats.pending == 0;
        let changed = notice.health != notice.was && !closed_well;
        let changed = changed || notice.rejected > 0 || quarantined > 0 || is_aside;
        changed.then_some(notice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_notice_is_one_sentence_with_the_error_and_its_cause() {
        let error =
            AuditError::new(ErrorKind::Store, "the database cannot be written to").because("no space left");
        let mut notice = Notice {
            health: Health::Failing,
            was: Health::Healthy,
            rejected: 1,
            quarantined: 2,
            pending: 1,
            error: Some(error),
        };
        assert_eq!(
            notice.to_string(),
            "the audit log is failing (it was healthy), 1 entry waits, 1 more was rejected, 2 more were \
             quarantined: the database cannot be written to: no space left"
        );
        notice =
            Notice { was: Health::Failing, rejected: 0, quarantined: 1, pending: 0, error: None, ..notice };
        assert_eq!(notice.to_string(), "the audit log is failing, 0 entries wait, 1 more was quarantined");
    }
}
