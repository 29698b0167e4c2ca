//! Indexes: those that every log has, and those on request.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Migrate, Store};
use crate::{
    AuditError, Column,
    error::Kind,
    platform::on_own_runtime,
    reader::{spelled_path, steps},
};

/// What an index on request is on.
///
/// As text it is what the command takes: `agent_id`, `metadata.client.ip`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IndexOn {
    /// The value in this column. `id`, `workspace_id` and `session_id` have an index in every log.
    Column(Column),
    /// The value at this place in the metadata; a path as in [`AuditQuery::metadata_any_of`](crate::AuditQuery::metadata_any_of).
    Metadata(String),
}

impl fmt::Display for IndexOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column(column) => column.fmt(f),
            Self::Metadata(path) => f.pad(&["metadata.", &spelled_path(&steps(path))].concat()),
        }
    }
}

impl FromStr for IndexOn {
    type Err = AuditError;

    fn from_str(text: &str) -> Result<Self, AuditError> {
        match text.strip_prefix("metadata.") {
            Some(path) => Ok(Self::Metadata(path.to_owned())),
            None => text.parse().map(Self::Column),
        }
    }
}

/// How the name of each index on request begins.
const PREFIX: &str = "tracing_audit_by_";

/// Bytes in a name of PostgreSQL's, which cuts what is longer.
const NAME: usize = 63;

/// Names of the indexes in every log, and what they serve.
const ALWAYS: [(&str, &str); 10] = [
    ("tracing_audit_entries_pkey", "seq"),
    ("tracing_audit_entries_id", "id"),
    ("sqlite_autoindex_tracing_audit_entries_1", "id"),
    ("tracing_audit_entries_workspace", "workspace_id"),
    ("tracing_audit_entries_session", "session_id"),
    ("tracing_audit_entries_refused", "decision of Deny or Mask"),
    ("tracing_audit_entries_refused_in", "workspace_id and decision of Deny or Mask"),
    ("tracing_audit_entries_risky", "risk_score of 0.8 or more"),
    ("tracing_audit_entries_problems", "problems"),
    ("tracing_audit_entries_gaps", "action audit.gap"),
];

impl IndexOn {
    /// Whether every log has it.
    fn is_always_there(&self) -> bool {
        matches!(self, Self::Column(Column::Id | Column::WorkspaceId | Column::SessionId))
    }

    /// Of the index in the database. A long one, and one with capitals, between which SQLite makes no difference, ends
    /// with a digest of what it is on.
    pub(super) fn name(&self) -> String {
        let on = self.to_string();
        let name = [PREFIX, &on].concat();
        if name.len() <= NAME && !name.contains(|c: char| c.is_ascii_uppercase()) {
            return name;
        }
        let digest = crc32c::crc32c(on.as_bytes());
        let kept = name.get(..name.floor_char_boundary(NAME - 9)).unwrap_or_default();
        format!("{kept}~{digest:08x}")
    }
}

/// An index of a log: see [`AuditReader::indexes`](crate::AuditReader::indexes).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Index {
    /// Its name in the database.
    pub name: String,
    /// What is found by it: a column, a place in the metadata, or which entries. A long one is cut. Empty for an index
    /// that somebody else has made.
    pub serves: String,
    /// Whether it was asked for, and can be dropped.
    pub on_request: bool,
    /// False while it is being made, or if that was interrupted: then it is not used.
    pub ready: bool,
    /// Of the disk.
    pub bytes: Option<u64>,
    /// How often PostgreSQL has used it, since its statistics were last reset. SQLite does not count.
    pub scans: Option<u64>,
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl Index {
    pub(super) fn new(name: String, ready: bool, bytes: Option<u64>, scans: Option<u64>) -> Self {
        let on_request = name.strip_prefix(PREFIX);
        let always = || ALWAYS.into_iter().find(|(always, _)| *always == name).map(|(_, serves)| serves);
        let is_digest = |end: &str| end.len() == 8 && end.bytes().all(|byte| byte.is_ascii_hexdigit());
        let whole =
            |on: &'_ str| on.rsplit_once('~').filter(|(_, end)| is_digest(end)).map(|(on, _)| on.len());
        let on_request = on_request.map(|on| on.get(..whole(on).unwrap_or(on.len())).unwrap_or(on));
        let serves = on_request.or_else(always).unwrap_or_default().to_owned();
        Self { on_request: on_request.is_some(), name, serves, ready, bytes, scans }
    }
}

