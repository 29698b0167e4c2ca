//! What a reader can ask for; knows nothing of SQL.

use std::{borrow::Cow, fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{AuditError, Decision, IndexOn, audit_id, entry::replace_nul, error::Kind};

/// The plain filter: all given conditions must hold, bounds are inclusive, and what is `None` does not filter.
///
/// These seven fields are all it will ever have; whatever is richer is an [`AuditQuery`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AuditFilter {
    /// Entries of this workspace.
    pub workspace_id: Option<Uuid>,
    /// Entries of this session.
    pub session_id: Option<Uuid>,
    /// Entries with exactly this decision, usually `Allow`, `Deny` or `Mask`.
    pub decision: Option<String>,
    /// Entries with `ts` at or after this moment.
    pub start_time: Option<DateTime<Utc>>,
    /// Entries with `ts` at or before this moment.
    pub end_time: Option<DateTime<Utc>>,
    /// Entries with exactly this resource.
    pub resource: Option<String>,
    /// At most this many entries.
    pub limit: Option<u32>,
}

/// A column of an entry that is compared with values. As text it is named as in the database: `agent_id`.
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
    /// All of them.
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

    /// Its name in the database.
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
            AuditError::new(Kind::Query, format!("no column is named {name:?}: there are {names}"))
        })
    }
}

/// A question to the log, built step by step: each call adds a condition, and all of them must hold. Default: everything.
///
/// ```
/// use tracing_audit::{AuditQuery, Column, Decision, audit_id};
///
/// let refused = AuditQuery::new().agent_id(audit_id("alice")).decision(Decision::Deny).limit(20);
/// let by_people = AuditQuery::new().none_of(Column::AgentId, ["healthcheck"]).action_prefix("document.");
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuditQuery {
    pub(crate) filter: AuditFilter,
    pub(crate) ledger: Option<String>,
    pub(crate) before: Option<DateTime<Utc>>,
    pub(crate) from_seq: Option<u64>,
    pub(crate) before_seq: Option<u64>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) descending: bool,
}

/// What an entry must be, beside its ledger and its place in time and order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    /// In the column stands one of these. Unless `within`: none of them, or nothing at all.
    Ids {
        column: Column,
        ids: Vec<Uuid>,
        within: bool,
    },
    Texts {
        column: Column,
        texts: Vec<String>,
        within: bool,
    },
    /// The action begins with this, which is not empty.
    ActionPrefix(String),
    RiskAtLeast(f64),
    RiskAtMost(f64),
    Problems(bool),
    /// At this place in the metadata stands one of these values, as JSON writes them.
    Metadata {
        path: Vec<Step>,
        values: Vec<String>,
        within: bool,
    },
    /// Action, resource or reason contain this text, which has no ASCII capitals.
    Contains(String),
}

/// From a JSON value to one within it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(u32),
}

impl AuditQuery {
    /// Everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing but the ledger and a range of `seq` decides.
    pub(crate) fn takes_all(&self) -> bool {
        let filter = AuditFilter { limit: None, ..self.filter.clone() };
        filter == AuditFilter::default() && self.before.is_none() && self.conditions.is_empty()
    }

    /// Whether nothing tells where its entries are: no range of time, and no index that every log has. Unless an [index on
    /// request](crate::indexes) serves it, all entries are looked at.
    ///
    /// ```
    /// use tracing_audit::{AuditQuery, Decision};
    ///
    /// assert!(AuditQuery::new().containing("invoice").scans());
    /// assert!(!AuditQuery::new().containing("invoice").decision(Decision::Deny).scans());
    /// ```
    #[must_use]
    pub fn scans(&self) -> bool {
        !self.has_times() && !self.has_index() && !self.takes_all()
    }

    fn has_times(&self) -> bool {
        self.filter.start_time.is_some() || self.filter.end_time.is_some() || self.before.is_some()
    }

    fn has_index(&self) -> bool {
        self.all_conditions().any(|condition| condition.served().is_some())
    }

