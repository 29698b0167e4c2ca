//! The audit entry, its vocabulary, and the normal form in which it is stored.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::moment::{Moment, from_micros};

/// Namespace of [`audit_id`]: UUIDv5 of the URL namespace and `https://docs.rs/tracing-audit`.
const NAMESPACE: Uuid = Uuid::from_u128(0x2581_02a3_6737_5467_afdb_04c3_cf69_e6e1);

/// One audited action: who did what to which resource, what was decided, and why.
///
/// Readers return entries in their normal form: `ts` has whole microseconds within the years 1 to 9999, no text
/// contains U+0000, and `risk_score` is finite.
///
/// ```
/// use tracing_audit::{AuditEntry, Decision};
/// use uuid::Uuid;
///
/// let mut entry = AuditEntry::new(Uuid::nil(), "document.read", "document");
/// entry.decision = Decision::Allow.into();
/// assert_eq!(entry.id.get_version_num(), 7);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Unique in the ledger. Entries made from events have a UUIDv7 of the moment of emission.
    pub id: Uuid,
    /// The session in which the action happened, if any.
    pub session_id: Option<Uuid>,
    /// The workspace (tenant) that the entry belongs to; nil if the application has none.
    pub workspace_id: Uuid,
    /// The agent that acted, if known. [`audit_id`] turns names and numbers into UUIDs.
    pub agent_id: Option<Uuid>,
    /// The action, for instance `document.read`.
    pub action: String,
    /// The kind of resource that the action was done to, for instance `document`.
    pub resource: String,
    /// The id of that resource, if the action was done to a single one.
    pub resource_id: Option<String>,
    /// `Allow`, `Deny` or `Mask`; empty if nobody decided.
    pub decision: String,
    /// The reason for the decision, in words.
    pub reason: Option<String>,
    /// The risk that the application computed; 0.0 if it computed none.
    pub risk_score: f64,
    /// Everything else, usually a JSON object.
    pub metadata: Value,
    /// The time of the action.
    pub ts: DateTime<Utc>,
}

impl AuditEntry {
    /// Creates an entry with the current time and a new UUIDv7 as `id`; every field not given here is empty.
    #[must_use]
    pub fn new(workspace_id: Uuid, action: impl Into<String>, resource: impl Into<String>) -> Self {
        let now = Moment::now();
        Self {
            id: now.id(),
            session_id: None,
            workspace_id,
            agent_id: None,
            action: action.into(),
            resource: resource.into(),
            resource_id: None,
            decision: String::new(),
            reason: None,
            risk_score: 0.0,
            metadata: Value::Object(serde_json::Map::new()),
            ts: from_micros(now.micros),
        }
    }
}

/// The problem of an entry whose action is reserved and that the log itself did not make.
pub(super) const RESERVED: &str = "action: what begins with `audit.` is reserved for the log's own entries";

/// Whether an action is, or looks like, one of those that only the log itself may use.
pub(super) fn is_reserved(action: &str) -> bool {
    let is_seen = |c: &char| {
        let unseen = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
        !unseen && !c.is_whitespace() && !c.is_control()
    };
    let mut seen = action.chars().filter(is_seen).map(|c| c.to_ascii_lowercase());
    "audit.".chars().all(|c| seen.next() == Some(c))
}

/// An entry of the ledger, with its place in the order of commit.
///
/// Serialized, it is one flat object: the fields of the entry stand beside those of this struct. The field `risk_score` is
/// left out if nobody gave a score, and read back as such.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SequencedEntry {
    /// The ledger that the entry belongs to.
    pub ledger: String,
    /// The number of the entry in the ledger: contiguous from 0, in the order of commit.
    pub seq: u64,
    /// The entry itself.
    pub entry: AuditEntry,
    /// The time at which the entry's batch was committed, by the writer's clock.
    pub committed_at: DateTime<Utc>,
    /// The problems of the event, each as `field: problem`; empty for a well-formed event.
    ///
    /// They also name the problems of a row that somebody has changed to something that no entry can have. Such an
    /// entry is returned as others are: the contents of its columns are in these problems and in the metadata, as text.
    /// Metadata that are not JSON, or are nested deeper than 127 levels, or have a number beyond `f64`, are a string.
    pub problems: Vec<String>,
    /// Whether nobody gave a risk score.
    pub(crate) unscored: bool,
}

