//! Guards cells against spreadsheets, which run some texts as formulas, in a way that can be taken back.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// A walk through a cell that knows where a formula might begin: at the beginning of the cell, and after each character at
/// which a program may cut the line in two. Blanks, quotation marks, apostrophes and what nobody sees may stand before it.
#[derive(Clone, Copy)]
struct Walk {
    /// The file's own separator.
    separator: char,
    /// Whether only apostrophes were met yet.
    first: bool,
    /// Whether a formula might begin here.
    open: bool,
}

impl Walk {
    fn new(separator: char) -> Self {
        Self { separator, first: true, open: true }
    }

    /// Goes past this character. Returns whether an apostrophe belongs in front of it.
    fn guards(&mut self, c: char) -> bool {
        let starts = self.open && starts_formula(c) || self.first && matches!(c, '\t' | '\r' | '\n');
        self.open = self.separates(c) || self.open && !starts && may_precede(c);
        self.first = self.first && c == '\'';
        starts
    }

    fn separates(self, c: char) -> bool {
        matches!(c, ',' | ';' | '|' | '\u{2028}' | '\u{2029}') || c.is_control() || c == self.separator
    }
}

/// The characters with which formulas begin, also in the forms of full and of small width.
fn starts_formula(c: char) -> bool {
    matches!(
        c,
        '=' | '+'
            | '-'
            | '@'
            | '\u{ff1d}'
            | '\u{ff0b}'
            | '\u{ff0d}'
            | '\u{ff20}'
            | '\u{fe66}'
            | '\u{fe62}'
            | '\u{fe63}'
            | '\u{fe6b}'
    )
}

/// Whether a program may pass over this character before a formula.
fn may_precede(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '"' | '\'' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether no formula begins in the text, decided fast: no character that might begin one is at the beginning, or
/// behind any character that may stand before one.
fn is_plain(text: &str, separator: char) -> bool {
    let mut before = b',';
    let mut bytes = text.bytes();
    !text.trim_start_matches('\'').starts_with(['\t', '\r', '\n'])
        && bytes.all(|byte| {
            // 0xef begins the characters of full and of small width.
            let starts = matches!(byte, b'=' | b'+' | b'-' | b'@' | 0xef);
            let opens = |byte: u8| {
                !byte.is_ascii_graphic()
                    || matches!(byte, b',' | b';' | b'|' | b'"' | b'\'')
                    || char::from(byte) == separator
            };
            let plain = !starts || !opens(before);
            before = byte;
            plain
        })
}

/// The text, with a `'` in front of each character at which a formula might begin.
pub(super) fn guarded(text: &str, separator: char) -> Cow<'_, str> {
    if is_plain(text, separator) {
        return Cow::Borrowed(text);
    }
    let mut walk = Walk::new(separator);
    if !text.chars().any(|c| walk.guards(c)) {
        return Cow::Borrowed(text);
    }
    let (mut walk, mut guarded) = (Walk::new(separator), String::with_capacity(text.len() + 8));
    for c in text.chars() {
        if walk.guards(c) {
            guarded.push('\'');
        }
        guarded.push(c);
    }
    Cow::Owned(guarded)
}

/// The JSON text, in which such a character is an escape instead: it stays JSON of the same value. A text that is not JSON
/// is guarded as any other.
pub(super) fn guarded_json(text: &str, separator: char) -> Cow<'_, str> {
    let guarded = guarded(text, separator);
    if matches!(guarded, Cow::Borrowed(_)) || serde_json::from_str::<IgnoredAny>(text).is_err() {
        return guarded;
    }
    let (mut walk, mut json) = (Walk::new(separator), String::with_capacity(text.len() + 8));
    // Outside of its strings JSON has no formula, only numbers. At the beginning one is guarded nevertheless.
    let (mut within, mut escaped) = (false, false);
    for c in text.chars() {
        let first = walk.first;
        match (walk.guards(c), within) {
            // All of them are in the first plane.
            (true, true) => json.extend(["\\u", &format!("{:04x}", u32::from(c))]),
            (true, false) if first => json.extend(['\'', c]),
            _ => json.push(c),
        }
        within ^= c == '"' && !escaped;
        escaped = within && c == '\\' && !escaped;
    }
    Cow::Owned(json)
}

