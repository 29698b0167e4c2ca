//! Encodes the fields of an event, each in its type, and keeps them within the limits of size.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{
    record::{FORMATTED, OWN, PANICKED, TRUNCATED, Tag},
    shorten::shorten,
};

/// The text that replaces a value whose `Debug` or `Display` panicked.
pub(crate) const PANICKED_TEXT: &str = "<panicked while formatting>";

/// The field that holds a JSON document. So does every field with the tag [`Tag::Json`].
const DOCUMENT: &str = "metadata";

/// The largest sizes of a value and of an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of one value.
    pub(crate) value: usize,
    /// Bytes of a whole record.
    pub(crate) entry: usize,
}

impl Limits {
    /// The absence of limits, for the entries that the log itself writes.
    pub(crate) const NONE: Self = Self { value: usize::MAX, entry: usize::MAX };
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
        let start = self.out.len() + 4;
        if value.len() > self.limits.value
            && name == DOCUMENT
            && let Some((kept, is_cut)) = shorten(value, self.limits.value, self.document_room(start))
        {
            self.out.extend_from_slice(&u32::try_from(kept.len()).unwrap_or(u32::MAX).to_le_bytes());
            self.out.extend_from_slice(kept.as_bytes());
            return self.flag(at, if is_cut { TRUNCATED } else { 0 });
        }
        let kept = prefix(value, self.room(start));
        self.out.extend_from_slice(&u32::try_from(kept.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.out.extend_from_slice(kept.as_bytes());
        if kept.len() < value.len() {
            self.flag(at, TRUNCATED);
        }
    }

    /// Writes the action of an entry that the log itself makes.
    pub(crate) fn own_action(&mut self, action: &str) {
        let at = self.out.len();
        self.str("action", action);
        self.flag(at, OWN);
    }

    /// Returns the number of bytes that a text which starts at this offset may have.
    fn room(&self, start: usize) -> usize {
        self.limits.value.min(self.limits.entry.saturating_sub(start))
    }

    /// Returns the number of bytes that a JSON document which starts at this offset may have: it leaves room for another
    /// value. The limit of a value is for the values in it.
    fn document_room(&self, start: usize) -> usize {
        let room = self.limits.entry.saturating_sub(start);
        room.saturating_sub(self.limits.value).max(self.room(start))
    }

    fn flag(&mut self, at: usize, flags: u8) {
        if let Some(tag) = self.out.get_mut(at) {
            *tag |= flags;
        }
    }

    /// Writes what `Debug` or `Display` writes, as [`text`](Self::text) does. Returns the text if it looks like that of
    /// `Debug`: a quick look, which `is_debug` is to confirm.
    pub(crate) fn formatted(
        &mut self,
        name: &str,
        format: impl FnOnce(&mut Bounded<'_>) -> fmt::Result,
    ) -> Option<&str> {
        let at = self.out.len();
        let start = self.text(Tag::Text, name, format);
        self.flag(at, FORMATTED);
        let text = self.out.get(start..)?;
        let looks = matches!(text, [b'"' | b'\'', ..] | [.., b')' | b'}'] | b"None");
        if looks { std::str::from_utf8(text).ok() } else { None }
    }

    /// Writes the text that `format` produces, and returns where it starts. `format` is user code: if it panics, a fixed
    /// text replaces its own, and if it writes without end, the text is cut at the limit. No lock is held while it runs.
    pub(crate) fn text(
        &mut self,
        tag: Tag,
        name: &str,
        format: impl FnOnce(&mut Bounded<'_>) -> fmt::Result,
    ) -> usize {
        // Reserve room for a UUID.
        let at = self.key(tag, name, 4 + 36);
        let length_at = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        let start = self.out.len();
        let is_document = tag == Tag::Json || name == DOCUMENT;
        let room = if is_document { self.document_room(start) } else { self.room(start) };
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
        if is_document && self.out.len() - start > self.limits.value {
            flags |= self.shorten_from(start);
        }
        let length = u32::try_from(self.out.len() - start).unwrap_or(u32::MAX);
        if let Some(slot) = self.out.get_mut(length_at..start) {
            slot.copy_from_slice(&length.to_le_bytes());
        }
        self.flag(at, flags);
        start
    }
}

impl FieldEncoder<'_> {
    /// Shortens the JSON document that starts at this offset, or cuts it if it is none. Returns the flags for its tag.
    fn shorten_from(&mut self, start: usize) -> u8 {
        let text = self.out.get(start..).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
        let room = self.document_room(start);
        let (kept, is_cut) = shorten(text, self.limits.value, room)
            .unwrap_or_else(|| (prefix(text, self.room(start)).to_owned(), true));
        self.out.truncate(start);
        self.out.extend_from_slice(kept.as_bytes());
        if is_cut { TRUNCATED } else { 0 }
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