impl SequencedEntry {
    /// The risk score that the application gave. `None` if it gave none: the entry's own
    /// [`risk_score`](AuditEntry::risk_score) is then 0.0.
    #[must_use]
    pub fn risk_score(&self) -> Option<f64> {
        (!self.unscored).then_some(self.entry.risk_score)
    }

    /// Whether the log itself made this entry: one with the action `audit.gap`, which reports what the log does not
    /// hold. An event or a written entry that uses an action beginning with `audit.` is stored, and lists that as a
    /// problem, which nobody can keep it from.
    ///
    /// ```
    /// # use tracing_audit::SequencedEntry;
    /// # fn declared_losses(entries: &[SequencedEntry]) -> impl Iterator<Item = &SequencedEntry> {
    /// entries.iter().filter(|found| found.is_own() && found.entry.action == "audit.gap")
    /// # }
    /// ```
    #[must_use]
    pub fn is_own(&self) -> bool {
        is_reserved(&self.entry.action) && !self.problems.iter().any(|problem| problem == RESERVED)
    }
}

/// The decision about an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Decision {
    /// The action was allowed.
    Allow,
    /// The action was refused.
    Deny,
    /// The action was allowed, with parts of the data hidden.
    Mask,
}

impl Decision {
    /// Returns the word that is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "Allow",
            Self::Deny => "Deny",
            Self::Mask => "Mask",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Decision> for String {
    fn from(decision: Decision) -> Self {
        decision.as_str().to_owned()
    }
}

/// The error for a text that is not `Allow`, `Deny` or `Mask` in any letter case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownDecision;

impl fmt::Display for UnknownDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a decision: expected Allow, Deny or Mask")
    }
}

impl std::error::Error for UnknownDecision {}

impl FromStr for Decision {
    type Err = UnknownDecision;

    fn from_str(text: &str) -> Result<Self, UnknownDecision> {
        [Self::Allow, Self::Deny, Self::Mask]
            .into_iter()
            .find(|decision| decision.as_str().eq_ignore_ascii_case(text))
            .ok_or(UnknownDecision)
    }
}

/// Returns the UUID under which a text that is not a UUID (a user name, an e-mail address, a number) is stored.
///
/// It is a UUIDv5 (RFC 9562, section 5.5) in a namespace of this crate, so the same text gives the same UUID in every
/// process: filter by `audit_id("alice@example.com")` to find the actions of Alice. The text itself is kept in the
/// entry's metadata.
///
/// It is for queries, and for entries that are written as values. An event gives the name itself: a UUID of version 5
/// that an event gives as an id is taken for a name of its own, with a problem, so that nobody passes for somebody else
/// by giving the UUID of that name (see
/// [`own_version_5_ids`](crate::AuditLogBuilder::own_version_5_ids)).
///
/// ```
/// # use tracing_audit::audit_id;
/// assert_eq!(audit_id("alice"), audit_id("alice"));
/// assert_eq!(audit_id("alice").get_version_num(), 5);
/// ```
#[must_use]
pub fn audit_id(text: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, text.as_bytes())
}

/// Whether this may be the id that [`audit_id`] makes of some name.
pub(crate) fn is_namelike(id: Uuid) -> bool {
    id.get_version() == Some(uuid::Version::Sha1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_id_never_changes_because_stored_entries_depend_on_it() {
        assert_eq!(NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_URL, b"https://docs.rs/tracing-audit"));
        assert_eq!(audit_id("alice").to_string(), "8463ebe1-9248-5ca7-9c03-e00fcfc2b0f7");
    }
}
