//! The columns that a table of entries can have, and what stands in them.

use std::borrow::Cow;

use serde_json::Value;
use tracing_audit::{AuditEntry, SequencedEntry, audit_id, query::value_at};
use uuid::Uuid;

use super::{
    json::visible,
    table::{Cells, shown_time},
    text::{harmless, sentence},
};
use crate::zone::Zone;

/// A column of a table of entries, which can also be a field of its JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Ledger,
    Seq,
    Id,
    Time,
    Committed,
    /// The name that the id was made from, if the metadata have it; else the id.
    Workspace,
    Session,
    Agent,
    WorkspaceId,
    SessionId,
    AgentId,
    Action,
    Resource,
    ResourceId,
    /// The resource and its id.
    Target,
    Decision,
    Risk,
    Reason,
    Problems,
    Metadata,
    MetadataAt(String),
}

/// The names of the columns that people can ask for.
const NAMES: [(&str, Field); 23] = [
    ("ledger", Field::Ledger),
    ("seq", Field::Seq),
    ("id", Field::Id),
    ("time", Field::Time),
    ("ts", Field::Time),
    ("committed", Field::Committed),
    ("committed_at", Field::Committed),
    ("workspace", Field::Workspace),
    ("session", Field::Session),
    ("agent", Field::Agent),
    ("workspace_id", Field::WorkspaceId),
    ("session_id", Field::SessionId),
    ("agent_id", Field::AgentId),
    ("action", Field::Action),
    ("resource", Field::Resource),
    ("resource_id", Field::ResourceId),
    ("target", Field::Target),
    ("decision", Field::Decision),
    ("risk", Field::Risk),
    ("risk_score", Field::Risk),
    ("reason", Field::Reason),
    ("problems", Field::Problems),
    ("metadata", Field::Metadata),
];

/// The columns of a table, unless others are asked for.
pub(super) const USUAL: [Field; 8] = [
    Field::Seq,
    Field::Time,
    Field::Agent,
    Field::Action,
    Field::Target,
    Field::Decision,
    Field::Risk,
    Field::Reason,
];

/// The columns of a wide table.
pub(super) const WIDE: [Field; 13] = [
    Field::Seq,
    Field::Time,
    Field::Workspace,
    Field::Session,
    Field::Agent,
    Field::Action,
    Field::Resource,
    Field::ResourceId,
    Field::Decision,
    Field::Risk,
    Field::Reason,
    Field::Problems,
    Field::Id,
];