/// The text that was guarded.
pub(super) fn original(guarded: &str, separator: char) -> Cow<'_, str> {
    let mut walk = Walk::new(separator);
    if !guarded.chars().any(|c| walk.guards(c)) {
        return Cow::Borrowed(guarded);
    }
    let (mut walk, mut text) = (Walk::new(separator), String::with_capacity(guarded.len()));
    for c in guarded.chars() {
        if walk.guards(c) && text.ends_with('\'') {
            text.pop();
        }
        text.push(c);
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// The cells that a program would see that separates by each of these, whatever is in quotation marks.
    fn cells(line: &str) -> Vec<String> {
        let ends: [fn(char) -> bool; 7] = [
            |c| c == ',',
            |c| c == ';',
            |c| c == '|',
            |c| c == '\t',
            |c| matches!(c, '\r' | '\n'),
            |c| matches!(c, '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}'),
            |c| matches!(c, ';' | '\n'),
        ];
        let cells = ends.iter().flat_map(|ends| line.split(*ends));
        cells.map(|cell| cell.trim_matches(['"', ' ', '\u{feff}', '\u{200b}']).to_owned()).collect()
    }

    fn runs(cell: &str) -> bool {
        cell.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠'])
    }

    #[test]
    fn a_formula_is_guarded_behind_every_separator_and_line_break() {
        for (text, expected) in [
            ("=1+1", "'=1+1"),
            ("a;=1+1;", "a;'=1+1;"),
            ("a\t@SUM(1)|-2\n+3", "a\t'@SUM(1)|'-2\n'+3"),
            ("x,\"=1\"; ' =2", "x,\"'=1\"; ' '=2"),
            ("a\u{2028}=1\u{85}=2\u{b}=3\r=4", "a\u{2028}'=1\u{85}'=2\u{b}'=3\r'=4"),
            ("a;\u{feff}\u{200b}=1", "a;\u{feff}\u{200b}'=1"),
            ("\u{ff1d}1;\u{ff20}b", "'\u{ff1d}1;'\u{ff20}b"),
            ("\t=1", "'\t'=1"),
            ("''=1", "'''=1"),
            ("'\r", "''\r"),
            ("''\n=1", "'''\n'=1"),
            ("a - b = c, d@e.f; g-h", "a - b = c, d@e.f; g-h"),
            ("it's; 'fine'", "it's; 'fine'"),
        ] {
            assert_eq!(guarded(text, ','), expected);
            assert_eq!(original(expected, ','), text);
        }
        assert_eq!(guarded("a:=1", ','), "a:=1");
        assert_eq!(guarded("a:=1", ':'), "a:'=1");
    }

    #[test]
    fn json_stays_json_of_the_same_value() {
        for (value, expected) in [
            (json!({ "a": ";=1+1" }), r#"{"a":";\u003d1+1"}"#),
            (json!({ "a": [1, -5, "=1", "\\\";=2"] }), r#"{"a":[1,-5,"\u003d1","\\\";\u003d2"]}"#),
            (json!(-5), "'-5"),
            (json!("=1"), r#""\u003d1""#),
        ] {
            let text = value.to_string();
            assert_eq!(guarded_json(&text, ','), expected);
            let back = original(expected, ',');
            assert_eq!(serde_json::from_str::<Value>(&back).unwrap(), value);
        }
        assert_eq!(guarded_json("{;=1", ','), "{;'=1");
    }

    proptest! {
        #[test]
        fn no_cell_of_a_guarded_text_runs_and_the_original_comes_back(
            text in "[a'=+@;,|\t\r\n \"\u{b}\u{85}\u{2028}\u{feff}\u{ff1d}-]{0,12}.{0,3}[;|\t]?[=x]?",
        ) {
            let guarded = guarded(&text, ',');
            prop_assert!(cells(&guarded).iter().all(|cell| !runs(cell)), "{:?}", guarded);
            prop_assert_eq!(original(&guarded, ','), text.as_str());
            let json = Value::from(text.as_str()).to_string();
            let in_json = guarded_json(&json, ',');
            prop_assert!(cells(&in_json).iter().all(|cell| !runs(cell)), "{:?}", in_json);
            prop_assert_eq!(serde_json::from_str::<Value>(&in_json).unwrap(), Value::from(text.as_str()));
        }
    }
}
