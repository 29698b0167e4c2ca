//! The fields of an entry with their salts, each open or withheld: what its leaf is computed from again.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::{
    columns::{Columns, Committed, Tag},
    hash::Hash,
    leaf::{Leaf, commitment},
    ledger_error::LedgerError,
    seeds::{Salt, Salts, Seed},
};

const VERSION: &str = "opening@v1";

/// The bytes in front of a salt or a commitment that is kept: the field stays, or it goes.
const STAYS: u8 = 0;
const GOES: u8 = 1;

/// A field of an entry.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// The value is shown, and its salt proves it.
    Open {
        /// The kind of the field.
        tag: Tag,
        /// The salt of its commitment.
        salt: Salt,
        /// The bytes of the value.
        value: Vec<u8>,
    },
    /// The value is withheld or erased: the commitment shows only that there is one.
    Closed {
        /// The kind of the field.
        tag: Tag,
        /// The commitment to its value.
        commitment: Hash,
    },
}

/// The fields of an entry in the order of its leaf, each open or closed.
///
/// The leaf is the same whichever fields are open. So a proof of an entry still holds after a field of it was withheld or erased.
/// `Display` and `FromStr` are JSON on one line:
/// `{"tracing-audit":"opening@v1","fields":[[1,"<salt>","<value>"],[3,"<commitment>"]]}`, with everything in base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Opening {
    fields: Vec<Field>,
}

impl Opening {
    /// Opens all fields of an entry.
    #[must_use]
    pub fn of(columns: &Columns<'_>, committed: &Committed, seed: &Seed) -> Self {
        let mut salts = Salts::of(seed);
        let fields = values(columns, committed);
        let open = |(tag, value)| Field::Open { tag, salt: salts.next(), value };
        Self { fields: fields.into_iter().map(open).collect() }
    }

    /// The opening of a number that has no entry: it has no field. Its leaf is [`Leaf::new`].
    #[must_use]
    pub fn of_no_entry() -> Self {
        Self { fields: Vec::new() }
    }

    /// Opens the fields that are left of an entry of which some are erased. `kept` is what the erasure has kept of it:
    /// the bytes of [`to_kept`](Self::to_kept).
    ///
    /// # Errors
    ///
    /// If the bytes are malformed, if a value exists that must be erased, or the other way round.
    pub fn of_kept(columns: &Columns<'_>, committed: &Committed, kept: &[u8]) -> Result<Self, LedgerError> {
        let malformed = |problem: &'static str| LedgerError::malformed("record of an erasure", problem);
        let (mut rest, mut fields, mut left) = (kept, Vec::new(), values(columns, committed).into_iter());
        while let [tag, kind, after @ ..] = rest {
            let tag = Tag::try_from(*tag)?;
            let cut_off = || malformed("it is cut off");
            match *kind {
                STAYS => {
                    let (salt, after) = after.split_first_chunk().ok_or_else(cut_off)?;
                    let value = left.next().filter(|(present, _)| *present == tag);
                    let (_, value) =
                        value.ok_or_else(|| malformed("a field that it says was left is not there"))?;
                    fields.push(Field::Open { tag, salt: *salt, value });
                    rest = after;
                }
                GOES => {
                    let (commitment, after) = after.split_first_chunk().ok_or_else(cut_off)?;
                    fields.push(Field::Closed { tag, commitment: *commitment });
                    rest = after;
                }
                _ => return Err(malformed("a field is neither kept nor erased")),
            }
        }
        if !rest.is_empty() {
            return Err(malformed("it is cut off"));
        }
        if left.next().is_some() {
            return Err(malformed("a field that it says was erased is there"));
        }
        Ok(Self { fields })
    }

    /// The bytes that an erasure keeps of an entry: the salts of the open fields and the commitments of the closed ones,
    /// but no value.
    #[must_use]
    pub fn to_kept(&self) -> Vec<u8> {
        let mut kept = Vec::new();
        for field in &self.fields {
            match field {
                Field::Open { tag, salt, .. } => {
                    kept.extend_from_slice(&[*tag as u8, STAYS]);
                    kept.extend_from_slice(salt);
                }
                Field::Closed { tag, commitment } => {
                    kept.extend_from_slice(&[*tag as u8, GOES]);
                    kept.extend_from_slice(commitment);
                }
            }
        }
        kept
    }

    /// The fields, in the order of the leaf.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Closes the field with this number, from 0: its value and its salt are gone, its commitment stays. Does nothing if it is
    /// closed already, or if there is no such field.
    pub fn withhold(&mut self, number: usize) {
        if let Some(field) = self.fields.get_mut(number) {
            *field = Field::Closed { tag: field.tag(), commitment: field.commitment() };
        }
    }

    /// The fields as they are written in JSON.
    pub(super) fn to_items(&self) -> Vec<Item> {
        let item = |field: &Field| match field {
            Field::Open { tag, salt, value } => {
                Item::Open(*tag as u8, STANDARD.encode(salt), STANDARD.encode(value))
            }
            Field::Closed { tag, commitment } => Item::Closed(*tag as u8, STANDARD.encode(commitment)),
        };
        self.fields.iter().map(item).collect()
    }

