//! The columns that are compared with values.

use std::{fmt, str::FromStr};

use crate::error::{AuditError, ErrorKind};

/// A column of an entry that is compared with values. Its text form is its name in the database: `agent_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "each is the field of AuditEntry with this name")]
pub enum Column {
    Id,
    WorkspaceId,
    SessionId,
    AgentId,
    Action,
    Resource,
    ResourceId,
    Decision,
    Reason,
}

impl Column {
    /// All columns.
    pub const ALL: [Self; 9] = [
        Self::Id,
        Self::WorkspaceId,
        Self::SessionId,
        Self::AgentId,
        Self::Action,
        Self::Resource,
        Self::ResourceId,
        Self::Decision,
        Self::Reason,
    ];

    /// The column's name in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::WorkspaceId => "workspace_id",
            Self::SessionId => "session_id",
            Self::AgentId => "agent_id",
            Self::Action => "action",
            Self::Resource => "resource",
            Self::ResourceId => "resource_id",
            Self::Decision => "decision",
            Self::Reason => "reason",
        }
    }

    /// Whether the column's values are UUIDs, and not text.
    pub(crate) fn holds_ids(self) -> bool {
        matches!(self, Self::Id | Self::WorkspaceId | Self::SessionId | Self::AgentId)
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Column {
    type Err = AuditError;

    fn from_str(name: &str) -> Result<Self, AuditError> {
        Self::ALL.into_iter().find(|column| column.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            AuditError::new(ErrorKind::Query, format!("there is no column {name:?}: the columns are {names}"))
        })
    }
}
