//! The values of an entry that a proof shows, read from the bytes that are proven.

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;
use uuid::Uuid;

use super::{
    columns::Tag,
    ledger_error::LedgerError,
    opening::{Field, Opening},
};

/// A part of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown<T> {
    /// The entry has no such part.
    Absent,
    /// It is withheld or erased: that there is one is proven, and nothing else.
    Withheld,
    /// Its value.
    Open(T),
}

/// The columns that every entry has, and its batch's part.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ProvenCore {
    /// The id of the entry.
    pub id: Uuid,
    /// The time of the action, in microseconds since 1970.
    pub ts: i64,
    /// The time of the commit by the writer's clock, in microseconds since 1970.
    pub committed_at: i64,
    /// The writer that committed the entry.
    pub writer: Uuid,
    /// The number of the entry among those of its writer, from 1.
    pub position: u64,
    /// The workspace of the entry.
    pub workspace_id: Uuid,
    /// The risk score. `None` if nobody gave one.
    pub risk_score: Option<f64>,
    /// The action.
    pub action: String,
    /// The kind of resource.
    pub resource: String,
    /// The decision. Empty if nobody decided.
    pub decision: String,
}

/// The values of an entry that a proof shows. Nothing here is believed that is not proven.
///
/// Serialized, it is one flat object with the names of an exported entry, and with `writer` and `position`. A withheld
/// field is left out and named in `withheld`. Times are in RFC 3339.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ProvenEntry {
    /// The number of the entry in its ledger.
    pub seq: u64,
    /// The columns that every entry has. [`Shown::Absent`] if the number has no entry, which was removed before the
    /// tree came that far.
    pub core: Shown<ProvenCore>,
    /// The session.
    pub session_id: Shown<Uuid>,
    /// The agent.
    pub agent_id: Shown<Uuid>,
    /// The id of the resource.
    pub resource_id: Shown<String>,
    /// The reason.
    pub reason: Shown<String>,
    /// The problems of the event, a JSON list.
    pub problems: Shown<String>,
    /// The metadata as they are stored, without the members that are withheld.
    pub metadata: Shown<String>,
    /// The number of members of the metadata that are withheld.
    pub withheld_members: usize,
}

impl ProvenEntry {
    /// An entry of which only the hash of its leaf is known.
    pub(super) fn hidden(seq: u64) -> Self {
        Self {
            seq,
            core: Shown::Withheld,
            session_id: Shown::Withheld,
            agent_id: Shown::Withheld,
            resource_id: Shown::Withheld,
            reason: Shown::Withheld,
            problems: Shown::Withheld,
            metadata: Shown::Withheld,
            withheld_members: 0,
        }
    }

    /// The values of an opening. The caller that shows them must have its leaf proven.
    ///
    /// # Errors
    ///
    /// If they are not those of an entry, which nothing that this crate writes can be.
    pub fn of(seq: u64, opening: &Opening) -> Result<Self, LedgerError> {
        let mut entry = Self {
            core: Shown::Absent,
            session_id: Shown::Absent,
            agent_id: Shown::Absent,
            resource_id: Shown::Absent,
            reason: Shown::Absent,
            problems: Shown::Absent,
            metadata: Shown::Absent,
            ..Self::hidden(seq)
        };
        let (mut last, mut members) = (None::<Tag>, Vec::new());
        for field in opening.fields() {
            let tag = field.tag();
            let follows = match last {
                None => tag == Tag::Core,
                Some(Tag::Member) => tag == Tag::Member,
                Some(Tag::Metadata) => false,
                Some(last) => (last as u8) < tag as u8,
            };
            if !follows {
                return Err(malformed("its fields are not those of an entry in their order"));
            }
            last = Some(tag);
            let value = match field {
                Field::Open { value, .. } => Some(&**value),
                Field::Closed { .. } => None,
            };
            match tag {
                Tag::Core => entry.core = shown(value, core)?,
                Tag::SessionId => entry.session_id = shown(value, id)?,
                Tag::AgentId => entry.agent_id = shown(value, id)?,
                Tag::ResourceId => entry.resource_id = shown(value, text)?,
                Tag::Reason => entry.reason = shown(value, text)?,
                Tag::Problems => entry.problems = shown(value, text)?,
                Tag::Metadata => entry.metadata = shown(value, text)?,
                Tag::Member => match shown(value, text)? {
                    Shown::Open(member) => members.push(member),
                    _ => entry.withheld_members += 1,
                },
            }
        }
        if entry.core != Shown::Absent && last != Some(Tag::Metadata) {
            entry.metadata = if members.is_empty() && entry.withheld_members > 0 {
                Shown::Withheld
            } else {
                Shown::Open(format!("{{{}}}", members.join(",")))
            };
        }
        Ok(entry)
    }

