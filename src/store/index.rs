//! Indexes: the names of those that every log has and of those on request, and hints for query planners.

use serde::{Deserialize, Serialize};

#[cfg(any(feature = "_sqlite", feature = "postgres"))]
use crate::query::Served;
use crate::query::{Column, IndexOn, places, steps};

/// The beginning of the name of each index on request.
const PREFIX: &str = "tracing_audit_by_";

/// The most bytes in a name in PostgreSQL, which cuts longer ones.
const NAME: usize = 63;

/// The names of the indexes that every log has, and what they serve.
const BUILT_IN: [(&str, &str); 10] = [
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

/// Whether every log has this index.
pub(super) fn is_built_in(on: &IndexOn) -> bool {
    matches!(on, IndexOn::Column(Column::Id | Column::WorkspaceId | Column::SessionId))
}

/// The name of this index in the database.
///
/// A long name ends with a digest of what the index is on, and so does one with capitals, since SQLite does not
/// distinguish them from small letters. So does one on a path that leads to several places.
pub(super) fn name_of(on: &IndexOn) -> String {
    let leads_on = matches!(on, IndexOn::Metadata(path) if places(&steps(path)).len() > 1);
    named(&on.to_string(), leads_on)
}

/// The names by which this index may be in the database: its own, and that of an earlier version, whose indexes on paths
/// lead to one place only.
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
pub(super) fn names_of(on: &IndexOn) -> Vec<String> {
    let mut names = vec![name_of(on), named(&on.to_string(), false)];
    names.dedup();
    names
}

fn named(on: &str, leads_on: bool) -> String {
    let name = [PREFIX, on].concat();
    if !leads_on && name.len() <= NAME && !name.contains(|c: char| c.is_ascii_uppercase()) {
        return name;
    }
    let digest =
        crc32c::crc32c_append(crc32c::crc32c(on.as_bytes()), if leads_on { b" anywhere" } else { b"" });
    let kept = name.get(..name.floor_char_boundary(name.len().min(NAME - 9))).unwrap_or_default();
    format!("{kept}~{digest:08x}")
}

/// The predicate of the partial index as a literal: from a bound parameter the planner cannot know that the index
/// applies.
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
pub(super) fn hint(served: Served) -> &'static str {
    match served {
        Served::Risky => " AND e.risk_score >= 0.8",
        Served::Refused => " AND e.decision IN ('Deny', 'Mask')",
        Served::Gaps => " AND e.action = 'audit.gap'",
        Served::Id | Served::Session | Served::Problems | Served::Workspace => "",
    }
}

/// An index of a log: see [`Store::indexes`](crate::Store::indexes).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Index {
    /// The name in the database.
    pub name: String,
    /// The key of the index: a column, a path in the metadata, or a kind of entries. Long text is cut. Empty for an
    /// index that this crate did not create.
    pub serves: String,
    /// Whether the index was created on request, and can be dropped.
    pub on_request: bool,
    /// False while the index is being created, or if creating it was interrupted. Such an index is not used.
    pub ready: bool,
    /// Size on disk, in bytes.
    pub bytes: Option<u64>,
    /// The number of times that PostgreSQL has used the index since its statistics were last reset. `None` for SQLite,
    /// which does not count.
    pub scans: Option<u64>,
}

#[cfg(any(feature = "_sqlite", feature = "postgres"))]
impl Index {
    pub(super) fn new(name: String, ready: bool, bytes: Option<u64>, scans: Option<u64>) -> Self {
        let on_request = name.strip_prefix(PREFIX);
        let built_in = || BUILT_IN.into_iter().find(|(known, _)| *known == name).map(|(_, serves)| serves);
        let is_digest = |end: &str| end.len() == 8 && end.bytes().all(|byte| byte.is_ascii_hexdigit());
        let whole =
            |on: &'_ str| on.rsplit_once('~').filter(|(_, end)| is_digest(end)).map(|(on, _)| on.len());
        let on_request = on_request.map(|on| on.get(..whole(on).unwrap_or(on.len())).unwrap_or(on));
        let serves = on_request.or_else(built_in).unwrap_or_default().to_owned();
        Self { on_request: on_request.is_some(), name, serves, ready, bytes, scans }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_indexes_say_what_they_are_on_and_fit_into_any_database() {
        let name = |text: &str| name_of(&text.parse().unwrap());
        assert_eq!(name("agent_id"), "tracing_audit_by_agent_id");
        assert_eq!(name("metadata.\"client.ip\"[0]"), "tracing_audit_by_metadata.\"client.ip\"[0]");
        let long = |end| name(&["metadata.", &"é".repeat(40), end].concat());
        assert_ne!(long("a"), long("b"));
        assert!(!name("metadata.userId").eq_ignore_ascii_case(&name("metadata.userid")));
        assert_eq!(Index::new(name("metadata.userId"), true, None, None).serves, "metadata.userId");
        assert!(long("a").len() <= NAME && long("a").starts_with("tracing_audit_by_metadata.é"));
        assert_eq!(IndexOn::metadata("client.ip"), "metadata.client.ip".parse().unwrap());
        assert_eq!(IndexOn::from(Column::AgentId), "agent_id".parse().unwrap());
        let both = names_of(&IndexOn::metadata("client.ip"));
        assert!(both[0].starts_with("tracing_audit_by_metadata.client.ip~"), "{both:?}");
        assert_eq!(both[1..], ["tracing_audit_by_metadata.client.ip"]);
        assert_eq!(Index::new(both[0].clone(), true, None, None).serves, "metadata.client.ip");
        assert_eq!(names_of(&IndexOn::metadata("ip")), ["tracing_audit_by_metadata.ip"]);
        assert!("colour".parse::<IndexOn>().unwrap_err().is_query());
    }
}