    /// The condition by whose index the fewest entries are found, as far as one can tell without looking: its place in
    /// [`all_conditions`](Self::all_conditions).
    #[cfg(feature = "postgres")]
    pub(crate) fn rarest(&self) -> Option<usize> {
        let served = self.all_conditions().map(|condition| condition.served()).enumerate();
        served.filter(|(_, served)| served.is_some()).min_by_key(|(_, served)| *served).map(|(at, _)| at)
    }

    /// What the index of the condition at this place finds, whatever the others and the times say: to count it takes no look
    /// at an entry.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn candidates(&self, at: usize) -> Self {
        let mut conditions: Vec<Condition> =
            self.all_conditions().skip(at).take(1).map(Cow::into_owned).collect();
        match conditions.first_mut() {
            Some(risk @ Condition::RiskAtLeast(_)) if risk.served().is_some() => *risk = Condition::RISKY,
            // The indexes on refusals have the workspace too.
            Some(decision) if decision.served() == Some(Served::Refused) => {
                let workspace =
                    |condition: &Cow<'_, Condition>| condition.served() == Some(Served::Workspace);
                conditions.extend(self.all_conditions().find(workspace).map(Cow::into_owned));
            }
            _ => {}
        }
        let Self { ledger, from_seq, before_seq, .. } = self;
        Self {
            ledger: ledger.clone(),
            from_seq: *from_seq,
            before_seq: *before_seq,
            conditions,
            ..Self::default()
        }
    }

    /// Whether no condition is a prefix or a set of several values: then each index has its entries in the order of `seq`.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) fn has_single_values(&self) -> bool {
        let single = |condition: &Condition| {
            condition.values() == 1 && !matches!(condition, Condition::ActionPrefix(_))
        };
        self.all_conditions().all(|condition| single(&condition))
    }

    /// On what there may be indexes on request that serve it.
    pub(crate) fn served_on_request(&self) -> impl Iterator<Item = IndexOn> {
        self.all_conditions().filter_map(|condition| condition.on_request())
    }

    /// How many values it compares with.
    pub(crate) fn values(&self) -> usize {
        self.conditions.iter().map(Condition::values).sum()
    }

    fn with(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    /// Entries of this ledger. Default: all that the database holds; for pages, which follow one, `main`, or that of
    /// the log which gave the reader.
    #[must_use]
    pub fn ledger(mut self, name: impl Into<String>) -> Self {
        self.ledger = Some(name.into());
        self
    }

    /// Entries of this workspace.
    #[must_use]
    pub fn workspace_id(mut self, id: Uuid) -> Self {
        self.filter.workspace_id = Some(id);
        self
    }

    /// Entries of this session.
    #[must_use]
    pub fn session_id(mut self, id: Uuid) -> Self {
        self.filter.session_id = Some(id);
        self
    }

    /// Entries of this agent. For a name, [`audit_id`](crate::audit_id) of it.
    #[must_use]
    pub fn agent_id(self, id: Uuid) -> Self {
        self.with(Condition::Ids { column: Column::AgentId, ids: vec![id], within: true })
    }

    /// Entries with exactly this action.
    #[must_use]
    pub fn action(self, action: impl Into<String>) -> Self {
        self.any_of(Column::Action, [action])
    }

    /// Entries whose action begins with this: `document.` for `document.read`, `document.share` and so on.
    #[must_use]
    pub fn action_prefix(self, prefix: impl Into<String>) -> Self {
        let prefix = prefix.into();
        if prefix.is_empty() { self } else { self.with(Condition::ActionPrefix(storable(prefix))) }
    }

    /// Entries with exactly this resource.
    #[must_use]
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.filter.resource = Some(resource.into());
        self
    }

    /// Entries with exactly this resource id.
    #[must_use]
    pub fn resource_id(self, id: impl Into<String>) -> Self {
        self.any_of(Column::ResourceId, [id])
    }

    /// Entries with this decision.
    #[must_use]
    pub fn decision(mut self, decision: Decision) -> Self {
        self.filter.decision = Some(decision.into());
        self
    }

    /// Entries with one of these in the column. For a column of ids, a text that is not a UUID is the name of one, and
    /// stands for [`audit_id`](crate::audit_id) of it, as in an event.
    #[must_use]
    pub fn any_of<T: Into<String>>(self, column: Column, values: impl IntoIterator<Item = T>) -> Self {
        self.set(column, values, true)
    }

    /// Entries with none of these in the column, those with nothing there among them. Values as in
    /// [`any_of`](Self::any_of).
    #[must_use]
    pub fn none_of<T: Into<String>>(self, column: Column, values: impl IntoIterator<Item = T>) -> Self {
        self.set(column, values, false)
    }

    fn set<T: Into<String>>(self, column: Column, values: impl IntoIterator<Item = T>, within: bool) -> Self {
        let values = values.into_iter().map(Into::into);
        self.with(if column.holds_ids() {
            let id = |text: String| text.parse().unwrap_or_else(|_| audit_id(&text));
            Condition::Ids { column, ids: values.map(id).collect(), within }
        } else {
            Condition::Texts { column, texts: values.map(storable).collect(), within }
        })
    }

    /// Entries that have one of these values at this place in their metadata: `userIdentity.arn`, `tags[0]`,
    /// `"a key with . in it".name`. A text matches the text, and a number, `true`, `false` or `null` that is written so.
    #[must_use]
    pub fn metadata_any_of<T: Into<String>>(self, path: &str, values: impl IntoIterator<Item = T>) -> Self {
        self.metadata_set(path, values, true)
    }

    /// Entries that have none of these values there, those with nothing there among them. See
    /// [`metadata_any_of`](Self::metadata_any_of).
    #[must_use]
    pub fn metadata_none_of<T: Into<String>>(self, path: &str, values: impl IntoIterator<Item = T>) -> Self {
        self.metadata_set(path, values, false)
    }

    fn metadata_set<T: Into<String>>(
        self,
        path: &str,
        values: impl IntoIterator<Item = T>,
        within: bool,
    ) -> Self {
        let values = values.into_iter().flat_map(|value| as_json(&storable(value.into()))).collect();
        self.with(Condition::Metadata { path: steps(path), values, within })
    }

    /// Entries whose action, resource or reason contain this text; ASCII letters match whatever their case. Nothing but
    /// a scan can answer this: give a range of time too.
    #[must_use]
    pub fn containing(self, text: &str) -> Self {
        self.with(Condition::Contains(storable(text.to_ascii_lowercase())))
    }

    /// Entries that had problems when they were taken in, or those that had none.
    #[must_use]
    pub fn problems(self, some: bool) -> Self {
        self.with(Condition::Problems(some))
    }

    /// Entries with at least this risk score. Those without a score never match.
    #[must_use]
    pub fn risk_at_least(self, score: f64) -> Self {
        self.with(if score.is_nan() { Condition::NOTHING } else { Condition::RiskAtLeast(score) })
    }

    /// Entries with at most this risk score. Those without a score never match.
    #[must_use]
    pub fn risk_at_most(self, score: f64) -> Self {
        self.with(if score.is_nan() { Condition::NOTHING } else { Condition::RiskAtMost(score) })
    }

    /// Entries with `ts` at or after this moment.
    #[must_use]
    pub fn since(mut self, time: DateTime<Utc>) -> Self {
        self.filter.start_time = Some(time);
        self
    }

    /// Entries with `ts` at or before this moment.
    #[must_use]
    pub fn until(mut self, time: DateTime<Utc>) -> Self {
        self.filter.end_time = Some(time);
        self
    }

    /// Entries with `ts` before this moment: with [`since`](Self::since), a half-open range.
    #[must_use]
    pub fn before(mut self, time: DateTime<Utc>) -> Self {
        self.before = Some(time);
        self
    }

    /// Entries with this `seq` or a greater one: what was committed since, in a given ledger.
    #[must_use]
    pub fn from_seq(mut self, seq: u64) -> Self {
        self.from_seq = Some(seq);
        self
    }

    /// Entries with a `seq` less than this one.
    #[must_use]
    pub fn before_seq(mut self, seq: u64) -> Self {
        self.before_seq = Some(seq);
        self
    }

    /// At most this many entries. Pages have a size of their own and ignore it, and so does `count`.
    #[must_use]
    pub fn limit(mut self, limit: u32) -> Self {
        self.filter.limit = Some(limit);
        self
    }

    /// Pages from the end of the ledger towards its beginning. Default: from the beginning.
    #[must_use]
    pub fn descending(mut self) -> Self {
        self.descending = true;
        self
    }
}

