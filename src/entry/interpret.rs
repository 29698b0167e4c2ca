//! Interprets records: turns the fields of an event into a row in normal form and a list of problems.
//!
//! No value is dropped for being malformed: a value that cannot be understood stays in the metadata under the name of
//! its field, and the row lists the problem in `problems`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::{
    audit_entry::{Decision, RESERVED, audit_id, is_namelike, is_reserved},
    debug_text::{Said, is_id, is_typed, said, said_in_json},
    float::shortest,
    json_text::{Kept, read},
    moment::{MAX_TS, MIN_TS},
    normal::normalize_json,
    record::{Damaged, Field, Fields, Record, Value, decode},
    row::{Row, problem_list},
    statics::set_aside,
    time_text,
};

const DEBUG: &str = "looks like the output of `Debug` and is kept as it stands; record it by `%`";
const NAMELIKE: &str = "a UUID of version 5, as those that are made from names: taken for a name of its own, so that \
                        nobody passes for somebody else";

/// The values for fields that an event does not have. A journal keeps them as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct EventDefaults {
    pub(crate) workspace: Uuid,
    pub(crate) decision: Option<Decision>,
    /// Added to the metadata of every event; a field of the event itself with the same name wins.
    pub(crate) metadata: Map<String, Json>,
    /// Whether UUIDs of version 5 that events give are ids of the application's own, and not made from names by us.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) own_version_5: bool,
}

/// Turns one record of a queue into a row.
pub(crate) fn interpret(record: &[u8], defaults: &EventDefaults) -> Result<Row, Damaged> {
    match decode(record)? {
        Record::Entry(row) => Ok(row),
        Record::Event { id, ts, fields } => event(id, ts, fields, defaults),
    }
}

fn event(id: Uuid, emitted: i64, fields: Fields<'_>, defaults: &EventDefaults) -> Result<Row, Damaged> {
    let mut given = Vec::new();
    for field in fields {
        given.extend(Given::new(field?));
    }
    let mut draft = Draft { own_version_5: defaults.own_version_5, ..Draft::default() };
    for (index, field) in given.iter().enumerate() {
        match field.value {
            Value::EventName => draft.event_name = Some(field.name),
            Value::Lost => draft.problem(field, "did not fit or could not be read, left out"),
            _ if is_overruled(field, given.iter().skip(index + 1)) => {}
            _ => draft.take(field),
        }
    }
    Ok(draft.row(id, emitted, defaults))
}

/// Whether a later field of the same name counts instead: an earlier value leaves no trace.
fn is_overruled<'a>(field: &Given<'_>, mut later: impl Iterator<Item = &'a Given<'a>>) -> bool {
    later.any(|later| later.name == field.name && !matches!(later.value, Value::EventName | Value::Lost))
}

/// A field, and the meaning of its text.
struct Given<'a> {
    field: Field<'a>,
    /// The meaning of the field, if that is another text than its value's.
    said: Option<Cow<'a, str>>,
    /// Whether the field should hold one value and holds the `Debug` of something else.
    is_structure: bool,
}

impl<'a> std::ops::Deref for Given<'a> {
    type Target = Field<'a>;

    fn deref(&self) -> &Field<'a> {
        &self.field
    }
}

impl<'a> Given<'a> {
    /// The field, unless it says that there is no value: it then counts as not given, as an `Option` that `tracing`
    /// itself records.
    fn new(field: Field<'a>) -> Option<Self> {
        let is_whole = !field.truncated && !field.panicked;
        let said = match field.value {
            Value::Text(text) if field.formatted && is_whole && is_typed(field.name) => said(text),
            Value::Json(text) if is_whole && field.name != "metadata" && is_typed(field.name) => {
                said_in_json(text)
            }
            _ => return Some(Self { field, said: None, is_structure: false }),
        };
        match said {
            Said::Nothing => None,
            Said::Structure => Some(Self { field, said: None, is_structure: true }),
            Said::Text(text) => Some(Self { field, said: Some(text), is_structure: false }),
        }
    }

    fn text(&self) -> Cow<'a, str> {
        self.said.clone().unwrap_or_else(|| text_of(self.value))
    }
}

