//! The records that a queue holds, byte for byte: one for each event that was emitted or entry that was written.
//!
//! All numbers are little-endian. Every record begins with `version: u8 = 1, kind: u8, ts: i64, id: [u8; 16]`, where
//! `ts` is in microseconds since 1970.
//!
//! An **event** (kind 1) continues with its fields until the end of the record: `tag: u8, length of name: u8, name,
//! value`. The low four bits of the tag give the type of the value (see [`Tag`]), the high four are flags, which a reader
//! that does not know them ignores. Fields from
//! spans come first, outermost span first, so that the last of several fields with one name counts. The fields are
//! interpreted when the record is read, on the flusher's thread.
//!
//! An **entry** (kind 2) continues with the columns of a [`Row`] other than `id` and `ts`: UUIDs as 16 bytes, texts as
//! `length: u32, bytes`, optional values after a byte that is 0 or 1.

use std::sync::Arc;

use uuid::Uuid;

use super::{moment::Moment, row::Row};

const VERSION: u8 = 1;
const EVENT: u8 = 1;
const ENTRY: u8 = 2;

/// The type of a field's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Tag {
    Text = 1,
    U64 = 2,
    I64 = 3,
    F64 = 4,
    Bool = 5,
    /// JSON text, from a structured value.
    Json = 6,
    /// No value follows: the name is that of the event itself, set by `name:` in the macro.
    EventName = 7,
    /// No value follows: it did not fit or could not be read.
    Lost = 8,
}

const TAG_MASK: u8 = 0x0f;
/// Flag of a tag: the text was longer than allowed.
pub(super) const TRUNCATED: u8 = 0x10;
/// Flag of a tag: the value's own formatting panicked or failed.
pub(super) const PANICKED: u8 = 0x20;
/// Flag of a tag: the text is what `Debug` or `Display` wrote, which arrive in the same way.
pub(super) const FORMATTED: u8 = 0x40;
/// Flag of a tag: the log itself wrote the field. No event can set it.
pub(super) const OWN: u8 = 0x80;

/// The error for a record that does not follow the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged;

/// A decoded record.
#[derive(Debug)]
pub(crate) enum Record<'a> {
    Event { id: Uuid, ts: i64, fields: Fields<'a> },
    Entry(Row),
}

/// Writes the header of an event; `FieldEncoder` appends the fields.
pub(crate) fn begin_event(out: &mut Vec<u8>, at: Moment) {
    header(out, EVENT, at.micros, at.id());
}

fn header(out: &mut Vec<u8>, kind: u8, ts: i64, id: Uuid) {
    out.extend_from_slice(&[VERSION, kind]);
    out.extend_from_slice(&ts.to_le_bytes());
    out.extend_from_slice(id.as_bytes());
}

/// Returns encoded fields without the field `name`, so that a later value can replace it.
pub(crate) fn without_field(fields: &[u8], name: &str) -> Vec<u8> {
    let mut kept = Vec::with_capacity(fields.len());
    let mut rest = Fields { rest: fields };
    while !rest.rest.is_empty() {
        let before = rest.rest;
        let Some(Ok(field)) = rest.next() else { break };
        if field.name != name {
            kept.extend_from_slice(before.get(..before.len() - rest.rest.len()).unwrap_or(&[]));
        }
    }
    kept
}

/// A field of an event, borrowed from its record.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the tag")]
pub(crate) struct Field<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: Value<'a>,
    /// Whether the text was longer than allowed; its start is kept.
    pub(crate) truncated: bool,
    /// Whether the value's own formatting panicked or failed.
    pub(crate) panicked: bool,
    /// Whether the text is what `Debug` or `Display` wrote.
    pub(crate) formatted: bool,
    /// Whether the log itself wrote the field.
    pub(crate) own: bool,
}

/// A field's value, borrowed from its record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Text(&'a str),
    U64(u64),
    I64(i64),
    F64(f64),
    Bool(bool),
    Json(&'a str),
    EventName,
    Lost,
}

/// The fields of an event, in the order of the record.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<Field<'a>, Damaged> {
        let mut bytes = Reader { rest: self.rest };
        let tag = bytes.byte()?;
        let length = usize::from(bytes.byte()?);
        let name = bytes.str(length)?;
        let value = match tag & TAG_MASK {
            tag if tag == Tag::Text as u8 => Value::Text(bytes.text()?),
            tag if tag == Tag::U64 as u8 => Value::U64(u64::from_le_bytes(bytes.array()?)),
            tag if tag == Tag::I64 as u8 => Value::I64(i64::from_le_bytes(bytes.array()?)),
            tag if tag == Tag::F64 as u8 => Value::F64(f64::from_le_bytes(bytes.array()?)),
            tag if tag == Tag::Bool as u8 => Value::Bool(bytes.byte()? != 0),
            tag if tag == Tag::Json as u8 => Value::Json(bytes.text()?),
            tag if tag == Tag::EventName as u8 => Value::EventName,
            tag if tag == Tag::Lost as u8 => Value::Lost,
            _ => return Err(Damaged),
        };
        self.rest = bytes.rest;
        let has = |flag| tag & flag != 0;
        Ok(Field {
            name,
            value,
            truncated: has(TRUNCATED),
            panicked: has(PANICKED),
            formatted: has(FORMATTED),
            own: has(OWN),
        })
    }
}

/// Writes the record of an entry in normal form.
pub(crate) fn encode_entry(out: &mut Vec<u8>, row: &Row) {
    header(out, ENTRY, row.ts, row.id);
    out.extend_from_slice(row.workspace_id.as_bytes());
    for id in [row.session_id, row.agent_id] {
        option(out, id.as_ref(), |out, id| out.extend_from_slice(id.as_bytes()));
    }
    for value in [&row.action, &row.resource, &row.decision, &row.metadata] {
        text(out, value);
    }
    for value in [&row.resource_id, &row.reason, &row.problems] {
        option(out, value.as_ref(), |out, value| text(out, value));
    }
    option(out, row.risk_score.as_ref(), |out, risk| out.extend_from_slice(&risk.to_le_bytes()));
}