    /// The names of what is withheld.
    #[must_use]
    pub fn withheld(&self) -> Vec<String> {
        let is = |part: bool, name: &str| part.then(|| name.to_owned());
        let members = match (&self.metadata, self.withheld_members) {
            (Shown::Withheld, _) => Some("metadata".to_owned()),
            (_, 0) => None,
            (_, 1) => Some("1 member of metadata".to_owned()),
            (_, several) => Some(format!("{several} members of metadata")),
        };
        let parts = [
            is(self.core == Shown::Withheld, "core"),
            is(self.session_id == Shown::Withheld, "session_id"),
            is(self.agent_id == Shown::Withheld, "agent_id"),
            is(self.resource_id == Shown::Withheld, "resource_id"),
            is(self.reason == Shown::Withheld, "reason"),
            is(self.problems == Shown::Withheld, "problems"),
            members,
        ];
        parts.into_iter().flatten().collect()
    }
}

fn malformed(problem: &'static str) -> LedgerError {
    LedgerError::malformed("entry", problem)
}

fn shown<T>(
    value: Option<&[u8]>,
    read: impl FnOnce(&[u8]) -> Result<T, LedgerError>,
) -> Result<Shown<T>, LedgerError> {
    value.map_or(Ok(Shown::Withheld), |value| read(value).map(Shown::Open))
}

fn id(value: &[u8]) -> Result<Uuid, LedgerError> {
    Uuid::from_slice(value).map_err(|_| malformed("an id has not 16 bytes"))
}

fn text(value: &[u8]) -> Result<String, LedgerError> {
    String::from_utf8(value.to_vec()).map_err(|_| malformed("a text is not UTF-8"))
}

fn core(value: &[u8]) -> Result<ProvenCore, LedgerError> {
    let mut rest = Rest(value);
    let read = rest.core().filter(|_| rest.0.is_empty());
    read.ok_or_else(|| malformed("its core has another form than a writer gives it"))
}

/// Bytes that are still to be read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn core(&mut self) -> Option<ProvenCore> {
        let id = Uuid::from_bytes(self.array()?);
        let (ts, committed_at) = (i64::from_be_bytes(self.array()?), i64::from_be_bytes(self.array()?));
        let writer = Uuid::from_bytes(self.array()?);
        let position = u64::from_be_bytes(self.array()?);
        let workspace_id = Uuid::from_bytes(self.array()?);
        let risk_score = match self.array::<1>()? {
            [0] => None,
            [1] => Some(f64::from_be_bytes(self.array()?)),
            _ => return None,
        };
        let (action, resource, decision) = (self.text()?, self.text()?, self.text()?);
        Some(ProvenCore {
            id,
            ts,
            committed_at,
            writer,
            position,
            workspace_id,
            risk_score,
            action,
            resource,
            decision,
        })
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(u32::from_be_bytes(self.array()?)).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }
}

/// A time as exported entries have it. One that no calendar has is its number of microseconds.
#[derive(Serialize)]
#[serde(untagged)]
enum Time {
    Known(DateTime<Utc>),
    Beyond(i64),
}

impl Time {
    fn of(micros: i64) -> Self {
        DateTime::from_timestamp_micros(micros).map_or(Self::Beyond(micros), Self::Known)
    }
}

/// A JSON text as the value that it is. One that is no JSON is a string.
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