/// A text as an entry that holds it is stored.
fn storable(mut text: String) -> String {
    replace_nul(&mut text);
    text
}

/// What JSON writes for the values that look like this.
fn as_json(text: &str) -> impl Iterator<Item = String> + use<> {
    let other = serde_json::from_str::<Value>(text).ok();
    let other = other.filter(|value| value.is_number() || value.is_boolean() || value.is_null());
    [Some(Value::from(text)), other].into_iter().flatten().map(|value| value.to_string())
}

/// The greatest index into a list that both databases take.
const MAX_INDEX: u32 = i32::MAX.cast_unsigned();

/// Every text is a path; what is not a quotation or an index is a key.
pub(crate) fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let path = storable(path.to_owned());
    let mut rest = path.as_str();
    loop {
        let quoted = rest.strip_prefix('"').and_then(|rest| rest.split_once('"'));
        let (key, after) = match quoted {
            Some((key, after)) if after.is_empty() || after.starts_with(['.', '[']) => (key, after),
            _ => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
        };
        steps.push(Step::Key(key.to_owned()));
        rest = after;
        while let Some((index, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let Some(index) = index.parse().ok().filter(|index| *index <= MAX_INDEX) else { break };
            steps.push(Step::Index(index));
            rest = after;
        }
        match rest.strip_prefix('.') {
            Some(after) => rest = after,
            None if rest.is_empty() => return steps,
            // A bracket that is no index.
            None => {
                steps.push(Step::Key(rest.to_owned()));
                return steps;
            }
        }
    }
}

