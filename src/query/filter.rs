//! The plain filter: seven conditions.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The plain filter. All given conditions must hold, both bounds in time are inclusive, and a field that is `None`
/// does not filter.
///
/// It will never have more than these seven fields; every richer question is an [`AuditQuery`](super::AuditQuery).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AuditFilter {
    /// Entries of this workspace.
    pub workspace_id: Option<Uuid>,
    /// Entries of this session.
    pub session_id: Option<Uuid>,
    /// Entries with exactly this decision: usually `Allow`, `Deny` or `Mask`.
    pub decision: Option<String>,
    /// Entries with `ts` at or after this moment, which is cut to whole microseconds as stored times are.
    pub start_time: Option<DateTime<Utc>>,
    /// Entries with `ts` at or before this moment, which is cut to whole microseconds as stored times are.
    pub end_time: Option<DateTime<Utc>>,
    /// Entries with exactly this resource.
    pub resource: Option<String>,
    /// At most this many entries.
    pub limit: Option<u32>,
}
