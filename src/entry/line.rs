//! Reads an entry from the line as which it was exported.

use chrono::{DateTime, Utc};

use super::{
    audit_entry::SequencedEntry,
    json_text::change,
    moment::from_micros,
    row::{LedgerRow, Row, problem_list},
};

/// The row of an entry that was exported as this line, or what is wrong with the line.
pub(crate) fn row_of_line(line: &[u8]) -> Result<LedgerRow, String> {
    let text = std::str::from_utf8(line).map_err(|_| "is not UTF-8".to_owned())?;
    let found: SequencedEntry =
        serde_json::from_str(text).map_err(|cause| format!("is not an entry: {cause}"))?;
    if let Some(change) = change(text) {
        let (what, _) = change.split_once(", kept").unwrap_or((change, ""));
        return Err(what.to_owned());
    }
    let micros = |name: &str, time: DateTime<Utc>| {
        let micros = time.timestamp_micros();
        if from_micros(micros) == time {
            Ok(micros)
        } else {
            Err(format!("has a {name} that no entry can have: {time}"))
        }
    };
    let (risk_score, mut entry) = (found.risk_score(), found.entry);
    // The order in which the metadata of every row are, whatever another crate turns on in `serde_json`.
    entry.metadata.sort_all_objects();
    Ok(LedgerRow {
        ledger: found.ledger,
        seq: found.seq,
        committed_at: Some(micros("committed_at", found.committed_at)?),
        row: Row {
            id: entry.id,
            ts: micros("ts", entry.ts)?,
            workspace_id: entry.workspace_id,
            session_id: entry.session_id,
            agent_id: entry.agent_id,
            action: entry.action.into(),
            resource: entry.resource.into(),
            resource_id: entry.resource_id.map(Into::into),
            decision: entry.decision.into(),
            reason: entry.reason.map(Into::into),
            risk_score,
            metadata: entry.metadata.to_string().into(),
            problems: problem_list(&found.problems),
        },
    })
}
