//! Writes a value as a line of JSON that is one line for every program.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// JSON allows these characters as they are, and some programs end a line at them: U+0085, U+2028 and U+2029. The other
/// control characters of their range are escaped as well.
fn ends_line(c: char) -> bool {
    matches!(c, '\u{80}'..='\u{9f}' | '\u{2028}' | '\u{2029}')
}

struct OneLine;

impl Formatter for OneLine {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        // Most texts are ASCII, which is recognised fast.
        let mut rest = fragment;
        while !rest.is_ascii()
            && let Some((at, c)) = rest.char_indices().find(|(_, c)| ends_line(*c))
        {
            let (before, after) = rest.split_at_checked(at).unwrap_or((rest, ""));
            writer.write_all(before.as_bytes())?;
            write!(writer, "\\u{:04x}", u32::from(c))?;
            rest = after.get(c.len_utf8()..).unwrap_or("");
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Writes the value as one line of JSON, without a line break at its end.
///
/// Every character at which some program ends a line is escaped, also those that JSON allows as they are: U+0085, U+2028 and
/// U+2029. A reader of JSON reads the same value. The lines of
/// [`ExportFormat::JsonLines`](super::ExportFormat::JsonLines) are written by this function.
///
/// ```
/// use tracing_audit::export::write_json_line;
///
/// let mut line = Vec::new();
/// write_json_line(&mut line, &"two\u{2028}lines").unwrap();
/// assert_eq!(line, br#""two\u2028lines""#);
/// ```
///
/// # Errors
/// An error of `out`, or of the value.
pub fn write_json_line(out: impl io::Write, value: &(impl Serialize + ?Sized)) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, OneLine)).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn line(value: &Value) -> String {
        let mut line = Vec::new();
        write_json_line(&mut line, value).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn what_any_program_takes_for_the_end_of_a_line_is_escaped() {
        let breaks = "\n\r\u{b}\u{c}\u{1c}\u{1d}\u{1e}\u{85}\u{2028}\u{2029}";
        let text = line(&json!({ (breaks): ["é\u{2028}ü", "\u{85}"] }));
        let plain = |c: char| !breaks.contains(c) && !c.is_control();
        assert!(text.chars().all(plain), "{text}");
        assert!(text.contains("\"é\\u2028ü\",\"\\u0085\""), "{text}");
    }

    proptest! {
        #[test]
        fn the_value_that_is_read_is_the_one_that_was_written(text in "[a\u{85}\u{2028}\u{2029}é\"\\\\]{0,9}.*") {
            let value = json!({ text.as_str(): text });
            let text = line(&value);
            prop_assert!(!text.contains(ends_line));
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
    }
}