impl Store {
    /// Makes this index, unless it is there. It serves queries for given values of what it is on, costs time at every
    /// insert and room on disk, and does not change what any query answers. The documentation of the module
    /// [`indexes`](crate::indexes) says how much.
    ///
    /// PostgreSQL makes it `CONCURRENTLY`, beside whoever writes, once the transactions that run have ended, and takes
    /// statistics of what it is on, which for a text or a place in the metadata takes version 14. SQLite cannot:
    /// it holds its lock while it makes one, 0.4 to 0.7 s for a million entries. What is accepted meanwhile waits in
    /// the queue, and a commit for its answer. Beyond 5 s, as at any lock that another holds,
    /// [`health`](crate::AuditLog::health) is failing until it is made, and a shutdown leaves behind what it could not
    /// commit: give such a file its index at a quiet time, by the command.
    ///
    /// # Errors
    /// [`is_schema`](AuditError::is_schema) if there are no tables, or the store is on [`Migrate::Check`], with the
    /// statements for whoever may make it; [`is_store`](AuditError::is_store) if the database refuses, for instance
    /// because the role does not own the tables.
    ///
    /// # Cancel safety
    /// Dropping the future may leave it made, or in PostgreSQL half made: the next call begins it anew.
    pub async fn create_index(&self, on: &IndexOn) -> Result<(), AuditError> {
        let Some(sql) = self.index_sql(on) else { return Ok(()) };
        if self.backend().has_index(on, self.migrate == Migrate::Auto).await? {
            return Ok(());
        }
        let message = format!("the index on {on} is not there, and this log may not make it: run {sql}");
        Err(AuditError::new(Kind::Schema, message))
    }

    /// [`create_index`](Self::create_index) for code without an async runtime. Blocks the thread.
    ///
    /// # Errors
    /// As `create_index`.
    pub fn create_index_blocking(&self, on: &IndexOn) -> Result<(), AuditError> {
        on_own_runtime(self.create_index(on))
    }

    /// Takes an index that was made on request away, if it is there.
    ///
    /// # Errors
    /// [`is_config`](AuditError::is_config) for one that every log has, [`is_store`](AuditError::is_store) if the
    /// database refuses.
    ///
    /// # Cancel safety
    /// Dropping the future may leave it dropped.
    pub async fn drop_index(&self, on: &IndexOn) -> Result<(), AuditError> {
        if on.is_always_there() {
            return Err(AuditError::new(Kind::Config, format!("every log has an index on {on}")));
        }
        self.backend().drop_index(on).await
    }

    /// [`drop_index`](Self::drop_index) for code without an async runtime. Blocks the thread.
    ///
    /// # Errors
    /// As `drop_index`.
    pub fn drop_index_blocking(&self, on: &IndexOn) -> Result<(), AuditError> {
        on_own_runtime(self.drop_index(on))
    }

    /// The statement that makes this index, or several with `;` between them, for whoever does it by hand. None if every
    /// log has it.
    #[must_use]
    pub fn index_sql(&self, on: &IndexOn) -> Option<String> {
        if on.is_always_there() { None } else { self.backend().index_sql(on) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_indexes_say_what_they_are_on_and_fit_into_any_database() {
        let name = |text: &str| text.parse::<IndexOn>().unwrap().name();
        assert_eq!(name("agent_id"), "tracing_audit_by_agent_id");
        assert_eq!(name("metadata.\"client.ip\"[0]"), "tracing_audit_by_metadata.\"client.ip\"[0]");
        let long = |end| name(&["metadata.", &"é".repeat(40), end].concat());
        assert_ne!(long("a"), long("b"));
        assert!(!name("metadata.userId").eq_ignore_ascii_case(&name("metadata.userid")));
        assert_eq!(Index::new(name("metadata.userId"), true, None, None).serves, "metadata.userId");
        assert!(long("a").len() <= NAME && long("a").starts_with("tracing_audit_by_metadata.é"));
        assert!("colour".parse::<IndexOn>().unwrap_err().is_query());
    }
}