/// The path as text: what [`steps`] reads as the same, but for keys with a quotation mark in them.
pub(crate) fn spelled_path(path: &[Step]) -> String {
    let mut text = String::new();
    for (index, step) in path.iter().enumerate() {
        match step {
            Step::Key(key) => {
                let dot = if index == 0 { "" } else { "." };
                let quote = if key.contains(['.', '[']) { "\"" } else { "" };
                text.extend([dot, quote, key, quote]);
            }
            Step::Index(index) => text.extend(["[", &index.to_string(), "]"]),
        }
    }
    text
}

impl AuditQuery {
    /// What it asks for, for whoever looks at it later.
    pub(crate) fn described(&self) -> Map<String, Value> {
        let AuditQuery { filter, ledger, before, from_seq, before_seq, conditions, descending } = self;
        let mut described = Map::new();
        let mut add = |name: &str, value: Value| {
            if !value.is_null() {
                described.insert(name.to_owned(), value);
            }
        };
        add("ledger", json!(ledger));
        add("workspace_id", json!(filter.workspace_id));
        add("session_id", json!(filter.session_id));
        add("decision", json!(filter.decision));
        add("resource", json!(filter.resource));
        add("since", json!(filter.start_time));
        add("until", json!(filter.end_time));
        add("before", json!(before));
        add("from_seq", json!(from_seq));
        add("before_seq", json!(before_seq));
        add("limit", json!(filter.limit));
        add("descending", json!(descending.then_some(true)));
        let conditions: Vec<Value> = conditions.iter().map(Condition::described).collect();
        add("conditions", if conditions.is_empty() { Value::Null } else { conditions.into() });
        described
    }
}

