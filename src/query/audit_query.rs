//! `AuditQuery`: the builder, the bounds in time, and the description for the record of reads.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    column::Column, condition::Condition, criterion::Criterion, filter::AuditFilter, operand::Operand,
    path::steps,
};
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
use crate::entry::from_micros;
use crate::entry::{Decision, storable};

/// A question to the log, built step by step. Each call adds a condition, and all conditions must hold. Without any,
/// all entries match.
///
/// ```
/// use tracing_audit::{AuditQuery, Decision, audit_id, query::Column};
///
/// let refused = AuditQuery::new().agent_id(audit_id("alice")).decision(Decision::Deny).limit(20);
/// let by_people = AuditQuery::new().none_of(Column::AgentId, ["healthcheck"]).action_prefix("document.");
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuditQuery {
    pub(crate) filter: AuditFilter,
    pub(crate) ledger: Option<String>,
    pub(crate) before: Option<DateTime<Utc>>,
    pub(crate) committed_since: Option<DateTime<Utc>>,
    pub(crate) committed_before: Option<DateTime<Utc>>,
    pub(crate) from_seq: Option<u64>,
    pub(crate) before_seq: Option<u64>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) newest_first: bool,
    /// Whether the range of `seq` is already as narrow as the ranges of time make it.
    pub(crate) pruned: bool,
}

impl AuditQuery {
    /// A query that all entries match.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether all entries match that are in the ledger and in the range of `seq`.
    pub(crate) fn takes_all(&self) -> bool {
        let filter = AuditFilter { limit: None, ..self.filter.clone() };
        filter == AuditFilter::default() && !self.has_times() && self.conditions.is_empty()
    }

    /// Whether the query has a range of time, of `ts` or of the commit.
    pub(crate) fn has_times(&self) -> bool {
        let AuditFilter { start_time, end_time, .. } = self.filter;
        let times = [start_time, end_time, self.before, self.committed_since, self.committed_before];
        times.iter().any(Option::is_some)
    }

    /// Whether the commit batches still have to say which range of `seq` the ranges of time allow.
    #[cfg(any(feature = "_sqlite", feature = "postgres"))]
    pub(crate) fn needs_pruning(&self) -> bool {
        self.has_times() && !self.pruned
    }

    /// The number of conditions, and of values that all of them together compare with.
    pub(crate) fn size(&self) -> (usize, usize) {
        let values = self.conditions.iter().map(Condition::values).sum();
        (self.conditions.iter().map(Condition::count).sum(), values)
    }

    /// The reason why it cannot be asked, if one of its conditions cannot.
    pub(crate) fn fault(&self) -> Option<String> {
        self.conditions.iter().find_map(|condition| condition.fault(0, false))
    }

    fn with(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    /// Entries of this ledger. Default: the entries of all ledgers in the database. Pages, streams and followers read a
    /// single ledger, by default the one of the log that made the reader, or `main`.
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

    /// Entries of this agent. For an agent with a name, give the [`audit_id`](crate::audit_id) of the name.
    #[must_use]
    pub fn agent_id(self, id: Uuid) -> Self {
        self.with(Condition::Ids { column: Column::AgentId, ids: vec![id], within: true })
    }

    /// Entries with exactly this action.
    #[must_use]
    pub fn action(self, action: impl Into<String>) -> Self {
        self.any_of(Column::Action, [action])
    }

    /// Entries whose action begins with this text: `document.` for `document.read`, `document.share` and so on.
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

    /// Entries with one of these values in the column. In a column of ids, a value that is not a UUID is a name, and
    /// stands for the [`audit_id`](crate::audit_id) of this name, as in an event. A UUID of version 5 stands for both:
    /// the id itself, and the name that an event gave in this form.
    #[must_use]
    pub fn any_of<T: Into<String>>(self, column: Column, values: impl IntoIterator<Item = T>) -> Self {
        self.set(column, values, true)
    }

    /// Entries with none of these values in the column, including the entries with no value there. The values are
    /// read as in [`any_of`](Self::any_of).
    #[must_use]
    pub fn none_of<T: Into<String>>(self, column: Column, values: impl IntoIterator<Item = T>) -> Self {
        self.set(column, values, false)
    }

    fn set<T: Into<String>>(self, column: Column, values: impl IntoIterator<Item = T>, within: bool) -> Self {
        self.with(Condition::of_column(column, values.into_iter().map(Into::into).collect(), within))
    }

    /// Entries with one of these values at this path in their metadata: `userIdentity.arn`, `tags[0]`. A value matches
    /// the string, and also `true`, `false` or `null` that is written like it, and a number that is equal to it: 5 is 5.0.
    ///
    /// A dot leads into an object or stands in a key: `client.ip` finds the field `client.ip` of an event, and `ip` in
    /// `client` of a JSON document; `attributes.http.route` finds the key `http.route` in `attributes`. If an entry has
    /// several of these, which is a problem that it lists, the longest key counts. A key in quotation marks is that key
    /// alone: `"client.ip"`, `"client"."ip"`. If a path has more than six keys in a row, only two readings are looked
    /// for: the keys one by one, and all of them joined.
    #[must_use]
    pub fn metadata_any_of<T: Into<String>>(self, path: &str, values: impl IntoIterator<Item = T>) -> Self {
        self.metadata_set(path, values, true)
    }

    /// Entries with none of these values at this path in their metadata, including the entries with no value there.
    /// Paths and values are read as in [`metadata_any_of`](Self::metadata_any_of).
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
        let values = values.into_iter().flat_map(|value| Operand::word(value).as_json()).collect();
        self.with(Condition::Metadata { path: steps(path), values, within })
    }

