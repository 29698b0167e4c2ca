//! The choice of the fields of an entry that are shown, by their names; all others are withheld.

use super::{
    columns::Tag,
    ledger_error::LedgerError,
    opening::{Field, Opening},
};

/// A choice of the fields of entries that are shown to somebody else: all, all but some, or some alone.
///
/// The names are `core`, `session_id`, `agent_id`, `resource_id`, `reason`, `problems`, `metadata`, and `metadata.NAME` for a member
/// of the metadata. The core is what every entry has: id, times, writer, workspace, action, resource, decision, and risk score. It is
/// one field, and so is each member of the metadata, whatever is inside.
///
/// A person who withholds a field must be able to rely on it. So to withhold `metadata.card` also withholds members
/// that contain it or are named after what is inside of it, such as `card.number`, and all of the metadata that cannot
/// be cut into members. To withhold `agent_id` also withholds `metadata.agent_id`, which may hold the name that the id
/// was made from; so it is with `session_id`, and with `core` for the workspace. Texts that repeat a value, such as a
/// reason or a problem, are fields of their own.
///
/// ```
/// use tracing_audit::ledger::Disclosure;
///
/// Disclosure::all_but(["agent_id", "metadata.card"])?;
/// Disclosure::only(["core", "metadata.ip"])?;
/// assert!(Disclosure::all_but(["action"]).unwrap_err().to_string().contains("is a part of core"));
/// # Ok::<(), tracing_audit::ledger::LedgerError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Disclosure {
    /// Whether the named fields are those that are shown.
    only: bool,
    names: Vec<Named>,
}

#[derive(Clone, Debug)]
struct Named {
    name: Name,
    /// Whether an entry had it.
    found: bool,
}

#[derive(Clone, Debug)]
enum Name {
    Field(Tag),
    /// All of the metadata.
    Metadata,
    Member(String),
}

const FIELDS: [(&str, Tag); 6] = [
    ("core", Tag::Core),
    ("session_id", Tag::SessionId),
    ("agent_id", Tag::AgentId),
    ("resource_id", Tag::ResourceId),
    ("reason", Tag::Reason),
    ("problems", Tag::Problems),
];

const CORE: [&str; 10] = [
    "id",
    "ts",
    "committed_at",
    "writer",
    "position",
    "workspace_id",
    "risk_score",
    "action",
    "resource",
    "decision",
];

impl Name {
    fn read(name: &str) -> Result<Self, LedgerError> {
        let malformed = |problem: String| LedgerError::malformed("name of a field", problem);
        if let Some((_, tag)) = FIELDS.iter().find(|(known, _)| *known == name) {
            return Ok(Self::Field(*tag));
        }
        if CORE.contains(&name) {
            return Err(malformed(format!(
                "{name:?} is a part of core, which is shown or withheld as a whole: name core"
            )));
        }
        match name.strip_prefix("metadata.") {
            None if name == "metadata" => Ok(Self::Metadata),
            Some(member) if !member.is_empty() => Ok(Self::Member(member.to_owned())),
            _ => {
                let known: Vec<&str> = FIELDS.iter().map(|(known, _)| *known).collect();
                Err(malformed(format!(
                    "{name:?} is none: there are {}, metadata, and metadata.NAME for a member of it",
                    known.join(", ")
                )))
            }
        }
    }

    fn spelled(&self) -> String {
        match self {
            Self::Field(tag) => {
                FIELDS.iter().find(|(_, known)| known == tag).map_or("", |(name, _)| *name).to_owned()
            }
            Self::Metadata => "metadata".to_owned(),
            Self::Member(member) => ["metadata.", member].concat(),
        }
    }

    /// Whether it means this field, which is the member `key` of the metadata if it is one that has a name.
    fn means(&self, tag: Tag, key: Option<&str>) -> bool {
        match self {
            Self::Field(named) => *named == tag,
            Self::Metadata => matches!(tag, Tag::Metadata | Tag::Member),
            Self::Member(member) => tag == Tag::Member && key.is_some_and(|key| is_at_or_in(key, member)),
        }
    }

    /// Whether this field could show what it means, which is withheld.
    fn reaches(&self, tag: Tag, key: Option<&str>) -> bool {
        let beside: &str = match self {
            Self::Field(Tag::Core) => "workspace_id",
            Self::Field(Tag::SessionId) => "session_id",
            Self::Field(Tag::AgentId) => "agent_id",
            Self::Member(member) => member,
            Self::Field(_) | Self::Metadata => return false,
        };
        match (tag, key) {
            (Tag::Metadata, _) | (Tag::Member, None) => true,
            (Tag::Member, Some(key)) => is_at_or_in(key, beside) || is_at_or_in(beside, key),
            _ => false,
        }
    }
}

