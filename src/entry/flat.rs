//! Serializes an entry with its place in the ledger as one flat object.
//!
//! The attribute `flatten` of `serde` does not read floats back once another crate turns on the feature
//! `arbitrary_precision` of `serde_json`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

use super::audit_entry::{AuditEntry, SequencedEntry};

#[derive(Serialize)]
struct Borrowed<'a> {
    ledger: &'a str,
    seq: u64,
    id: Uuid,
    session_id: Option<Uuid>,
    workspace_id: Uuid,
    agent_id: Option<Uuid>,
    action: &'a str,
    resource: &'a str,
    resource_id: Option<&'a str>,
    decision: &'a str,
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    risk_score: Option<f64>,
    metadata: &'a Value,
    ts: DateTime<Utc>,
    committed_at: DateTime<Utc>,
    problems: &'a [String],
}

#[derive(Deserialize)]
struct Owned {
    ledger: String,
    seq: u64,
    id: Uuid,
    session_id: Option<Uuid>,
    workspace_id: Uuid,
    agent_id: Option<Uuid>,
    action: String,
    resource: String,
    resource_id: Option<String>,
    decision: String,
    reason: Option<String>,
    #[serde(default)]
    risk_score: Option<f64>,
    metadata: Value,
    ts: DateTime<Utc>,
    committed_at: DateTime<Utc>,
    problems: Vec<String>,
}

impl Serialize for SequencedEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { ledger, seq, entry, committed_at, problems, .. } = self;
        Borrowed {
            ledger,
            seq: *seq,
            id: entry.id,
            session_id: entry.session_id,
            workspace_id: entry.workspace_id,
            agent_id: entry.agent_id,
            action: &entry.action,
            resource: &entry.resource,
            resource_id: entry.resource_id.as_deref(),
            decision: &entry.decision,
            reason: entry.reason.as_deref(),
            risk_score: self.risk_score(),
            metadata: &entry.metadata,
            ts: entry.ts,
            committed_at: *committed_at,
            problems,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SequencedEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let flat = Owned::deserialize(deserializer)?;
        Ok(Self {
            ledger: flat.ledger,
            seq: flat.seq,
            entry: AuditEntry {
                id: flat.id,
                session_id: flat.session_id,
                workspace_id: flat.workspace_id,
                agent_id: flat.agent_id,
                action: flat.action,
                resource: flat.resource,
                resource_id: flat.resource_id,
                decision: flat.decision,
                reason: flat.reason,
                risk_score: flat.risk_score.unwrap_or(0.0),
                metadata: flat.metadata,
                ts: flat.ts,
            },
            committed_at: flat.committed_at,
            problems: flat.problems,
            unscored: flat.risk_score.is_none(),
        })
    }
}