fn text(out: &mut Vec<u8>, value: &str) {
    out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(value.as_bytes());
}

fn option<T>(out: &mut Vec<u8>, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        write(out, value);
    }
}

/// Decodes a record; never panics, whatever the bytes are.
pub(crate) fn decode(bytes: &[u8]) -> Result<Record<'_>, Damaged> {
    let mut bytes = Reader { rest: bytes };
    let (version, kind) = (bytes.byte()?, bytes.byte()?);
    let ts = i64::from_le_bytes(bytes.array()?);
    let id = bytes.uuid()?;
    match (version, kind) {
        (VERSION, EVENT) => Ok(Record::Event { id, ts, fields: Fields { rest: bytes.rest } }),
        (VERSION, ENTRY) => {
            let workspace_id = bytes.uuid()?;
            let session_id = bytes.option(Reader::uuid)?;
            let agent_id = bytes.option(Reader::uuid)?;
            let mut text = || bytes.text().map(Arc::<str>::from);
            let (action, resource, decision, metadata) = (text()?, text()?, text()?, text()?);
            let mut text = || bytes.option(|bytes| bytes.text().map(Arc::<str>::from));
            let (resource_id, reason, problems) = (text()?, text()?, text()?);
            let risk_score = bytes.option(|bytes| bytes.array().map(f64::from_le_bytes))?;
            if !bytes.rest.is_empty() {
                return Err(Damaged);
            }
            Ok(Record::Entry(Row {
                id,
                ts,
                workspace_id,
                session_id,
                agent_id,
                action,
                resource,
                resource_id,
                decision,
                reason,
                risk_score,
                metadata,
                problems,
            }))
        }
        _ => Err(Damaged),
    }
}

#[derive(Debug)]
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Damaged)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        self.take(N)?.try_into().map_err(|_| Damaged)
    }

    fn byte(&mut self) -> Result<u8, Damaged> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn uuid(&mut self) -> Result<Uuid, Damaged> {
        self.array().map(Uuid::from_bytes)
    }

    fn str(&mut self, length: usize) -> Result<&'a str, Damaged> {
        std::str::from_utf8(self.take(length)?).map_err(|_| Damaged)
    }

    fn text(&mut self) -> Result<&'a str, Damaged> {
        let length = u32::from_le_bytes(self.array()?);
        self.str(usize::try_from(length).map_err(|_| Damaged)?)
    }

    fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Damaged>,
    ) -> Result<Option<T>, Damaged> {
        match self.byte()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(Damaged),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;
    use crate::entry::encoder::{FieldEncoder, Limits, PANICKED_TEXT};

    const LIMITS: Limits = Limits { value: 16, entry: 1024 };

    fn fields(encode: impl FnOnce(&mut FieldEncoder<'_>)) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut FieldEncoder::new(&mut out, LIMITS));
        out
    }

    fn read(bytes: &[u8]) -> Vec<Field<'_>> {
        Fields { rest: bytes }.map(Result::unwrap).collect()
    }

    #[test]
    fn golden_bytes_of_an_event_record() {
        let mut out = Vec::new();
        header(&mut out, EVENT, 0x0102_0304, Uuid::from_u128(7));
        FieldEncoder::new(&mut out, LIMITS).str("a", "xy");
        FieldEncoder::new(&mut out, LIMITS).u64("n", 258);
        let mut golden = vec![1, 1, 4, 3, 2, 1, 0, 0, 0, 0];
        golden.extend_from_slice(Uuid::from_u128(7).as_bytes());
        golden.extend_from_slice(&[1, 1, b'a', 2, 0, 0, 0, b'x', b'y']);
        golden.extend_from_slice(&[2, 1, b'n', 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(out, golden);
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_flagged() {
        let bytes = fields(|out| out.str("a", &"é".repeat(20)));
        let field = read(&bytes).remove(0);
        assert!(field.truncated);
        assert_eq!(field.value, Value::Text(&"é".repeat(8)));
    }

    #[test]
    fn a_panicking_formatter_loses_its_text_and_nothing_else() {
        let bytes = fields(|out| {
            out.u64("before", 1);
            out.text(Tag::Text, "bad", |out| {
                out.write_str("half")?;
                panic!("in Debug")
            });
            out.u64("after", 2);
        });
        let read = read(&bytes);
        assert_eq!(read.iter().map(|field| field.name).collect::<Vec<_>>(), ["before", "bad", "after"]);
        assert_eq!(read[1].value, Value::Text(PANICKED_TEXT));
        assert!(read[1].panicked);
    }

    #[test]
    fn a_full_record_keeps_names_and_drops_texts() {
        let bytes = fields(|out| (0..200).for_each(|_| out.str("name", "0123456789abcdef")));
        let read = read(&bytes);
        assert_eq!(read.len(), 200);
        assert!(read.last().unwrap().truncated);
    }

    #[test]
    fn recording_a_field_again_replaces_it() {
        let bytes = fields(|out| {
            out.str("a", "1");
            out.bool("b", true);
            out.str("a", "2");
        });
        let kept = without_field(&bytes, "a");
        assert_eq!(read(&kept).iter().map(|field| field.name).collect::<Vec<_>>(), ["b"]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut framed = vec![VERSION, EVENT];
            framed.extend_from_slice(&bytes);
            for candidate in [&bytes, &framed] {
                if let Ok(Record::Event { fields, .. }) = decode(candidate) {
                    fields.for_each(drop);
                }
            }
        }
    }
}
