//! Expectations, and the report of an assertion that failed.

use std::fmt::{self, Display, Write as _};

use serde_json::Value;
use uuid::Uuid;

use crate::entry::{SequencedEntry, audit_id};

#[track_caller]
#[expect(clippy::panic, reason = "a test fails by panicking")]
pub(super) fn fail(why: &str) -> ! {
    panic!("{why}")
}

/// Asserts that `entries` are exactly these, in this order: for entries from a [`Recorder`](super::Recorder) or a
/// reader.
///
/// # Panics
/// If they are not, with both sides and their differences.
#[track_caller]
pub fn assert_audited(entries: &[SequencedEntry], expected: impl IntoIterator<Item = Expected>) {
    let expected: Vec<Expected> = expected.into_iter().collect();
    if let Some(report) = report(entries, &expected) {
        fail(&report);
    }
}

/// The differences between the entries and the expectations, and both of them; `None` if there is no difference.
pub(super) fn report(entries: &[SequencedEntry], expected: &[Expected]) -> Option<String> {
    let mut wrong = String::new();
    for (index, wanted) in expected.iter().enumerate() {
        match entries.get(index).map(|entry| wanted.differences(entry)) {
            Some(differences) if differences.is_empty() => {}
            Some(differences) => line(&mut wrong, format_args!("{index}: {}", differences.join(", "))),
            None => line(&mut wrong, format_args!("{index}: not audited")),
        }
    }
    for index in expected.len()..entries.len() {
        line(&mut wrong, format_args!("{index}: audited, not expected"));
    }
    if wrong.is_empty() {
        return None;
    }
    let mut report = String::from("not audited as expected\n  what differs:\n");
    report.push_str(&wrong);
    report.push_str("  expected:\n");
    for (index, wanted) in expected.iter().enumerate() {
        line(&mut report, format_args!("{index}: {wanted}"));
    }
    report.push_str("  audited:\n");
    for (index, found) in entries.iter().enumerate() {
        line(&mut report, format_args!("{index}: {}", shown(found)));
    }
    Some(report)
}

/// An entry in one line, with names instead of the ids that were made from them.
fn shown(found: &SequencedEntry) -> String {
    let (entry, problems) = (&found.entry, &found.problems);
    let is = serde_json::to_value(entry).unwrap_or_default();
    let id = |field: &str| name_of(&is, field).or_else(|| is.get(field)).unwrap_or(&Value::Null);
    format!(
        "action={:?} resource={:?} resource_id={:?} decision={:?} reason={:?} risk_score={} agent_id={} \
         session_id={} workspace_id={} metadata={} problems={problems:?}",
        entry.action,
        entry.resource,
        entry.resource_id.as_deref().unwrap_or(""),
        entry.decision,
        entry.reason.as_deref().unwrap_or(""),
        entry.risk_score,
        id("agent_id"),
        id("session_id"),
        id("workspace_id"),
        entry.metadata,
    )
}

/// The name that an id was made from, if the metadata keeps it.
fn name_of<'a>(entry: &'a Value, field: &str) -> Option<&'a Value> {
    let name = entry.get("metadata")?.get(field)?;
    let id: Uuid = entry.get(field)?.as_str()?.parse().ok()?;
    (audit_id(name.as_str()?) == id).then_some(name)
}

pub(super) fn line(out: &mut String, what: fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    writeln!(out, "    {what}").unwrap_or_default();
}

/// An expectation of one entry. The entry must have every value that is given; its other fields may have any value. An
/// entry with problems meets the expectation only if it says [`with_problems`](Self::with_problems).
///
/// If an id was made from a name that the entry's metadata keeps, a failed assertion prints the name.
#[derive(Debug, Clone)]
#[must_use = "it is checked by assert_audited"]
pub struct Expected {
    /// The wanted values, in the order in which they are shown.
    fields: Vec<Wanted>,
    problems: bool,
}

#[derive(Debug, Clone)]
struct Wanted {
    field: String,
    value: Value,
    /// The value as the test gave it: the name, if the value is the id of a name.
    shown: Value,
}

impl Expected {
    /// An entry with this action.
    pub fn action(action: impl Into<String>) -> Self {
        Self { fields: Vec::new(), problems: false }.field("action", action.into())
    }

    fn field(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        let value = value.into();
        self.fields.push(Wanted { field: field.into(), shown: value.clone(), value });
        self
    }

    fn id(mut self, field: &str, text: impl Display) -> Self {
        let text = text.to_string();
        let id = Uuid::parse_str(&text).unwrap_or_else(|_| audit_id(&text));
        let (field, value) = (field.to_owned(), id.to_string().into());
        self.fields.push(Wanted { field, value, shown: text.into() });
        self
    }

    /// Expects an entry about this kind of resource.
    pub fn resource(self, resource: impl Into<String>) -> Self {
        self.field("resource", resource.into())
    }

    /// Expects an entry about the resource with this id.
    pub fn resource_id(self, id: impl Display) -> Self {
        self.field("resource_id", id.to_string())
    }

    /// Expects this decision: a [`Decision`](crate::Decision) or another word.
    pub fn decision(self, decision: impl Into<String>) -> Self {
        self.field("decision", decision.into())
    }

    /// Expects this reason.
    pub fn reason(self, reason: impl Into<String>) -> Self {
        self.field("reason", reason.into())
    }

    /// Expects exactly this risk score.
    pub fn risk_score(self, risk: f64) -> Self {
        self.field("risk_score", risk)
    }

    /// Expects this agent: a UUID, or a name as an event gives it.
    pub fn agent_id(self, agent: impl Display) -> Self {
        self.id("agent_id", agent)
    }

    /// Expects this session: a UUID, or a name as an event gives it.
    pub fn session_id(self, session: impl Display) -> Self {
        self.id("session_id", session)
    }

    /// Expects this workspace: a UUID, or a name as an event gives it.
    pub fn workspace_id(self, workspace: impl Display) -> Self {
        self.id("workspace_id", workspace)
    }

    /// Expects this value under this name in the entry's metadata.
    pub fn metadata(self, name: impl Display, value: impl Into<Value>) -> Self {
        self.field(format!("metadata.{name}"), value)
    }

    /// Expects an entry with problems.
    pub fn with_problems(mut self) -> Self {
        self.problems = true;
        self
    }

    pub(super) fn differences(&self, found: &SequencedEntry) -> Vec<String> {
        let is = serde_json::to_value(&found.entry).unwrap_or_default();
        let differs = |wanted: &Wanted| {
            let Wanted { field, value, shown } = wanted;
            let found = match field.strip_prefix("metadata.") {
                Some(key) => is.get("metadata").and_then(|metadata| metadata.get(key)),
                None => is.get(field),
            };
            let found = found.unwrap_or(&Value::Null);
            (found != value).then(|| {
                let found = name_of(&is, field).unwrap_or(found);
                format!("{field} is {found}, expected {shown}")
            })
        };
        let mut differences: Vec<String> = self.fields.iter().filter_map(differs).collect();
        if self.problems == found.problems.is_empty() {
            differences.push(format!("problems are {:?}", found.problems));
        }
        differences
    }
}

impl Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Wanted { field, shown, .. }) in self.fields.iter().enumerate() {
            write!(f, "{}{field}={shown}", if index == 0 { "" } else { " " })?;
        }
        f.write_str(if self.problems { " with problems" } else { "" })
    }
}