    /// Entries that meet this criterion: comparisons, patterns, and combinations of them.
    ///
    /// Each criterion has its documentation at [`Field`](super::Field). A question that cannot be asked, such as the
    /// order of two ids, a number that is not finite or more than eight criteria within each other, is an error of the
    /// read: [`is_query`](crate::AuditError::is_query).
    ///
    /// ```
    /// use tracing_audit::{AuditQuery, query::{Column, Field}};
    ///
    /// let slow = AuditQuery::new().matching(Field::metadata("ms").greater_than(499.5));
    /// let created = AuditQuery::new().matching(Field::from(Column::Action).like("*:Create*"));
    /// let no_ip = AuditQuery::new().matching(!Field::metadata("client.ip").exists());
    /// ```
    #[must_use]
    pub fn matching(self, criterion: Criterion) -> Self {
        match criterion.0 {
            Condition::All(all) => all.into_iter().fold(self, Self::with),
            condition => self.with(condition),
        }
    }

    /// Entries whose action, resource or reason contains this text. The case of ASCII letters is ignored. No index
    /// serves this condition: give a range of time as well.
    #[must_use]
    pub fn containing(self, text: &str) -> Self {
        self.with(Condition::Contains(storable(text.to_ascii_lowercase())))
    }

    /// Entries whose event had [problems](crate::SequencedEntry::problems) when it was accepted.
    #[must_use]
    pub fn with_problems(self) -> Self {
        self.with(Condition::Problems(true))
    }

    /// Entries whose event had no [problems](crate::SequencedEntry::problems) when it was accepted.
    #[must_use]
    pub fn without_problems(self) -> Self {
        self.with(Condition::Problems(false))
    }

    /// Entries with at least this risk score. Entries without a score never match.
    #[must_use]
    pub fn risk_at_least(self, score: f64) -> Self {
        self.with(if score.is_nan() { Condition::NOTHING } else { Condition::RiskAtLeast(score) })
    }

    /// Entries with at most this risk score. Entries without a score never match.
    #[must_use]
    pub fn risk_at_most(self, score: f64) -> Self {
        self.with(if score.is_nan() { Condition::NOTHING } else { Condition::RiskAtMost(score) })
    }

    /// Entries with `ts` at or after this moment.
    ///
    /// Stored times are whole microseconds, rounded down, and every bound in time is cut in the same way: the `ts` that an
    /// entry was written with, to the nanosecond, finds the entry as a bound.
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

    /// Entries with `ts` before this moment. Together with [`since`](Self::since), this is a half-open range.
    #[must_use]
    pub fn before(mut self, time: DateTime<Utc>) -> Self {
        self.before = Some(time);
        self
    }

    /// Entries that were committed at or after this moment, whatever their `ts` says.
    ///
    /// The clock of a service that is wrong, an [`occurred_at`](crate::guide::events) or a queue that waits for its
    /// database can put any distance between `ts` and the commit. Entries that are read by the time of their commit are
    /// read once, provided that the clock that stamps the commits
    /// ([`committed_at`](crate::SequencedEntry::committed_at)) is not set back. To miss nothing whatever the clocks do,
    /// read by `seq`: [`from_seq`](Self::from_seq).
    #[must_use]
    pub fn committed_since(mut self, time: DateTime<Utc>) -> Self {
        self.committed_since = Some(time);
        self
    }