impl Name {
    /// Whether what it means is inside of this member of the metadata.
    fn is_inside(&self, key: Option<&str>) -> bool {
        matches!((self, key), (Self::Member(member), Some(key)) if is_at_or_in(member, key))
    }
}

/// Whether `path` is `place`, or a place inside of it.
fn is_at_or_in(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The name of a member of the metadata. `None` if it is not JSON.
fn key_of(member: &[u8]) -> Option<String> {
    let member = std::str::from_utf8(member).ok()?;
    let mut values = serde_json::Deserializer::from_str(member).into_iter::<String>();
    let key = values.next()?.ok()?;
    let rest = member.get(values.byte_offset()..)?;
    rest.trim_start().starts_with(':').then_some(key)
}

impl Disclosure {
    /// Shows every field.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Shows every field but these.
    ///
    /// # Errors
    ///
    /// If a name is not that of a field.
    pub fn all_but(names: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, LedgerError> {
        Self::of(false, names)
    }

    /// Shows these fields and no others.
    ///
    /// # Errors
    ///
    /// If a name is not that of a field.
    pub fn only(names: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, LedgerError> {
        Self::of(true, names)
    }

    fn of(only: bool, names: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, LedgerError> {
        let read = |name: &str| Name::read(name).map(|name| Named { name, found: false });
        let names = names.into_iter().map(|name| read(name.as_ref())).collect::<Result<_, _>>()?;
        Ok(Self { only, names })
    }

    /// Closes the fields of an entry that are not shown. A closed field stays closed.
    pub fn apply(&mut self, opening: &mut Opening) {
        if self.names.is_empty() && !self.only {
            return;
        }
        let only = self.only;
        let needs_keys = self.names.iter().any(|named| !matches!(named.name, Name::Metadata));
        let mut closed = Vec::new();
        for (number, field) in opening.fields().iter().enumerate() {
            let key = match field {
                Field::Open { tag: Tag::Member, value, .. } if needs_keys => key_of(value),
                _ => None,
            };
            let (tag, key) = (field.tag(), key.as_deref());
            let (mut is_meant, mut is_reached) = (false, false);
            for Named { name, found } in &mut self.names {
                let means = name.means(tag, key);
                // Then all of the member is withheld.
                *found |= means || !only && name.is_inside(key);
                is_meant |= means;
                is_reached |= name.reaches(tag, key);
            }
            let is_shown = if only { is_meant } else { !is_meant && !is_reached };
            if !is_shown {
                closed.push(number);
            }
        }
        for number in closed {
            opening.withhold(number);
        }
    }

    /// The names of fields that none of the entries had. To withhold such a field may be a mistake in its name.
    #[must_use]
    pub fn not_found(&self) -> Vec<String> {
        self.names.iter().filter(|named| !named.found).map(|named| named.name.spelled()).collect()
    }

    /// Checks that each field which is named was found.
    ///
    /// # Errors
    ///
    /// If one was not.
    pub fn check(&self) -> Result<(), LedgerError> {
        let missing = self.not_found();
        if missing.is_empty() {
            return Ok(());
        }
        let what = if self.only { "shown" } else { "withheld" };
        Err(LedgerError::malformed(
            "name of a field",
            format!(
                "no entry has {}, which was to be {what}: name the fields as the entry has them; a member of the metadata is \
                 {what} as a whole",
                missing.join(", ")
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ledger::{Columns, Committed};

    fn opening(metadata: &str) -> Opening {
        let columns = Columns {
            id: Uuid::from_u128(1),
            ts: 0,
            workspace_id: Uuid::nil(),
            session_id: Some(Uuid::nil()),
            agent_id: Some(Uuid::nil()),
            action: "a",
            resource: "r",
            resource_id: None,
            decision: "",
            reason: Some("why"),
            risk_score: None,
            metadata,
            problems: None,
        };
        let committed = Committed { writer: Uuid::nil(), position: 1, committed_at: 0 };
        Opening::of(&columns, &committed, &[7; 16])
    }

    /// The texts of the fields that are still open, and the tags of the others.
    fn shown(mut disclosure: Disclosure, metadata: &str) -> (Vec<String>, Vec<u8>) {
        let (mut opening, whole) = (opening(metadata), opening(metadata).leaf());
        disclosure.apply(&mut opening);
        assert_eq!(opening.leaf(), whole);
        let (mut open, mut closed) = (Vec::new(), Vec::new());
        for field in opening.fields() {
            match field {
                Field::Open { tag: Tag::Reason | Tag::Metadata | Tag::Member, value, .. } => {
                    open.push(String::from_utf8(value.clone()).unwrap());
                }
                Field::Open { tag, .. } => open.push((*tag as u8).to_string()),
                Field::Closed { tag, .. } => closed.push(*tag as u8),
            }
        }
        (open, closed)
    }

    fn all_but(names: &[&str], metadata: &str) -> Vec<String> {
        shown(Disclosure::all_but(names).unwrap(), metadata).0
    }

    #[test]
    fn what_is_withheld_is_in_no_field_that_is_shown() {
        let metadata =
            r#"{"ip":"10.0.0.1","card":{"number":7},"card.pin":1,"cardinal":2,"agent_id":"alice"}"#;
        let rest = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
        assert_eq!(shown(Disclosure::all(), metadata).1, Vec::<u8>::new());
        let (ip, cardinal) = (r#""ip":"10.0.0.1""#, r#""cardinal":2"#);
        assert_eq!(
            all_but(&["metadata.card"], metadata),
            rest(&["1", "2", "3", "why", ip, cardinal, r#""agent_id":"alice""#])
        );
        // The inside of a member, and the name that an id was made from, are withheld too.
        assert_eq!(
            all_but(&["metadata.card.number", "agent_id"], metadata),
            rest(&["1", "2", "why", ip, r#""card.pin":1"#, cardinal])
        );
        assert_eq!(all_but(&["metadata", "reason", "core"], metadata), rest(&["2", "3"]));
        // A name that is spelled otherwise, one that cannot be read, and metadata that cannot be cut.
        assert_eq!(
            all_but(&["metadata.card"], r#"{"c\u0061rd":1, "card" :2,"b":3}"#).last().unwrap(),
            r#""b":3"#
        );
        assert_eq!(
            all_but(&["metadata.card"], r#"{"b":3,"card,:1}"#),
            rest(&["1", "2", "3", "why", r#""b":3"#])
        );
        assert_eq!(all_but(&["metadata.card"], r#"[{"card":1}]"#), rest(&["1", "2", "3", "why"]));
        assert_eq!(all_but(&["metadata.ip"], r#"{"ip":1,"ip":2}"#), rest(&["1", "2", "3", "why"]));

        let only = |names: &[&str]| shown(Disclosure::only(names).unwrap(), metadata).0;
        assert_eq!(
            only(&["core", "metadata.card"]),
            rest(&["1", r#""card":{"number":7}"#, r#""card.pin":1"#])
        );
        assert_eq!(only(&["agent_id"]), rest(&["3"]));
        assert_eq!(only(&["metadata"]).len(), 5);
        assert_eq!(only(&[]), rest(&[]));
        assert_eq!(shown(Disclosure::only(["metadata.card"]).unwrap(), r#"[{"card":1}]"#).0, rest(&[]));
    }

    #[test]
    fn a_field_that_is_none_or_that_no_entry_has_is_an_error() {
        for (name, why) in [
            ("action", "is a part of core"),
            ("workspace_id", "is a part of core"),
            ("agent", "is none: there are core, session_id"),
            ("metadata.", "is none"),
            ("", "is none"),
        ] {
            for error in [Disclosure::all_but([name]).unwrap_err(), Disclosure::only([name]).unwrap_err()] {
                assert!(error.to_string().contains(why), "{name:?}: {error}");
            }
        }
        let mut disclosure = Disclosure::all_but(["metadata.crad", "metadata.card.pin", "reason"]).unwrap();
        disclosure.apply(&mut opening(r#"{"card":{"pin":1}}"#));
        assert_eq!(disclosure.not_found(), ["metadata.crad"]);
        let error = disclosure.check().unwrap_err().to_string();
        assert!(error.contains("no entry has metadata.crad, which was to be withheld"), "{error}");
        disclosure.apply(&mut opening(r#"{"crad":1}"#));
        assert_eq!(disclosure.check(), Ok(()));
        let mut disclosure = Disclosure::only(["metadata.card.pin"]).unwrap();
        disclosure.apply(&mut opening(r#"{"card":{"pin":1}}"#));
        let error = disclosure.check().unwrap_err().to_string();
        assert!(error.contains("no entry has metadata.card.pin, which was to be shown"), "{error}");
    }
}