impl Serialize for ProvenEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fn optional<M: SerializeMap, T: Serialize>(
            map: &mut M,
            name: &'static str,
            part: &Shown<T>,
        ) -> Result<(), M::Error> {
            match part {
                Shown::Withheld => Ok(()),
                Shown::Absent => map.serialize_entry(name, &None::<()>),
                Shown::Open(value) => map.serialize_entry(name, value),
            }
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("seq", &self.seq)?;
        if self.core == Shown::Absent {
            // There is no entry.
            map.serialize_entry("id", &None::<()>)?;
            return map.end();
        }
        if let Shown::Open(core) = &self.core {
            map.serialize_entry("id", &core.id)?;
            map.serialize_entry("workspace_id", &core.workspace_id)?;
            map.serialize_entry("action", &core.action)?;
            map.serialize_entry("resource", &core.resource)?;
            map.serialize_entry("decision", &core.decision)?;
            if let Some(score) = core.risk_score {
                map.serialize_entry("risk_score", &score)?;
            }
            map.serialize_entry("ts", &Time::of(core.ts))?;
            map.serialize_entry("committed_at", &Time::of(core.committed_at))?;
            map.serialize_entry("writer", &core.writer)?;
            map.serialize_entry("position", &core.position)?;
        }
        optional(&mut map, "session_id", &self.session_id)?;
        optional(&mut map, "agent_id", &self.agent_id)?;
        optional(&mut map, "resource_id", &self.resource_id)?;
        optional(&mut map, "reason", &self.reason)?;
        if let Shown::Open(metadata) = &self.metadata {
            map.serialize_entry("metadata", &json(metadata))?;
        }
        if let Shown::Open(problems) = &self.problems {
            map.serialize_entry("problems", &json(problems))?;
        }
        let withheld = self.withheld();
        if !withheld.is_empty() {
            map.serialize_entry("withheld", &withheld)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::{Columns, Committed};

    const COMMITTED: Committed = Committed { writer: Uuid::from_u128(9), position: 7, committed_at: -1 };

    fn columns(texts: &[Option<String>; 5], score: Option<f64>, ids: [Option<u128>; 2]) -> Columns<'_> {
        let [action, resource_id, reason, problems, metadata] = texts.each_ref().map(Option::as_deref);
        Columns {
            id: Uuid::from_u128(1),
            ts: 1_764_000_000_000_001,
            workspace_id: Uuid::from_u128(2),
            session_id: ids[0].map(Uuid::from_u128),
            agent_id: ids[1].map(Uuid::from_u128),
            action: action.unwrap_or(""),
            resource: "document",
            resource_id,
            decision: "Allow",
            reason,
            risk_score: score,
            metadata: metadata.unwrap_or("{}"),
            problems,
        }
    }

    fn optional<T>(value: Option<T>) -> Shown<T> {
        value.map_or(Shown::Absent, Shown::Open)
    }

    proptest! {
        /// The shown value is the stored one, whatever it was.
        #[test]
        fn the_values_of_an_opening_are_the_columns(
            texts: [Option<String>; 5], ids: [Option<u128>; 2], score: Option<i32>, members in r#"(\{("[a-z]":[0-9],)*"z":1\})?"#,
        ) {
            let mut texts = texts;
            if !members.is_empty() {
                texts[4] = Some(members);
            }
            let columns = columns(&texts, score.map(f64::from), ids);
            let mut opening = Opening::of(&columns, &COMMITTED, &[3; 16]);
            let proven = ProvenEntry::of(5, &opening).unwrap();
            let Shown::Open(core) = &proven.core else { panic!("the core is open") };
            prop_assert_eq!((core.id, core.ts, core.workspace_id), (columns.id, columns.ts, columns.workspace_id));
            prop_assert_eq!((core.writer, core.position, core.committed_at), (COMMITTED.writer, 7, -1));
            prop_assert_eq!((&*core.action, &*core.resource, &*core.decision), (columns.action, "document", "Allow"));
            prop_assert_eq!(core.risk_score, columns.risk_score);
            prop_assert_eq!(&proven.session_id, &optional(columns.session_id));
            prop_assert_eq!(&proven.agent_id, &optional(columns.agent_id));
            prop_assert_eq!(&proven.resource_id, &optional(columns.resource_id.map(str::to_owned)));
            prop_assert_eq!(&proven.reason, &optional(columns.reason.map(str::to_owned)));
            prop_assert_eq!(&proven.problems, &optional(columns.problems.map(str::to_owned)));
            prop_assert_eq!(&proven.metadata, &Shown::Open(columns.metadata.to_owned()));
            prop_assert_eq!(proven.withheld(), Vec::<String>::new());
            (0..opening.fields().len()).for_each(|field| opening.withhold(field));
            let withheld = ProvenEntry::of(5, &opening).unwrap();
            prop_assert_eq!(&withheld.core, &Shown::Withheld);
            prop_assert!(withheld.withheld().len() >= opening.fields().len().min(2));
        }
    }

    #[test]
    fn an_entry_is_shown_with_the_names_of_an_export_and_without_what_is_withheld() {
        let texts = [Some("read"), None, Some("r"), None, Some(r#"{"a":1,"b":"two"}"#)];
        let texts = texts.map(|text| text.map(str::to_owned));
        let mut opening = Opening::of(&columns(&texts, Some(0.5), [None, Some(3)]), &COMMITTED, &[3; 16]);
        let shown = |opening: &Opening| serde_json::to_value(ProvenEntry::of(5, opening).unwrap()).unwrap();
        let expected = serde_json::json!({
            "seq": 5, "id": Uuid::from_u128(1), "workspace_id": Uuid::from_u128(2), "action": "read", "resource": "document",
            "decision": "Allow", "risk_score": 0.5, "ts": "2025-11-24T16:00:00.000001Z",
            "committed_at": "1969-12-31T23:59:59.999999Z", "writer": Uuid::from_u128(9), "position": 7, "session_id": null,
            "agent_id": Uuid::from_u128(3), "resource_id": null, "reason": "r", "metadata": {"a": 1, "b": "two"},
        });
        assert_eq!(shown(&opening), expected);
        // The agent, the reason, and a member: fields 1, 2 and 3.
        (1..4).for_each(|field| opening.withhold(field));
        let mut partly = expected;
        partly["metadata"] = serde_json::json!({"b": "two"});
        for name in ["agent_id", "reason"] {
            partly.as_object_mut().unwrap().remove(name);
        }
        partly["withheld"] = serde_json::json!(["agent_id", "reason", "1 member of metadata"]);
        assert_eq!(shown(&opening), partly);
        opening.withhold(4);
        assert_eq!(shown(&opening)["withheld"], serde_json::json!(["agent_id", "reason", "metadata"]));
        assert_eq!(shown(&Opening::of_no_entry()), serde_json::json!({"seq": 5, "id": null}));
    }

    #[test]
    fn fields_that_are_not_those_of_an_entry_are_refused() {
        let texts = [None, Some("r".to_owned()), None, None, None];
        let whole = Opening::of(&columns(&texts, None, [Some(1), None]), &COMMITTED, &[3; 16]);
        let text = whole.to_string();
        let core = text.split_once("[[").unwrap().1.split_once("],").unwrap().0.to_owned();
        let of = |fields: &str| {
            let text = format!(r#"{{"tracing-audit":"opening@v1","fields":[{fields}]}}"#);
            ProvenEntry::of(0, &text.parse().unwrap()).unwrap_err().to_string()
        };
        let salt = "AAAAAAAAAAAAAAAAAAAAAA==";
        for (fields, why) in [
            (format!(r#"[2,"{salt}","AAAA"]"#), "in their order"),
            (format!(r"[{core}],[{core}]"), "in their order"),
            (format!(r#"[{core}],[4,"{salt}",""],[3,"{salt}",""]"#), "in their order"),
            (format!(r#"[{core}],[7,"{salt}",""],[8,"{salt}",""]"#), "in their order"),
            (format!(r#"[{core}],[8,"{salt}",""],[7,"{salt}",""]"#), "in their order"),
            (format!(r#"[{core}],[2,"{salt}","AAAA"]"#), "16 bytes"),
            (format!(r#"[{core}],[4,"{salt}","/w=="]"#), "not UTF-8"),
            (format!(r#"[1,"{salt}","AAAA"]"#), "its core"),
            (format!(r"[{}]", core.replace("\",\"", "\",\"AAAA")), "its core"),
        ] {
            assert!(of(&fields).contains(why), "{fields}: {}", of(&fields));
        }
    }
}