    /// Entries that were committed before this moment. Together with [`committed_since`](Self::committed_since), this is
    /// a half-open range.
    #[must_use]
    pub fn committed_before(mut self, time: DateTime<Utc>) -> Self {
        self.committed_before = Some(time);
        self
    }

    /// Entries with this `seq` or a greater one: in a single ledger, the entries that were committed since.
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

    /// At most this many entries. `page` has a size of its own and ignores the limit, and so does `count`.
    #[must_use]
    pub fn limit(mut self, limit: u32) -> Self {
        self.filter.limit = Some(limit);
        self
    }

    /// Pages from the newest entry to the oldest, by `seq`. Default: from the oldest to the newest.
    ///
    /// This concerns [`page`](crate::AuditReader::page), [`stream`](crate::AuditReader::stream) and the exports in
    /// the order of `seq` ([`JsonLines`](crate::export::ExportFormat::JsonLines), [`Ocsf`](crate::export::ExportFormat::Ocsf)), and
    /// [`stream_by_time`](crate::AuditReader::stream_by_time), where the newest is the latest by `ts`. It
    /// does nothing to [`query`](crate::AuditReader::query) and to exports as CSV, which are newest first in any
    /// case, by `ts`.
    #[must_use]
    pub fn newest_first(mut self) -> Self {
        self.newest_first = true;
        self
    }
}

impl AuditQuery {
    /// The query as JSON, as the record of reads has it: to keep the question together with its answer. Conditions that
    /// are not set are left out; times are RFC 3339. Two queries that are the same have the same description.
    ///
    /// ```
    /// use tracing_audit::{AuditQuery, Decision};
    ///
    /// let described = AuditQuery::new().decision(Decision::Deny).from_seq(7).described();
    /// assert_eq!(serde_json::Value::from(described), serde_json::json!({ "from_seq": 7, "decision": "Deny" }));
    /// ```
    #[must_use]
    pub fn described(&self) -> Map<String, Value> {
        let AuditQuery { filter, ledger, before, conditions, newest_first, .. } = self;
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
        add("committed_since", json!(self.committed_since));
        add("committed_before", json!(self.committed_before));
        add("from_seq", json!(self.from_seq));
        add("before_seq", json!(self.before_seq));
        add("limit", json!(filter.limit));
        add("newest_first", json!(newest_first.then_some(true)));
        let conditions: Vec<Value> = conditions.iter().map(Condition::described).collect();
        add("conditions", if conditions.is_empty() { Value::Null } else { conditions.into() });
        described
    }
}

#[cfg(any(feature = "_sqlite", feature = "postgres"))]
impl AuditQuery {
    /// The bounds in time, both inclusive, in microseconds since 1970. Each is cut as stored times are: an entry whose
    /// `ts` is the bound lies on the same side of it after it was stored as before, whatever the caller's precision is.
    pub(crate) fn bounds(&self) -> (Option<i64>, Option<i64>) {
        let greatest = [self.filter.end_time.map(stored), self.before.map(|before| stored(before) - 1)];
        (self.filter.start_time.map(stored), greatest.into_iter().flatten().min())
    }

    /// The bounds of the time of commit, both inclusive, in microseconds since 1970.
    pub(crate) fn committed_bounds(&self) -> (Option<i64>, Option<i64>) {
        (self.committed_since.map(stored), self.committed_before.map(|before| stored(before) - 1))
    }
}

#[cfg(any(feature = "_sqlite", feature = "postgres"))]
impl AuditQuery {
    /// The query's range of `seq` within the one that the commit batches gave: the first, and the one after the last.
    /// `None` if it is empty.
    pub(crate) fn narrowed(&self, (first, end): (Option<i64>, Option<i64>)) -> Option<(u64, u64)> {
        let first = self.from_seq.unwrap_or(0).max(first?.max(0).cast_unsigned());
        let end = self.before_seq.unwrap_or(u64::MAX).min(end?.max(0).cast_unsigned());
        (first < end).then_some((first, end))
    }
}

/// The time as an entry has it once it is stored: whole microseconds since 1970, rounded down.
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
fn stored(time: DateTime<Utc>) -> i64 {
    from_micros(time.timestamp_micros()).timestamp_micros()
}

impl AuditQuery {
    /// All conditions, including those of the plain filter, which come first.
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
