//! A row of the ledger, and the way between it and an entry.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use uuid::Uuid;

use super::{
    audit_entry::{AuditEntry, RESERVED, SequencedEntry, is_reserved},
    json_text::change,
    moment::from_micros,
    normal::normalize,
};

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

impl Row {
    /// The bytes of its texts.
    pub(crate) fn text_bytes(&self) -> usize {
        let Self { action, resource, resource_id, decision, reason, metadata, problems, .. } = self;
        let optional = [resource_id, reason, problems].into_iter().flatten();
        [action, resource, decision, metadata].into_iter().chain(optional).map(|text| text.len()).sum()
    }
}

/// A row, and its place in the ledger.
#[derive(Clone, Debug)]
pub(crate) struct LedgerRow {
    pub(crate) ledger: String,
    pub(crate) seq: u64,
    pub(crate) row: Row,
    /// Microseconds since 1970. `None` if no batch holds the entry.
    pub(crate) committed_at: Option<i64>,
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

/// The entry that a row holds, also if it is not one that this crate has written: see [`sequenced`].
pub(crate) fn entry_of(row: &Row) -> AuditEntry {
    entry_and_problems(row).0
}

/// The entry that a row holds, with its place in the ledger. A column that cannot be read as an entry's, because
/// somebody has changed the row, is kept as text or replaced by the nearest value, and a problem says so.
pub(crate) fn sequenced(found: LedgerRow) -> SequencedEntry {
    let (entry, mut problems) = entry_and_problems(&found.row);
    let committed_at = if let Some(micros) = found.committed_at {
        time("committed_at", micros, &mut problems)
    } else {
        let told = "committed_at: no batch holds this entry, which was committed at some other time";
        problems.push(told.to_owned());
        entry.ts
    };
    let unscored = found.row.risk_score.is_none();
    SequencedEntry { ledger: found.ledger, seq: found.seq, committed_at, problems, unscored, entry }
}

fn entry_and_problems(row: &Row) -> (AuditEntry, Vec<String>) {
    let mut problems = row.problems.as_deref().map(listed).unwrap_or_default();
    let metadata = json_of(&row.metadata).unwrap_or_else(|told| {
        problems.push(told);
        Json::String(row.metadata.as_ref().to_owned())
    });
    let mut risk_score = row.risk_score.unwrap_or(0.0);
    if !risk_score.is_finite() {
        problems.push(format!("risk_score: {risk_score} is not a finite number"));
        risk_score = 0.0;
    }
    let entry = AuditEntry {
        id: row.id,
        session_id: row.session_id,
        workspace_id: row.workspace_id,
        agent_id: row.agent_id,
        action: row.action.as_ref().to_owned(),
        resource: row.resource.as_ref().to_owned(),
        resource_id: row.resource_id.as_deref().map(str::to_owned),
        decision: row.decision.as_ref().to_owned(),
        reason: row.reason.as_deref().map(str::to_owned),
        risk_score,
        metadata,
        ts: time("ts", row.ts, &mut problems),
    };
    (entry, problems)
}

/// The value of metadata, or why they are kept as text. No entry is stored with two equal keys in one object, of which readers
/// would take the last and databases the first.
fn json_of(metadata: &str) -> Result<Json, String> {
    let value = serde_json::from_str(metadata)
        .map_err(|cause| format!("metadata: not JSON that can be read, kept as text: {cause}"))?;
    match change(metadata) {
        Some(change) => Err(format!("metadata: {change}")),
        None => Ok(value),
    }
}

/// The problems of a row. Text that is no list of texts is a problem itself.
fn listed(problems: &str) -> Vec<String> {
    let listed = serde_json::from_str(problems);
    listed.unwrap_or_else(|_| vec![format!("problems: not a list of texts: {problems}")])
}

/// The time, or the nearest one that an entry can have.
fn time(name: &str, micros: i64, problems: &mut Vec<String>) -> DateTime<Utc> {
    let time = from_micros(micros);
    if time.timestamp_micros() != micros {
        problems.push(format!("{name}: {micros} microseconds since 1970 are outside of the years 1 to 9999"));
    }
    time
}

impl Row {
    /// The row, with a problem for each of these columns, in which the database holds something that no entry can have
    /// there. The contents are also kept in the metadata, under the name of the column.
    #[cfg(any(feature = "_sqlite", feature = "postgres"))]
    pub(crate) fn with_unreadable(self, columns: Vec<(&str, String)>) -> Self {
        let mut problems = self.problems.as_deref().map(listed).unwrap_or_default();
        let metadata = serde_json::from_str(&self.metadata);
        let metadata = metadata.map(|mut metadata: Json| {
            if let Json::Object(map) = &mut metadata {
                for (column, held) in &columns {
                    map.entry(*column).or_insert_with(|| held.clone().into());
                }
            }
            metadata.to_string().into()
        });
        let told =
            |(column, held)| format!("{column}: the database holds what no entry can have there: {held}");
        problems.extend(columns.into_iter().map(told));
        Self { problems: problem_list(&problems), metadata: metadata.unwrap_or(self.metadata), ..self }
    }
}
