//! A row of the ledger, and the way between it and an entry.

use std::sync::Arc;

use serde_json::Value as Json;
use uuid::Uuid;

use super::{
    audit_entry::{AuditEntry, RESERVED, SequencedEntry, is_reserved},
    moment::from_micros,
    normal::normalize,
};
use crate::error::{AuditError, ErrorKind};

/// One row of the ledger, without its `seq`. Texts are shared, so that binding them to a statement, and to the next
/// attempt of a failed one, copies nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) id: Uuid,
    pub(crate) ts: i64,
    pub(crate) workspace_id: Uuid,
    pub(crate) session_id: Option<Uuid>,
    pub(crate) agent_id: Option<Uuid>,
    pub(crate) action: Arc<str>,
    pub(crate) resource: Arc<str>,
    pub(crate) resource_id: Option<Arc<str>>,
    pub(crate) decision: Arc<str>,
    pub(crate) reason: Option<Arc<str>>,
    pub(crate) risk_score: Option<f64>,
    /// JSON text.
    pub(crate) metadata: Arc<str>,
    /// A JSON list of texts, or `None` if there is no problem.
    pub(crate) problems: Option<Arc<str>>,
}

/// A row, and its place in the ledger.
#[derive(Clone, Debug)]
pub(crate) struct LedgerRow {
    pub(crate) ledger: String,
    pub(crate) seq: u64,
    pub(crate) row: Row,
    /// Microseconds since 1970.
    pub(crate) committed_at: i64,
}

/// Returns the row of an entry that was written, not emitted. Brings the entry into normal form first.
pub(crate) fn row_of(mut entry: AuditEntry) -> Row {
    let unknown_risk = !entry.risk_score.is_finite();
    let mut problems = normalize(&mut entry);
    if is_reserved(&entry.action) {
        problems.push(RESERVED.to_owned());
    }
    Row {
        id: entry.id,
        ts: entry.ts.timestamp_micros(),
        workspace_id: entry.workspace_id,
        session_id: entry.session_id,
        agent_id: entry.agent_id,
        action: entry.action.into(),
        resource: entry.resource.into(),
        resource_id: entry.resource_id.map(Into::into),
        decision: entry.decision.into(),
        reason: entry.reason.map(Into::into),
        risk_score: (!unknown_risk).then_some(entry.risk_score + 0.0),
        metadata: entry.metadata.to_string().into(),
        problems: problem_list(&problems),
    }
}

/// The list of problems as JSON, if there are any.
pub(super) fn problem_list(problems: &[String]) -> Option<Arc<str>> {
    (!problems.is_empty()).then(|| Json::from(problems).to_string().into())
}

/// The entry that a row holds.
pub(crate) fn entry_of(row: &Row) -> Result<AuditEntry, AuditError> {
    let metadata = serde_json::from_str(&row.metadata).map_err(|cause| {
        AuditError::new(ErrorKind::Store, format!("the metadata of entry {} is not JSON", row.id))
            .because(cause)
    })?;
    Ok(AuditEntry {
        id: row.id,
        session_id: row.session_id,
        workspace_id: row.workspace_id,
        agent_id: row.agent_id,
        action: row.action.as_ref().to_owned(),
        resource: row.resource.as_ref().to_owned(),
        resource_id: row.resource_id.as_deref().map(str::to_owned),
        decision: row.decision.as_ref().to_owned(),
        reason: row.reason.as_deref().map(str::to_owned),
        risk_score: row.risk_score.unwrap_or(0.0),
        metadata,
        ts: from_micros(row.ts),
    })
}

/// The entry that a row holds, with its place in the ledger.
pub(crate) fn sequenced(found: LedgerRow) -> Result<SequencedEntry, AuditError> {
    let problems =
        found.row.problems.as_deref().map_or_else(|| Ok(Vec::new()), serde_json::from_str).map_err(
            |cause| {
                AuditError::new(
                    ErrorKind::Store,
                    format!("the problems of entry {} are not a JSON list", found.row.id),
                )
                .because(cause)
            },
        )?;
    Ok(SequencedEntry {
        ledger: found.ledger,
        seq: found.seq,
        committed_at: from_micros(found.committed_at),
        problems,
        entry: entry_of(&found.row)?,
    })
}
