//! Telling people what goes wrong while nobody asks: at most once a second, and never on a healthy day.

use std::{fmt, sync::Arc, time::Duration};

use super::{health::Health, stats::Stats};
use crate::error::AuditError;

/// The least time between two notices of one log.
pub(super) const NOTICE_PAUSE: Duration = Duration::from_secs(1);

/// What has changed since the notice before. See [`on_notice`](crate::AuditLogBuilder::on_notice).
///
/// `Display` says it in one sentence.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Notice {
    /// How the log is doing now.
    pub health: Health,
    /// How it was doing at the notice before.
    pub was: Health,
    /// Entries rejected since then; an `audit.gap` entry tells of them too.
    pub rejected: u64,
    /// Entries set aside in quarantine since then.
    pub quarantined: u64,
    /// Entries that wait in the queue.
    pub pending: u64,
    /// What the database said last, if it is failing, refused an entry or cannot make an index.
    pub error: Option<AuditError>,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the audit log is {}", self.health)?;
        if self.health != self.was {
            write!(f, " (it was {})", self.was)?;
        }
        write!(f, ", {} entries wait", self.pending)?;
        for (count, what) in [(self.rejected, "rejected"), (self.quarantined, "quarantined")] {
            if count > 0 {
                write!(f, ", {count} more were {what}")?;
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

/// Who is told.
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

/// What was told already.
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
    /// What there is to tell now, if anything.
    pub(super) fn next(
        &mut self,
        health: Health,
        stats: Stats,
        unindexed: Option<AuditError>,
    ) -> Option<Notice> {
        let now = Self { health, rejected: stats.rejected, quarantined: stats.quarantined };
        let before = std::mem::replace(self, now);
        let quarantined = stats.quarantined - before.quarantined;
        let is_unindexed = unindexed.is_some();
        let failed = stats.last_error.filter(|_| !health.is_healthy() || quarantined > 0);
        let notice = Notice {
            health,
            was: before.health,
            rejected: stats.rejected - before.rejected,
            quarantined,
            pending: stats.pending,
            // LastNotice once, while the other comes again and is kept in the books.
            error: unindexed.or(failed),
        };
        // A shutdown that leaves nothing behind is no news.
        let closed_well = health == Health::Closed && stats.pending == 0;
        let changed = notice.health != notice.was && !closed_well;
        let changed = changed || notice.rejected > 0 || quarantined > 0 || is_unindexed;
        changed.then_some(notice)
    }
}
