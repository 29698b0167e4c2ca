//! The records that a queue holds, byte for byte: one for each event that was emitted or entry that was written.
//!
//! All numbers are little-endian. Every record begins with `version: u8 = 1, kind: u8, ts: i64, id: [u8; 16]`, where
//! `ts` is in microseconds since 1970.
//!
//! An **event** (kind 1) continues with its fields until the end of the record: `tag: u8, length of name: u8, name,
//! value`. The low four bits of the tag give the type of the value (see [`Tag`]), the high four are flags. Fields from
//! spans come first, outermost span first, so that the last of several fields with one name counts. The fields are
//! interpreted when the record is read, on the flusher's thread.
//!
//! An **entry** (kind 2) continues with the columns of a [`Row`] other than `id` and `ts`: UUIDs as 16 bytes, texts as
//! `length: u32, bytes`, optional values after a byte that is 0 or 1.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use uuid::Uuid;

use super::{moment::Moment, row::Row};

const VERSION: u8 = 1;
const EVENT: u8 = 1;
const ENTRY: u8 = 2;

/// The text that replaces a value whose `Debug` or `Display` panicked.
pub(crate) const PANICKED_TEXT: &str = "<panicked while formatting>";

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
const TRUNCATED: u8 = 0x10;
/// Flag of a tag: the value's own formatting panicked or failed.
const PANICKED: u8 = 0x20;

/// The largest sizes of a value and of an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of one value.
    pub(crate) value: usize,
    /// Bytes of a whole record.
    pub(crate) entry: usize,
}

impl Limits {
    /// No limits: for the entries that the log itself writes.
    pub(crate) const NONE: Self = Self { value: usize::MAX, entry: usize::MAX };
}

/// The error for a record that does not follow the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged;

/// A decoded record.
#[derive(Debug)]
pub(crate) enum Record<'a> {
    Event { id: Uuid, ts: i64, fields: Fields<'a> },
    Entry(Row),
}

/// Writes the header of an event; [`FieldEncoder`] appends the fields.
pub(crate) fn begin_event(out: &mut Vec<u8>, at: Moment) {
    header(out, EVENT, at.micros, at.id());
}

fn header(out: &mut Vec<u8>, kind: u8, ts: i64, id: Uuid) {
    out.extend_from_slice(&[VERSION, kind]);
    out.extend_from_slice(&ts.to_le_bytes());
    out.extend_from_slice(id.as_bytes());
}

/// Appends fields to a record and keeps both within [`Limits`].
#[derive(Debug)]
pub(crate) struct FieldEncoder<'a> {
    out: &'a mut Vec<u8>,
    limits: Limits,
}

impl<'a> FieldEncoder<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>, limits: Limits) -> Self {
        Self { out, limits }
    }

    /// Writes tag and name, and reserves room for a value of this many bytes. Returns the offset of the tag.
    #[inline]
    fn key(&mut self, tag: Tag, name: &str, value: usize) -> usize {
        // The name of a raw identifier (`r#type = 1`) is stored without its prefix.
        let name = name.strip_prefix("r#").unwrap_or(name);
        let name = prefix(name, usize::from(u8::MAX));
        let at = self.out.len();
        self.out.reserve(2 + name.len() + value);
        self.out.extend_from_slice(&[tag as u8, u8::try_from(name.len()).unwrap_or(u8::MAX)]);
        self.out.extend_from_slice(name.as_bytes());
        at
    }

    pub(crate) fn event_name(&mut self, name: &str) {
        self.key(Tag::EventName, name, 0);
    }

    /// Writes that a value of this name is missing.
    pub(crate) fn lost(&mut self, name: &str) {
        let at = self.key(Tag::Lost, name, 0);
        self.flag(at, TRUNCATED);
    }

    pub(crate) fn u64(&mut self, name: &str, value: u64) {
        self.key(Tag::U64, name, 8);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn i64(&mut self, name: &str, value: i64) {
        self.key(Tag::I64, name, 8);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn f64(&mut self, name: &str, value: f64) {
        self.key(Tag::F64, name, 8);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn bool(&mut self, name: &str, value: bool) {
        self.key(Tag::Bool, name, 1);
        self.out.push(u8::from(value));
    }

    pub(crate) fn str(&mut self, name: &str, value: &str) {
        let at = self.key(Tag::Text, name, 4 + value.len().min(self.limits.value));
        let kept = prefix(value, self.room(self.out.len() + 4));
        self.out.extend_from_slice(&u32::try_from(kept.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.out.extend_from_slice(kept.as_bytes());
        if kept.len() < value.len() {
            self.flag(at, TRUNCATED);
        }
    }

    /// Returns the number of bytes that a text which starts at this offset may have.
    fn room(&self, start: usize) -> usize {
        self.limits.value.min(self.limits.entry.saturating_sub(start))
    }

    fn flag(&mut self, at: usize, flags: u8) {
        if let Some(tag) = self.out.get_mut(at) {
            *tag |= flags;
        }
    }

    /// Writes the text that `format` produces. `format` is user code: if it panics, a fixed text replaces its own, and
    /// if it writes without end, the text is cut at the limit. No lock is held while it runs.
    pub(crate) fn text(
        &mut self,
        tag: Tag,
        name: &str,
        format: impl FnOnce(&mut Bounded<'_>) -> fmt::Result,
    ) {
        // Reserve room for a UUID.
        let at = self.key(tag, name, 4 + 36);
        let length_at = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        let start = self.out.len();
        let room = self.room(start);
        let mut bounded = Bounded { out: self.out, room, truncated: false };
        let outcome = catch_unwind(AssertUnwindSafe(|| format(&mut bounded)));
        let mut flags = if bounded.truncated { TRUNCATED } else { 0 };
        match outcome {
            Ok(Ok(())) => {}
            // A `Debug` that returned an error: keep the text that it had written until then.
            Ok(Err(fmt::Error)) => flags |= PANICKED,
            Err(_) => {
                self.out.truncate(start);
                self.out.extend_from_slice(PANICKED_TEXT.as_bytes());
                flags = PANICKED;
            }
        }
        let length = u32::try_from(self.out.len() - start).unwrap_or(u32::MAX);
        if let Some(slot) = self.out.get_mut(length_at..start) {
            slot.copy_from_slice(&length.to_le_bytes());
        }
        self.flag(at, flags);
    }
}

/// A text that stops growing at its limit while it is written. Writing never fails, because a `Debug` may unwrap.
#[derive(Debug)]
pub(crate) struct Bounded<'a> {
    out: &'a mut Vec<u8>,
    room: usize,
    truncated: bool,
}

impl fmt::Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let kept = prefix(text, self.room);
        self.out.extend_from_slice(kept.as_bytes());
        self.room -= kept.len();
        if kept.len() < text.len() {
            self.truncated = true;
            self.room = 0;
        }
        Ok(())
    }
}

/// Returns the longest prefix of `text` within `limit` bytes that ends between characters.
#[inline]
fn prefix(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or("")
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
pub(crate) struct Field<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: Value<'a>,
    /// Whether the text was longer than allowed; its start is kept.
    pub(crate) truncated: bool,
    /// Whether the value's own formatting panicked or failed.
    pub(crate) panicked: bool,
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
        Ok(Field { name, value, truncated: tag & TRUNCATED != 0, panicked: tag & PANICKED != 0 })
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