    /// Reads the fields as they are written in JSON.
    pub(super) fn of_items(items: Vec<Item>) -> Result<Self, LedgerError> {
        let malformed = |problem: String| LedgerError::malformed("opening", problem);
        let fields = (0..).zip(items).map(|(number, item): (usize, Item)| {
            let bytes = |what: &str, text: &str| {
                STANDARD
                    .decode(text)
                    .map_err(|_| malformed(format!("the {what} of field {number} is no base64")))
            };
            let length = |what: &str| malformed(format!("the {what} of field {number} has a wrong length"));
            Ok(match item {
                Item::Open(tag, salt, value) => Field::Open {
                    tag: Tag::try_from(tag)?,
                    salt: Salt::try_from(bytes("salt", &salt)?).map_err(|_| length("salt"))?,
                    value: bytes("value", &value)?,
                },
                Item::Closed(tag, commitment) => Field::Closed {
                    tag: Tag::try_from(tag)?,
                    commitment: Hash::try_from(bytes("commitment", &commitment)?)
                        .map_err(|_| length("commitment"))?,
                },
            })
        });
        Ok(Self { fields: fields.collect::<Result<_, LedgerError>>()? })
    }

    /// The leaf of the entry.
    #[must_use]
    pub fn leaf(&self) -> Leaf {
        let mut leaf = Leaf::new();
        self.fields.iter().for_each(|field| leaf.push(field.tag(), &field.commitment()));
        leaf
    }
}

impl Field {
    /// The kind of the field.
    #[must_use]
    pub fn tag(&self) -> Tag {
        match self {
            Self::Open { tag, .. } | Self::Closed { tag, .. } => *tag,
        }
    }

    /// The commitment to the value.
    #[must_use]
    pub fn commitment(&self) -> Hash {
        match self {
            Self::Open { tag, salt, value } => commitment(&mut Vec::new(), *tag, salt, value),
            Self::Closed { commitment, .. } => *commitment,
        }
    }
}

fn values(columns: &Columns<'_>, committed: &Committed) -> Vec<(Tag, Vec<u8>)> {
    let mut core = Vec::new();
    columns.core(committed, &mut core);
    let mut values = vec![(Tag::Core, core)];
    columns.fields(&mut Vec::new(), |tag, value| values.push((tag, value.to_vec())));
    values
}

