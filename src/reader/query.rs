//! What a reader can ask for; knows nothing of SQL.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Decision;

/// The plain filter: all given conditions must hold, bounds are inclusive, and what is `None` does not filter.
///
/// These seven fields are all it will ever have; whatever is richer is an [`AuditQuery`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AuditFilter {
    /// Entries of this workspace.
    pub workspace_id: Option<Uuid>,
    /// Entries of this session.
    pub session_id: Option<Uuid>,
    /// Entries with exactly this decision, usually `Allow`, `Deny` or `Mask`.
    pub decision: Option<String>,
    /// Entries with `ts` at or after this moment.
    pub start_time: Option<DateTime<Utc>>,
    /// Entries with `ts` at or before this moment.
    pub end_time: Option<DateTime<Utc>>,
    /// Entries with exactly this resource.
    pub resource: Option<String>,
    /// At most this many entries.
    pub limit: Option<u32>,
}

/// A question to the log, built step by step. Default: everything.
///
/// ```
/// use tracing_audit::{AuditQuery, Decision, audit_id};
///
/// let refused = AuditQuery::new().agent_id(audit_id("alice")).decision(Decision::Deny).limit(20);
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuditQuery {
    pub(crate) filter: AuditFilter,
    pub(crate) ledger: Option<String>,
    pub(crate) agent_id: Option<Uuid>,
    pub(crate) action: Option<String>,
    pub(crate) resource_id: Option<String>,
    pub(crate) risk_at_least: Option<f64>,
    pub(crate) descending: bool,
}

impl AuditQuery {
    /// Everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Entries of this ledger. Default: all that the database holds; for pages, which follow one, `main`, or that of
    /// the log which gave the reader.
    #[must_use]
    pub fn ledger(mut self, name: impl Into<String>) -> Self {
        self.ledger = Some(name.into());
        self
    }

    /// Entries of this workspace.
    #[must_use]
    pub fn workspace_id(mut self, id: Uuid) -> Self {
        self.filter.workspace_id = Some(id);
        self
    }

    /// Entries of this session.
    #[must_use]
    pub fn session_id(mut self, id: Uuid) -> Self {
        self.filter.session_id = Some(id);
        self
    }

    /// Entries of this agent. For a name, [`audit_id`](crate::audit_id) of it.
    #[must_use]
    pub fn agent_id(mut self, id: Uuid) -> Self {
        self.agent_id = Some(id);
        self
    }

    /// Entries with exactly this action.
    #[must_use]
    pub fn action(mut self, action: impl Into<String>) -> Self {
        self.action = Some(action.into());
        self
    }

    /// Entries with exactly this resource.
    #[must_use]
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.filter.resource = Some(resource.into());
        self
    }

    /// Entries with exactly this resource id.
    #[must_use]
    pub fn resource_id(mut self, id: impl Into<String>) -> Self {
        self.resource_id = Some(id.into());
        self
    }

    /// Entries with this decision.
    #[must_use]
    pub fn decision(mut self, decision: Decision) -> Self {
        self.filter.decision = Some(decision.into());
        self
    }

    /// Entries with at least this risk score. Those without a score never match.
    #[must_use]
    pub fn risk_at_least(mut self, score: f64) -> Self {
        self.risk_at_least = Some(score);
        self
    }

    /// Entries with `ts` at or after this moment.
    #[must_use]
    pub fn since(mut self, time: DateTime<Utc>) -> Self {
        self.filter.start_time = Some(time);
        self
    }

    /// Entries with `ts` at or before this moment.
    #[must_use]
    pub fn until(mut self, time: DateTime<Utc>) -> Self {
        self.filter.end_time = Some(time);
        self
    }

    /// At most this many entries. Pages have a size of their own and ignore it, and so does `count`.
    #[must_use]
    pub fn limit(mut self, limit: u32) -> Self {
        self.filter.limit = Some(limit);
        self
    }

    /// Pages from the end of the ledger towards its beginning. Default: from the beginning.
    #[must_use]
    pub fn descending(mut self) -> Self {
        self.descending = true;
        self
    }
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl AuditQuery {
    /// The bounds in time, in microseconds since 1970. Times are stored in whole microseconds: a bound is rounded into
    /// the range that it includes.
    pub(crate) fn bounds(&self) -> (Option<i64>, Option<i64>) {
        let least = self
            .filter
            .start_time
            .map(|start| start.timestamp_micros() + i64::from(start.timestamp_subsec_nanos() % 1000 > 0));
        (least, self.filter.end_time.map(|end| end.timestamp_micros()))
    }
}

impl From<AuditFilter> for AuditQuery {
    fn from(filter: AuditFilter) -> Self {
        Self { filter, ..Self::default() }
    }
}

impl From<&Self> for AuditQuery {
    fn from(query: &Self) -> Self {
        query.clone()
    }
}
