//! Turns a row of the ledger into an entry.

use crate::{
    AuditEntry, AuditError, SequencedEntry, entry::from_micros, error::Kind, record::Row, store::LedgerRow,
};

/// The entry that a row holds.
pub(super) fn entry_of(row: &Row) -> Result<AuditEntry, AuditError> {
    let metadata = serde_json::from_str(&row.metadata).map_err(|cause| {
        AuditError::new(Kind::Store, format!("the metadata of entry {} is not JSON", row.id)).because(cause)
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
                    Kind::Store,
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