impl fmt::Debug for Field {
    /// Shows no salt and no value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if matches!(self, Self::Open { .. }) { "Open" } else { "Closed" };
        f.debug_struct(name).field("tag", &self.tag()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Opening {
    /// Shows no salt and no value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").field("fields", &self.fields).finish()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(rename = "tracing-audit")]
    version: String,
    fields: Vec<Item>,
}

/// A field in JSON.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Item {
    Open(u8, String, String),
    Closed(u8, String),
}

impl fmt::Display for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Text { version: VERSION.to_owned(), fields: self.to_items() };
        f.write_str(&serde_json::to_string(&text).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Opening {
    type Err = LedgerError;

    fn from_str(text: &str) -> Result<Self, LedgerError> {
        let malformed = |problem: String| LedgerError::malformed("opening", problem);
        let text: Text = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
        if text.version != VERSION {
            return Err(malformed(format!("its version is {:?}; this is {VERSION:?}", text.version)));
        }
        Self::of_items(text.fields)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const COMMITTED: Committed = Committed { writer: Uuid::nil(), position: 1, committed_at: 0 };

    fn columns(texts: &[Option<String>; 3], ids: [Option<u128>; 2]) -> Columns<'_> {
        let [reason, resource_id, metadata] = texts.each_ref().map(Option::as_deref);
        Columns {
            id: Uuid::from_u128(1),
            ts: -1,
            workspace_id: Uuid::from_u128(2),
            session_id: ids[0].map(Uuid::from_u128),
            agent_id: ids[1].map(Uuid::from_u128),
            action: "read",
            resource: "",
            resource_id,
            decision: "Allow",
            reason,
            risk_score: None,
            metadata: metadata.unwrap_or("{}"),
            problems: None,
        }
    }

    fn any_metadata() -> impl Strategy<Value = Option<String>> {
        prop_oneof![Just(None), any::<String>().prop_map(Some), r#"\{[a,:"{}\[\]]{0,12}\}"#.prop_map(Some)]
    }

    proptest! {
        /// Any two different rows have different leaves under one seed, and one row has one leaf.
        #[test]
        fn a_leaf_determines_its_row(
            a in (any::<[Option<String>; 2]>(), any_metadata(), any::<[Option<u128>; 2]>()),
            b in (any::<[Option<String>; 2]>(), any_metadata(), any::<[Option<u128>; 2]>()),
            seed: Seed,
        ) {
            let texts = |([reason, resource_id], metadata, _): ([_; 2], _, [Option<u128>; 2])| {
                [reason, resource_id, metadata]
            };
            let (ids_a, ids_b) = (a.2, b.2);
            let (texts_a, texts_b) = (texts(a), texts(b));
            // The rows are compared as they are, and each with the other's part.
            for (row, other) in [
                (columns(&texts_a, ids_a), columns(&texts_b, ids_b)),
                (columns(&texts_a, ids_a), columns(&texts_a, ids_b)),
                (columns(&texts_a, ids_a), columns(&texts_b, ids_a)),
            ] {
                let leaf = Leaf::of(&row, &COMMITTED, &seed);
                prop_assert_eq!(leaf == Leaf::of(&other, &COMMITTED, &seed), row == other);
                prop_assert_eq!(Opening::of(&row, &COMMITTED, &seed).leaf(), leaf);
            }
        }

        #[test]
        fn withheld_fields_change_neither_the_leaf_nor_what_is_read_again(
            texts in any::<[Option<String>; 3]>(), ids: [Option<u128>; 2], seed: Seed, withheld: Vec<u8>,
        ) {
            let columns = columns(&texts, ids);
            let mut opening = Opening::of(&columns, &COMMITTED, &seed);
            let leaf = opening.leaf();
            for number in withheld {
                opening.withhold(usize::from(number % 8));
            }
            prop_assert_eq!(opening.leaf(), leaf);
            prop_assert_eq!(opening.to_string().parse::<Opening>(), Ok(opening));
        }

        #[test]
        fn no_bytes_and_no_text_make_a_reader_panic(kept: Vec<u8>, text: String, json in r#"[\[\]{}0-9a-z",:]{0,40}"#) {
            let texts = [None, None, None];
            let columns = columns(&texts, [None, None]);
            if let Ok(opening) = Opening::of_kept(&columns, &COMMITTED, &kept) {
                prop_assert_eq!(opening.to_kept(), kept);
            }
            for text in [text, json.clone(), format!(r#"{{"tracing-audit":"opening@v1","fields":[{json}]}}"#)] {
                if let Ok(opening) = text.parse::<Opening>() {
                    prop_assert_eq!(opening.to_string().parse::<Opening>(), Ok(opening));
                }
            }
        }
    }

    #[test]
    fn a_record_of_an_erasure_that_does_not_fit_the_row_is_refused() {
        let texts = [None, None, None];
        let row = columns(&texts, [None, Some(3)]);
        let mut opening = Opening::of(&row, &COMMITTED, &[7; 16]);
        let kept = opening.to_kept();
        let read = |columns: &Columns<'_>, kept: &[u8]| {
            Opening::of_kept(columns, &COMMITTED, kept).map_err(|error| error.to_string())
        };
        assert_eq!(read(&row, &kept), Ok(opening.clone()));
        // An agent is not a session.
        let session = columns(&texts, [Some(3), None]);
        let missing = "malformed record of an erasure: a field that it says was left is not there";
        assert_eq!(read(&session, &kept), Err(missing.to_owned()));
        assert_eq!(read(&columns(&texts, [None, None]), &kept), Err(missing.to_owned()));
        let mut neither = kept.clone();
        neither[1] = 2;
        for (wrong, why) in [
            (&kept[..kept.len() - 1], "it is cut off"),
            (&[&kept[..], &[3]].concat(), "it is cut off"),
            (&neither, "a field is neither kept nor erased"),
        ] {
            assert_eq!(read(&row, wrong), Err(format!("malformed record of an erasure: {why}")));
        }
        opening.withhold(1);
        let put_back = "malformed record of an erasure: a field that it says was erased is there";
        assert_eq!(read(&row, &opening.to_kept()), Err(put_back.to_owned()));
    }

    #[test]
    fn a_malformed_opening_says_which_field_is_wrong() {
        let salt = STANDARD.encode([7; 16]);
        for (fields, why) in [
            (format!(r#"[9,"{salt}",""]"#), "9 is no tag"),
            (format!(r#"[256,"{salt}",""]"#), "did not match"),
            (format!(r#"[1,"{salt}","",""]"#), "did not match"),
            ("[1]".to_owned(), "did not match"),
            (format!(r#"[1,"{salt}",""],[2,"AAAA",""]"#), "the salt of field 1 has a wrong length"),
            (format!(r#"[1,"{salt}","*"]"#), "the value of field 0 is no base64"),
            (format!(r#"[1,"{salt}"]"#), "the commitment of field 0 has a wrong length"),
        ] {
            let text = format!(r#"{{"tracing-audit":"opening@v1","fields":[{fields}]}}"#);
            let error = text.parse::<Opening>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        for (text, why) in [
            (r#"{"tracing-audit":"opening@v2","fields":[]}"#, "its version is \"opening@v2\""),
            (r#"{"tracing-audit":"opening@v1"}"#, "missing field `fields`"),
            (r#"{"tracing-audit":"opening@v1","fields":[],"more":1}"#, "unknown field `more`"),
        ] {
            let error = text.parse::<Opening>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