impl Condition {
    fn described(&self) -> Value {
        let set = |field: &str, values: Value, within: bool| json!({ "field": field, (if within { "any_of" } else { "none_of" }): values });
        match self {
            Self::Ids { column, ids, within } => set(column.name(), json!(ids), *within),
            Self::Texts { column, texts, within } => set(column.name(), json!(texts), *within),
            Self::Metadata { path, values, within } => {
                let values: Vec<Value> = values.iter().filter_map(|value| value.parse().ok()).collect();
                set(&["metadata.", &spelled_path(path)].concat(), values.into(), *within)
            }
            Self::ActionPrefix(prefix) => json!({ "action_prefix": prefix }),
            Self::RiskAtLeast(least) => json!({ "risk_at_least": least }),
            Self::RiskAtMost(greatest) => json!({ "risk_at_most": greatest }),
            Self::Problems(some) => json!({ "problems": some }),
            Self::Contains(text) => json!({ "containing": text }),
        }
    }
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl AuditQuery {
    /// The bounds in time, both included, in microseconds since 1970. Times are stored in whole microseconds: a bound is
    /// rounded into the range that it includes.
    pub(crate) fn bounds(&self) -> (Option<i64>, Option<i64>) {
        let rounded_up = |time: DateTime<Utc>| {
            time.timestamp_micros() + i64::from(!time.timestamp_subsec_nanos().is_multiple_of(1000))
        };
        let until = self.filter.end_time.map(|end| end.timestamp_micros());
        let before = self.before.map(|before| rounded_up(before) - 1);
        let greatest = [until, before].into_iter().flatten().min();
        (self.filter.start_time.map(rounded_up), greatest)
    }
}

impl AuditQuery {
    /// All conditions, those of the filter among them.
    pub(crate) fn all_conditions(&self) -> impl Iterator<Item = Cow<'_, Condition>> {
        let filter = &self.filter;
        let id = |column, id: Option<Uuid>| Some(Condition::Ids { column, ids: vec![id?], within: true });
        let text = |column, text: &Option<String>| {
            Some(Condition::Texts { column, texts: vec![storable(text.clone()?)], within: true })
        };
        let plain = [
            id(Column::WorkspaceId, filter.workspace_id),
            id(Column::SessionId, filter.session_id),
            text(Column::Decision, &filter.decision),
            text(Column::Resource, &filter.resource),
        ];
        plain.into_iter().flatten().map(Cow::Owned).chain(self.conditions.iter().map(Cow::Borrowed))
    }
}

impl Condition {
    /// No action is one of none.
    const NOTHING: Self = Self::Texts { column: Column::Action, texts: Vec::new(), within: true };
    /// The risk of those in the index on it.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) const RISKY: Self = Self::RiskAtLeast(0.8);
}

/// What an index of every log serves, what is rare first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Served {
    Id,
    Session,
    Gaps,
    Problems,
    Risky,
    Refused,
    Workspace,
}

impl Condition {
    /// How many values it compares with.
    fn values(&self) -> usize {
        match self {
            Self::Ids { ids, .. } => ids.len(),
            Self::Texts { texts, .. } => texts.len(),
            Self::Metadata { values, .. } => values.len(),
            _ => 1,
        }
    }

    /// By which index that every log has its entries are found, if by any.
    pub(crate) fn served(&self) -> Option<Served> {
        match self {
            Self::Ids { column: Column::Id, within: true, .. } => Some(Served::Id),
            Self::Ids { column: Column::SessionId, within: true, .. } => Some(Served::Session),
            Self::Ids { column: Column::WorkspaceId, within: true, .. } => Some(Served::Workspace),
            Self::Problems(true) => Some(Served::Problems),
            Self::RiskAtLeast(least) if *least >= 0.8 => Some(Served::Risky),
            Self::Texts { column: Column::Decision, texts, within: true }
                if texts.iter().all(|text| matches!(&**text, "Deny" | "Mask")) =>
            {
                Some(Served::Refused)
            }
            Self::Texts { column: Column::Action, texts, within: true } if *texts == ["audit.gap"] => {
                Some(Served::Gaps)
            }
            _ => None,
        }
    }
}