/// The fields of one event while they are being interpreted.
#[derive(Default)]
struct Draft<'a> {
    own_version_5: bool,
    problems: Vec<String>,
    workspace_id: Option<Uuid>,
    session_id: Option<Uuid>,
    agent_id: Option<Uuid>,
    action: Option<Cow<'a, str>>,
    /// Whether the log itself wrote the action.
    is_own: bool,
    resource: Option<Cow<'a, str>>,
    resource_id: Option<Cow<'a, str>>,
    reason: Option<Cow<'a, str>>,
    decision: Option<Cow<'a, str>>,
    risk_score: Option<f64>,
    ts: Option<i64>,
    /// Metadata that the event gives field by field.
    explicit: Vec<(&'a str, Json)>,
    /// Metadata that the event gives as one object, in the field `metadata`.
    object: Map<String, Json>,
    message: Option<Cow<'a, str>>,
    event_name: Option<&'a str>,
}

impl<'a> Draft<'a> {
    fn take(&mut self, field: &Given<'a>) {
        self.note_damage(field);
        match field.name {
            "workspace_id" => self.workspace_id = Some(self.id(field)),
            "session_id" => self.session_id = Some(self.id(field)),
            "agent_id" => self.agent_id = Some(self.id(field)),
            "action" => {
                self.action = Some(self.word(field));
                self.is_own = field.own;
            }
            "resource" => self.resource = Some(self.word(field)),
            "resource_id" => self.resource_id = Some(self.word(field)),
            "reason" => self.reason = Some(self.text(field)),
            "message" => self.message = Some(self.text(field)),
            "decision" => self.decision = Some(self.decision(field)),
            "risk_score" => self.risk_score = self.risk_score(field),
            "occurred_at" => self.ts = self.occurred_at(field),
            "metadata" => self.metadata(field),
            name => {
                let value = self.json(field);
                self.explicit.push((name, value));
            }
        }
    }

    fn row(mut self, id: Uuid, emitted: i64, defaults: &EventDefaults) -> Row {
        if let Some(message) = self.message.take() {
            if self.reason.is_none() {
                self.reason = Some(message);
            } else {
                self.explicit.push(("message", Json::String(message.into_owned())));
            }
        }
        let action = self.action.take().or(self.event_name.map(Cow::Borrowed)).unwrap_or_else(|| {
            self.problems.push("action: missing".to_owned());
            Cow::Borrowed("")
        });
        if !self.is_own && is_reserved(&action) {
            self.problems.push(RESERVED.to_owned());
        }
        let decision = defaults.decision.map_or("", Decision::as_str);
        let metadata = self.merged(defaults.metadata.clone());
        Row {
            id,
            ts: self.ts.unwrap_or(emitted),
            workspace_id: self.workspace_id.unwrap_or(defaults.workspace),
            session_id: self.session_id,
            agent_id: self.agent_id,
            action: action.into(),
            resource: self.resource.unwrap_or_default().into(),
            resource_id: self.resource_id.map(Into::into),
            decision: self.decision.unwrap_or(Cow::Borrowed(decision)).into(),
            reason: self.reason.map(Into::into),
            risk_score: self.risk_score,
            metadata: metadata.to_string().into(),
            problems: problem_list(&self.problems),
        }
    }

    /// The metadata in normal form: what the event's own fields say beats the defaults, which beat its object.
    fn merged(&mut self, mut metadata: Map<String, Json>) -> Json {
        let explicit = |name: &str| self.explicit.iter().any(|(explicit, _)| *explicit == name);
        set_aside(&mut self.object, &metadata, explicit, &mut self.problems);
        metadata.append(&mut self.object);
        metadata.extend(self.explicit.drain(..).map(|(name, value)| (name.to_owned(), value)));
        let mut metadata = Json::Object(metadata);
        normalize_json(&mut metadata, &mut self.problems);
        metadata
    }

    fn problem(&mut self, field: &Field<'_>, what: &str) {
        self.problems.push(format!("{}: {what}", field.name));
    }

    fn note_damage(&mut self, field: &Given<'_>) {
        if field.truncated {
            self.problem(field, "too long, cut");
        }
        if field.panicked {
            self.problem(field, "its formatting panicked or failed");
        }
    }

    /// Keeps a value that was not understood in the metadata, as it is.
    fn keep_raw(&mut self, field: &Given<'a>) {
        let raw = json_of(field.value);
        self.explicit.push((field.name, raw));
    }