impl Field {
    /// The names of all columns, for messages and completions.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// The column of this name, if it is none of the metadata.
    pub(crate) fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, field)| field.clone())
    }

    /// The heading of the column.
    pub(super) fn head(&self) -> Cow<'static, str> {
        match self {
            Self::Target => Cow::Borrowed("resource"),
            Self::MetadataAt(path) => Cow::Owned(harmless(path).into_owned()),
            field => {
                let named = NAMES.iter().find(|(_, known)| known == field);
                Cow::Borrowed(named.map_or("", |(name, _)| *name))
            }
        }
    }

    pub(super) fn cells(&self) -> Cells {
        match self {
            Self::Seq
            | Self::Id
            | Self::Time
            | Self::Committed
            | Self::WorkspaceId
            | Self::SessionId
            | Self::AgentId
            | Self::Decision
            | Self::Risk => Cells::Whole,
            Self::Reason | Self::Problems | Self::Metadata => Cells::Text,
            _ => Cells::Cut,
        }
    }

    /// The text in the column, harmless to a terminal.
    pub(super) fn cell(&self, found: &SequencedEntry, zone: Zone) -> String {
        let entry = &found.entry;
        let id = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
        match self {
            Self::Seq => found.seq.to_string(),
            Self::Time => shown_time(entry.ts, zone),
            Self::Committed => shown_time(found.committed_at, zone),
            Self::Id => entry.id.to_string(),
            Self::WorkspaceId => id(Some(entry.workspace_id)),
            Self::SessionId => id(entry.session_id),
            Self::AgentId => id(entry.agent_id),
            Self::Reason => sentence(entry.reason.as_deref().unwrap_or_default()).into_owned(),
            Self::Problems => sentence(&found.problems.join("; ")).into_owned(),
            Self::Metadata => visible(entry.metadata.to_string()),
            Self::MetadataAt(path) => match value_at(&entry.metadata, path) {
                None => String::new(),
                Some(Value::String(text)) => harmless(text).into_owned(),
                Some(value) => visible(value.to_string()),
            },
            field => harmless(&field.text(found)).into_owned(),
        }
    }

    fn text<'a>(&self, found: &'a SequencedEntry) -> Cow<'a, str> {
        let entry = &found.entry;
        match self {
            Self::Ledger => Cow::Borrowed(&found.ledger),
            // Everybody has the nil workspace where there are none.
            Self::Workspace if entry.workspace_id.is_nil() => Cow::Borrowed(""),
            Self::Workspace => name_of(entry, "workspace_id", Some(entry.workspace_id)),
            Self::Session => name_of(entry, "session_id", entry.session_id),
            Self::Agent => name_of(entry, "agent_id", entry.agent_id),
            Self::Action => Cow::Borrowed(&entry.action),
            Self::Resource => Cow::Borrowed(&entry.resource),
            Self::ResourceId => Cow::Borrowed(entry.resource_id.as_deref().unwrap_or_default()),
            Self::Target => match &entry.resource_id {
                Some(id) => Cow::Owned([&entry.resource, "/", id].concat()),
                None => Cow::Borrowed(&entry.resource),
            },
            Self::Decision => Cow::Borrowed(&entry.decision),
            Self::Risk if entry.risk_score == 0.0 => Cow::Borrowed(""),
            Self::Risk => Cow::Owned(format!("{:.2}", entry.risk_score)),
            _ => Cow::Borrowed(""),
        }
    }

    /// The field's name and value in JSON; `whole` is the entry as JSON.
    pub(super) fn json(&self, found: &SequencedEntry, whole: &Value) -> (Cow<'_, str>, Value) {
        let named = |name: &'static str| (Cow::Borrowed(name), whole.get(name).cloned().unwrap_or_default());
        match self {
            Self::Time => named("ts"),
            Self::Committed => named("committed_at"),
            Self::Risk => named("risk_score"),
            Self::Workspace | Self::Session | Self::Agent | Self::Target => {
                let text = self.text(found);
                let value = if text.is_empty() { Value::Null } else { text.into_owned().into() };
                (
                    Cow::Borrowed(
                        NAMES.iter().find(|(_, field)| field == self).map_or("", |(name, _)| *name),
                    ),
                    value,
                )
            }
            Self::MetadataAt(path) => {
                let value = value_at(&found.entry.metadata, path).cloned().unwrap_or_default();
                (Cow::Owned(["metadata.", path].concat()), value)
            }
            Self::Ledger => named("ledger"),
            Self::Seq => named("seq"),
            Self::Id => named("id"),
            Self::WorkspaceId => named("workspace_id"),
            Self::SessionId => named("session_id"),
            Self::AgentId => named("agent_id"),
            Self::Action => named("action"),
            Self::Resource => named("resource"),
            Self::ResourceId => named("resource_id"),
            Self::Decision => named("decision"),
            Self::Reason => named("reason"),
            Self::Problems => named("problems"),
            Self::Metadata => named("metadata"),
        }
    }
}

/// The name that the id was made from, if the metadata have it; else the id.
pub(crate) fn name_of<'a>(entry: &'a AuditEntry, field: &str, id: Option<Uuid>) -> Cow<'a, str> {
    match (entry.metadata.get(field), id) {
        (Some(Value::String(name)), Some(id)) if audit_id(name) == id => Cow::Borrowed(name),
        (_, id) => Cow::Owned(id.map(|id| id.to_string()).unwrap_or_default()),
    }
}