impl Condition {
    /// On what an index on request would serve it.
    pub(crate) fn on_request(&self) -> Option<IndexOn> {
        match self {
            Self::Ids { column, within: true, .. } | Self::Texts { column, within: true, .. } => {
                Some(IndexOn::Column(*column))
            }
            Self::ActionPrefix(_) => Some(IndexOn::Column(Column::Action)),
            Self::Metadata { path, within: true, .. } => Some(IndexOn::Metadata(spelled_path(path))),
            _ => None,
        }
    }
}

/// The least text that is greater than every text which begins with this one, by code points as both databases compare;
/// none if there is no such text.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) fn after_prefix(prefix: &str) -> Option<String> {
    let kept = prefix.trim_end_matches(char::MAX);
    let last = kept.chars().next_back()?;
    let next = (last..=char::MAX).nth(1)?;
    Some(kept.strip_suffix(last)?.to_owned() + next.encode_utf8(&mut [0; 4]))
}

impl From<AuditFilter> for AuditQuery {
    fn from(filter: AuditFilter) -> Self {
        Self { filter, ..Self::default() }
    }
}

impl From<&Self> for AuditQuery {
    fn from(query: &Self) -> Self {
        query.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(steps: &[Step]) -> String {
        steps
            .iter()
            .map(|step| match step {
                Step::Key(key) => format!("<{key}>"),
                Step::Index(index) => format!("<#{index}>"),
            })
            .collect()
    }

    #[test]
    fn every_text_is_a_path() {
        for (text, expected) in [
            ("ip", "<ip>"),
            ("client.ip", "<client><ip>"),
            ("tags[0][12].name", "<tags><#0><#12><name>"),
            ("\"a.b[0]\".c", "<a.b[0]><c>"),
            ("\"a\"[1]", "<a><#1>"),
            ("\"a", "<\"a>"),
            ("\"a\"b", "<\"a\"b>"),
            ("a[b].c", "<a><[b].c>"),
            ("a..b", "<a><><b>"),
            ("", "<>"),
            ("a.", "<a><>"),
            ("a\0[2147483647]", "<a\u{fffd}><#2147483647>"),
            ("a[2147483648]", "<a><[2147483648]>"),
        ] {
            assert_eq!(path(&steps(text)), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_path_that_is_spelled_is_read_as_the_same(
            keys in proptest::collection::vec(("[^\"\0\\]]{0,6}", proptest::option::of(0..9_u32)), 1..4),
        ) {
            let path: Vec<Step> = keys
                .into_iter()
                .flat_map(|(key, index)| [Some(Step::Key(key)), index.map(Step::Index)])
                .flatten()
                .collect();
            proptest::prop_assert_eq!(steps(&spelled_path(&path)), path);
        }
    }

    #[test]
    fn a_text_is_compared_with_all_that_json_writes_so() {
        let of = |text| as_json(text).collect::<Vec<_>>();
        assert_eq!(of("5"), ["\"5\"", "5"]);
        assert_eq!(of("0.50"), ["\"0.50\"", "0.5"]);
        assert_eq!(of("true"), ["\"true\"", "true"]);
        assert_eq!(of("null"), ["\"null\"", "null"]);
        assert_eq!(of("[1]"), ["\"[1]\""]);
        assert_eq!(of("a\"b"), ["\"a\\\"b\""]);
    }

    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    #[test]
    fn what_comes_after_a_prefix_is_the_next_text_in_code_points() {
        for (prefix, after) in [
            ("document.", Some("document/")),
            ("a\u{d7ff}", Some("a\u{e000}")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
        ] {
            assert_eq!(after_prefix(prefix).as_deref(), after);
        }
    }
}