    fn text(&mut self, field: &Given<'a>) -> Cow<'a, str> {
        let text = field.text();
        if text.contains('\0') {
            self.problem(field, "NUL replaced");
            return Cow::Owned(text.replace('\0', "\u{fffd}"));
        }
        text
    }

    /// A text that names something.
    fn word(&mut self, field: &Given<'a>) -> Cow<'a, str> {
        if field.is_structure {
            self.problem(field, DEBUG);
        }
        self.text(field)
    }

    fn id(&mut self, field: &Given<'a>) -> Uuid {
        if field.is_structure {
            self.problem(field, DEBUG);
        }
        let text = field.text();
        let id = match Uuid::try_parse(&text) {
            Ok(id) if self.own_version_5 || !is_namelike(id) => return id,
            // Perhaps the id of somebody's name: the text is another one than that name.
            Ok(id) => {
                self.problem(field, NAMELIKE);
                audit_id(&id.to_string())
            }
            Err(_) => audit_id(&text),
        };
        self.explicit.push((field.name, Json::String(text.into_owned())));
        id
    }

    fn decision(&mut self, field: &Given<'a>) -> Cow<'a, str> {
        let word = self.text(field);
        if word.is_empty() {
            // An empty decision says that nobody decided, and keeps the log's default from being used.
            return word;
        }
        word.parse::<Decision>().map_or_else(
            |unknown| {
                self.problem(field, &unknown.to_string());
                word
            },
            |decision| Cow::Borrowed(decision.as_str()),
        )
    }

    fn risk_score(&mut self, field: &Given<'a>) -> Option<f64> {
        let score = match field.value {
            Value::F64(score) => Some(shortest(score)),
            _ => field.text().trim().parse().ok(),
        };
        let finite = score.filter(|score| score.is_finite());
        if finite.is_none() {
            self.problem(field, "not a finite number");
            self.keep_raw(field);
        }
        // Adding zero turns -0.0, which SQLite does not keep, into 0.0.
        finite.map(|score| score + 0.0)
    }

    fn occurred_at(&mut self, field: &Given<'a>) -> Option<i64> {
        let time = time_text::read(&text_of(field.value));
        let micros = time.and_then(|time| i64::try_from(time.micros).ok());
        let micros = micros.filter(|micros| (MIN_TS..=MAX_TS).contains(micros));
        let problem = match micros {
            None => Some("not a time with its offset from UTC, within the years 1 to 9999"),
            Some(_) if time.is_some_and(|time| time.leap) => {
                Some("a leap second, stored as the second after it")
            }
            Some(_) => None,
        };
        if let Some(problem) = problem {
            self.problem(field, problem);
            self.keep_raw(field);
        }
        micros
    }

    fn metadata(&mut self, field: &Given<'a>) {
        let object = match (field.value, &field.said) {
            (Value::Text(_), Some(text)) => read(text),
            (Value::Text(text) | Value::Json(text), _) => read(text),
            _ => Err(Kept::NotJson),
        };
        let problem = match object {
            Ok(Json::Object(object)) => {
                self.object = object;
                return;
            }
            Err(Kept::Changed(change)) => change,
            Ok(_) | Err(Kept::NotJson) => "not a JSON object",
        };
        self.problem(field, problem);
        self.keep_raw(field);
    }

    fn json(&mut self, field: &Given<'a>) -> Json {
        if field.is_structure && is_id(field.name) && field.formatted {
            self.problem(field, DEBUG);
        }
        match (field.value, &field.said) {
            (Value::Text(_), Some(said)) => Json::from(&**said),
            (Value::Json(text), _) => read(text).unwrap_or_else(|kept| {
                let problem = match kept {
                    Kept::Changed(change) => change,
                    Kept::NotJson => "not readable as JSON",
                };
                if !field.truncated && !field.panicked {
                    self.problem(field, problem);
                }
                Json::from(text)
            }),
            (value, _) => json_of(value),
        }
    }
}

fn json_of(value: Value<'_>) -> Json {
    match value {
        Value::Text(text) | Value::Json(text) => Json::from(text),
        Value::U64(number) => Json::from(number),
        Value::I64(number) => Json::from(number),
        // JSON has no number for NaN and the infinities: keep them as text.
        Value::F64(number) if !number.is_finite() => Json::from(number.to_string()),
        Value::F64(number) => Json::from(shortest(number)),
        Value::Bool(truth) => Json::from(truth),
        Value::EventName | Value::Lost => Json::Null,
    }
}

fn text_of(value: Value<'_>) -> Cow<'_, str> {
    match value {
        Value::Text(text) | Value::Json(text) => Cow::Borrowed(text),
        Value::U64(number) => Cow::Owned(number.to_string()),
        Value::I64(number) => Cow::Owned(number.to_string()),
        Value::F64(number) => Cow::Owned(shortest(number).to_string()),
        Value::Bool(truth) => Cow::Borrowed(if truth { "true" } else { "false" }),
        Value::EventName | Value::Lost => Cow::Borrowed(""),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::entry::{
        AuditEntry, FieldEncoder, Limits, Moment, begin_event, encode_entry, from_micros, row_of,
    };

    fn row_with(defaults: &EventDefaults, encode: impl FnOnce(&mut FieldEncoder<'_>)) -> Row {
        let mut out = Vec::new();
        begin_event(&mut out, Moment { micros: 1_000_000 });
        encode(&mut FieldEncoder::new(&mut out, Limits { value: 1000, entry: 100_000 }));
        interpret(&out, defaults).unwrap()
    }

    fn row(encode: impl FnOnce(&mut FieldEncoder<'_>)) -> Row {
        row_with(&EventDefaults::default(), encode)
    }

    fn metadata(row: &Row) -> Json {
        serde_json::from_str(&row.metadata).unwrap()
    }

    fn problems(row: &Row) -> Vec<String> {
        row.problems.as_deref().map_or_else(Vec::new, |list| serde_json::from_str(list).unwrap())
    }

    #[test]
    fn a_well_formed_event_has_no_problems() {
        let workspace = Uuid::from_u128(9);
        let row = row(|out| {
            out.str("workspace_id", &workspace.to_string());
            out.str("agent_id", "alice");
            out.str("action", "document.read");
            out.str("resource", "document");
            out.u64("resource_id", 17);
            out.str("decision", "deny");
            out.f64("risk_score", 0.25);
            out.str("message", "no consent");
            out.str("ip", "10.0.0.1");
            out.bool("cached", true);
        });
        assert_eq!(row.workspace_id, workspace);
        assert_eq!(row.agent_id, Some(audit_id("alice")));
        assert_eq!(row.resource_id.as_deref(), Some("17"));
        assert_eq!(&*row.decision, "Deny");
        assert_eq!(row.risk_score, Some(0.25));
        assert_eq!(row.reason.as_deref(), Some("no consent"));
        assert_eq!(metadata(&row), json!({"agent_id": "alice", "ip": "10.0.0.1", "cached": true}));
        assert_eq!(row.problems, None);
    }

    #[test]
    fn a_missing_action_is_stored_and_listed() {
        let row = row(|out| out.str("resource", "document"));
        assert_eq!(&*row.action, "");
        assert_eq!(problems(&row), ["action: missing"]);
    }

    #[test]
    fn an_event_name_set_by_hand_is_the_action_of_an_event_without_one() {
        let named = row(|out| out.event_name("user.login"));
        assert_eq!((&*named.action, named.problems), ("user.login", None));
        let both = row(|out| {
            out.event_name("user.login");
            out.str("action", "user.logout");
        });
        assert_eq!(&*both.action, "user.logout");
    }

    #[test]
    fn an_absent_decision_is_the_default_or_empty_but_never_invented() {
        assert_eq!(&*row(|out| out.str("action", "a")).decision, "");
        let defaults = EventDefaults { decision: Some(Decision::Allow), ..EventDefaults::default() };
        assert_eq!(&*row_with(&defaults, |out| out.str("action", "a")).decision, "Allow");
    }

    #[test]
    fn values_that_cannot_be_understood_are_kept_raw_and_listed() {
        let row = row(|out| {
            out.str("action", "a");
            out.str("decision", "perhaps");
            out.f64("risk_score", f64::NAN);
            out.str("occurred_at", "yesterday");
            out.str("metadata", r#"{"key": "\ud800"}"#);
        });
        assert_eq!(&*row.decision, "perhaps");
        assert_eq!(row.risk_score, None);
        assert_eq!(row.ts, 1_000_000);
        assert_eq!(
            metadata(&row),
            json!({"risk_score": "NaN", "occurred_at": "yesterday", "metadata": r#"{"key": "\ud800"}"#})
        );
        assert_eq!(problems(&row).len(), 4);
    }

    #[test]
    fn numbers_given_as_text_are_scores_and_infinities_are_not() {
        assert_eq!(row(|out| out.str("risk_score", "0.5")).risk_score, Some(0.5));
        assert_eq!(row(|out| out.u64("risk_score", 1)).risk_score, Some(1.0));
        assert_eq!(row(|out| out.str("risk_score", "inf")).risk_score, None);
        assert_eq!(row(|out| out.bool("risk_score", true)).risk_score, None);
    }

    #[test]
    fn explicit_fields_beat_the_static_fields_which_beat_the_metadata_object() {
        let defaults = EventDefaults {
            metadata: json!({"a": 0, "b": 0}).as_object().cloned().unwrap(),
            ..EventDefaults::default()
        };
        let row = row_with(&defaults, |out| {
            out.str("action", "x");
            out.u64("a", 2);
            out.u64("c", 2);
            out.str("metadata", r#"{"b": 1, "c": 1}"#);
        });
        assert_eq!(metadata(&row), json!({"a": 2, "b": 0, "c": 2, "given": {"b": 1}}));
        assert_eq!(problems(&row).len(), 1);
    }

    #[test]
    fn the_last_of_several_fields_with_one_name_counts() {
        let row = row(|out| {
            out.str("action", "outer span");
            out.str("action", "inner span");
            out.str("action", "event");
            out.str("agent_id", "alice");
            out.str("agent_id", &Uuid::from_u128(1).to_string());
            out.str("risk_score", "high");
            out.f64("risk_score", 0.5);
            out.str("message", "first");
            out.str("message", "second");
        });
        assert_eq!(&*row.action, "event");
        assert_eq!(row.reason.as_deref(), Some("second"));
        assert_eq!(row.agent_id, Some(Uuid::from_u128(1)));
        // A value that a later one replaced leaves neither a value nor a problem.
        assert_eq!((metadata(&row), problems(&row)), (json!({}), Vec::<String>::new()));
    }

    #[test]
    fn integers_too_wide_for_json_are_kept_as_text_and_listed() {
        for wide in [r#"{"n":123456789012345678901}"#, r#"{"a":["\\\"",-9223372036854775809]}"#] {
            let row = row(|out| {
                out.str("action", "a");
                out.str("metadata", wide);
            });
            assert_eq!(metadata(&row), json!({ "metadata": wide }));
            assert_eq!(problems(&row).len(), 1);
        }
        for fine in [r#"{"n":18446744073709551615}"#, r#"{"n":1e300,"s":"123456789012345678901","m":-1}"#] {
            let row = row(|out| {
                out.str("action", "a");
                out.str("metadata", fine);
            });
            assert_eq!(metadata(&row), serde_json::from_str::<Json>(fine).unwrap());
        }
    }

    #[test]
    fn occurred_at_is_the_time_and_the_id_keeps_the_moment_of_emission() {
        let row = row(|out| out.str("occurred_at", "2023-07-10T11:42:18.5+02:00"));
        assert_eq!(from_micros(row.ts).to_rfc3339(), "2023-07-10T09:42:18.500+00:00");
        assert_eq!(row.id.get_timestamp().map(|at| at.to_unix().0), Some(1));
    }

    #[test]
    fn nul_is_replaced_in_names_and_values() {
        let row = row(|out| {
            out.str("action", "a\0b");
            out.str("note\0", "x\0y");
        });
        assert_eq!(&*row.action, "a\u{fffd}b");
        assert_eq!(metadata(&row), json!({"note\u{fffd}": "x\u{fffd}y"}));
        assert_eq!(problems(&row).len(), 2);
    }

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            any::<u64>().prop_map(Json::from),
            any::<f64>().prop_map(Json::from),
            any::<String>().prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
                proptest::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| Json::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_written_entry_round_trips_through_its_record_exactly(
            id in any::<u128>(), session in any::<Option<u128>>(), action in any::<String>(),
            reason in any::<Option<String>>(), risk in any::<f64>(), micros in any::<i64>(), json in any_json(),
        ) {
            let mut entry = AuditEntry::new(Uuid::from_u128(id), action, "r");
            entry.session_id = session.map(Uuid::from_u128);
            entry.reason = reason;
            entry.risk_score = risk;
            entry.metadata = json;
            entry.ts = from_micros(micros);
            let row = row_of(entry);
            let mut bytes = Vec::new();
            encode_entry(&mut bytes, &row);
            prop_assert_eq!(&interpret(&bytes, &EventDefaults::default()).unwrap(), &row);
            for end in 0..bytes.len() {
                prop_assert_eq!(interpret(bytes.get(..end).unwrap(), &EventDefaults::default()), Err(Damaged));
            }
        }

        #[test]
        fn hostile_fields_are_always_stored(name in any::<String>(), value in any::<String>()) {
            let row = row(|out| {
                out.str("action", "a");
                out.str(&name, &value);
                for known in ["workspace_id", "decision", "risk_score", "occurred_at", "metadata", "resource"] {
                    out.str(known, &value);
                }
            });
            let read = metadata(&row);
            prop_assert!(read.is_object());
            prop_assert!(!row.metadata.contains('\0') && !row.metadata.contains("\\u0000"));
        }
    }
}
