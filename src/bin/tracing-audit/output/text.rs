//! Text from the log, made harmless for a terminal: characters that a terminal would obey, invisible ones and
//! lookalikes are escaped.

use std::{borrow::Cow, iter};

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark, is_nfc};
use unicode_security::{MixedScript, confusable_detection::skeleton};
use unicode_width::UnicodeWidthChar;

/// The greatest number of marks on one letter that are shown as such.
const MARKS: usize = 2;

/// A name as people may see it: two different names never look the same, as far as Unicode's tables know. Letters that
/// pass for ASCII are escaped too, such as those of a Cyrillic word that could be a Latin one.
///
/// An escaped character is written as `\u{200b}`, or as `\n`, `\r` or `\t`. A `\` that could be taken for the beginning of
/// such a text is doubled.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    shown(text, true)
}

/// A sentence as people may see it: as [`harmless`], with letters and signs that look like others, such as typographic
/// apostrophes.
pub(crate) fn sentence(text: &str) -> Cow<'_, str> {
    shown(text, false)
}

/// Lines of this program's own in which something is quoted: what a terminal would obey, and what cannot be seen, is escaped.
pub(crate) fn quoted(lines: &str) -> String {
    let shown = |c: char| match c {
        '\n' => c.to_string(),
        c if is_hidden(c) => format!("\\u{{{:x}}}", u32::from(c)),
        c => c.to_string(),
    };
    lines.chars().map(shown).collect()
}

/// Whether this character is nothing that can be seen: a control character, one that changes the direction of writing, a
/// blank that is no space, one that joins or separates others, or one that no font knows.
pub(crate) fn is_hidden(c: char) -> bool {
    match c {
        ' '..='~' | '\u{ff9e}' | '\u{ff9f}' => false,
        // Fillers, blanks and selectors, which the standard library takes for letters, signs and marks.
        '\u{34f}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{2800}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{ffa0}'
        | '\u{fffc}'
        | '\u{e0100}'..='\u{e01ef}' => true,
        c => c.escape_debug().len() > 1 && !is_combining_mark(c),
    }
}

/// The number of columns that the text takes on a terminal, at most: terminals differ in what they join.
pub(crate) fn columns(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// The lines of a sentence in this room. Words stay whole.
pub(crate) fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let is_first = lines.last().is_none_or(String::is_empty);
        let used = lines.last().map_or(0, |line| columns(line));
        if !is_first && used + 1 + columns(word) > room {
            lines.push(word.to_owned());
        } else if let Some(line) = lines.last_mut() {
            line.extend([if is_first { "" } else { " " }, word]);
        }
    }
    lines
}

/// The text, isolated from what stands beside it, if it has letters that are written from right to left.
pub(crate) fn isolated(text: &str) -> Cow<'_, str> {
    let from_right = |c| {
        matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}'
            | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
    };
    if text.is_ascii() || !text.contains(from_right) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(["\u{2068}", text, "\u{2069}"].concat())
}

fn shown(text: &str, is_name: bool) -> Cow<'_, str> {
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'\\');
    if is_plain && !text.starts_with(' ') && !text.ends_with(' ') && !text.contains("  ") {
        return Cow::Borrowed(text);
    }
    let mut shown = Shown { text: String::with_capacity(text.len()), marks: None, composed: is_nfc(text) };
    let mut rest = text;
    while !rest.is_empty() {
        let is_in_word = |c: char| c.is_alphanumeric() || is_combining_mark(c) && !is_hidden(c);
        let (word, after) = rest.split_at(rest.find(|c| !is_in_word(c)).unwrap_or(rest.len()));
        let passes_for_another = is_name && !word.is_ascii() && may_pass_for_another(word);
        for c in word.chars() {
            shown.letter(c, passes_for_another && passes_for_ascii(c));
        }
        let mut others = after.chars();
        let Some(c) = others.next() else { break };
        let next = others.as_str();
        let is_last_or_first = next.is_empty() || shown.text.is_empty() || next.starts_with(' ');
        match c {
            ' ' if is_last_or_first => shown.escaped(c),
            '\\' if next.starts_with(|c: char| "\\nrtu".contains(c) || !matches!(c, ' '..='~')) => {
                shown.plain('\\');
                shown.plain('\\');
            }
            c => shown.letter(c, is_name && !c.is_ascii() && passes_for_ascii(c)),
        }
        rest = next;
    }
    Cow::Owned(shown.text)
}

/// Whether the word could be taken for one in ASCII, or mixes the letters of several scripts.
fn may_pass_for_another(word: &str) -> bool {
    skeleton(word).all(|c| c.is_ascii()) || !word.is_single_script()
}

/// Whether the character looks like ASCII. The dotless i is left alone: Turkish words are full of it.
fn passes_for_ascii(c: char) -> bool {
    !c.is_ascii() && c != 'ı' && skeleton(c.encode_utf8(&mut [0; 4])).all(|c| c.is_ascii())
}

/// The text that is shown, as far as it is complete.
struct Shown {
    text: String,
    /// The number of marks on the last letter; `None` if there is no letter that a mark could stand on.
    marks: Option<usize>,
    /// Whether the whole text is as it would be typed. If it is not, marks are escaped: an `e` with an accent of its own
    /// looks like the letter é.
    composed: bool,
}

impl Shown {
    fn plain(&mut self, c: char) {
        self.text.push(c);
    }

    fn escaped(&mut self, c: char) {
        self.marks = None;
        match c {
            '\n' => self.text.push_str("\\n"),
            '\r' => self.text.push_str("\\r"),
            '\t' => self.text.push_str("\\t"),
            c => self.text.extend([&*format!("\\u{{{:x}}}", u32::from(c))]),
        }
    }

    fn letter(&mut self, c: char, passes_for_another: bool) {
        let is_mark = is_combining_mark(c);
        let is_part = is_mark || matches!(c, '\u{1161}'..='\u{11ff}' | '\u{d7b0}'..='\u{d7ff}');
        let is_other = || !self.composed && (is_part || !iter::once(c).nfc().eq(iter::once(c)));
        let is_too_much = || is_mark && self.marks.is_none_or(|marks| marks >= MARKS);
        if passes_for_another || is_hidden(c) || is_other() || is_too_much() {
            return self.escaped(c);
        }
        self.marks = match (is_mark, self.marks) {
            (true, marks) => Some(marks.unwrap_or(0) + 1),
            (false, _) => (c != ' ').then_some(0),
        };
        self.plain(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_or_hides_is_escaped() {
        for (text, expected) in [
            ("alice", "alice"),
            ("Zoë Müller", "Zoë Müller"),
            ("東京 太郎", "東京 太郎"),
            ("Мария", "Мария"),
            ("λόγος", "λόγος"),
            ("दिल्ली", "दिल्ली"),
            ("kapı", "kapı"),
            ("C:\\Users", "C:\\Users"),
            ("C:\\new", "C:\\\\new"),
            ("a\nb", "a\\nb"),
            ("a\\nb", "a\\\\nb"),
            ("a\\\nb", "a\\\\\\nb"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("ali\u{200b}ce", "ali\\u{200b}ce"),
            ("ali\u{ad}ce", "ali\\u{ad}ce"),
            ("alice\u{feff}", "alice\\u{feff}"),
            ("alice\u{e0041}", "alice\\u{e0041}"),
            ("alice\u{3164}", "alice\\u{3164}"),
            ("alice\u{fe0f}", "alice\\u{fe0f}"),
            ("alice ", "alice\\u{20}"),
            (" alice", "\\u{20}alice"),
            (" ", "\\u{20}"),
            ("a  b", "a\\u{20} b"),
            ("a\u{a0}b", "a\\u{a0}b"),
            ("a\u{2028}b", "a\\u{2028}b"),
            ("\u{202e}txt.exe", "\\u{202e}txt.exe"),
            ("e\u{301}", "e\\u{301}"),
            ("\u{301}", "\\u{301}"),
            ("\u{212b}", "\\u{212b}"),
            ("q\u{303}", "q\u{303}"),
            ("\u{1112}\u{1161}\u{11ab}", "\u{1112}\\u{1161}\\u{11ab}"),
            ("👩\u{200d}👧", "👩\\u{200d}👧"),
            ("\u{430}lice", "\\u{430}lice"),
            ("\u{ff41}lice", "\\u{ff41}lice"),
            ("\u{441}\u{43e}\u{441}\u{43e}", "\\u{441}\\u{43e}\\u{441}\\u{43e}"),
            ("", ""),
        ] {
            assert_eq!(harmless(text), expected, "{}", text.escape_unicode());
        }
        assert_eq!(sentence("it\u{2019}s Сосо"), "it\u{2019}s Сосо");
        assert_eq!(sentence("a\u{200b}"), "a\\u{200b}");
        let marks = "a\u{334}\u{335}\u{336}\u{337}";
        assert_eq!(harmless(marks), "a\u{334}\u{335}\\u{336}\\u{337}");
    }

    #[test]
    fn texts_that_differ_are_shown_as_texts_that_differ() {
        let parts = [
            "a", "\\", "n", "\n", "u", "{", "}", "20", " ", "\u{200b}", "\u{e9}", "e", "\u{301}", "\u{430}",
            "\u{3b1}", "\u{ac00}", "\u{1100}", "\u{1161}", "\u{5d0}", "\u{202e}", "\t",
        ];
        let mut texts = vec![String::new()];
        for length in 0..3 {
            let longer = |text: &String| parts.map(|part| [text, part].concat());
            let whole: Vec<_> =
                texts.iter().filter(|text| text.chars().count() >= length).flat_map(longer).collect();
            texts.extend(whole);
        }
        texts.sort();
        texts.dedup();
        let mut seen = std::collections::HashMap::new();
        for text in &texts {
            for shown in [harmless(text), harmless(text).nfc().collect::<String>().into()] {
                let before = seen.insert(shown.clone(), text);
                assert!(before.is_none_or(|before| before == text), "{text:?} and {before:?} are {shown:?}");
                assert!(!shown.chars().any(is_hidden), "{shown:?}");
            }
        }
    }

    #[test]
    fn what_is_written_from_right_to_left_stays_in_its_place() {
        assert_eq!(isolated("alice"), "alice");
        assert_eq!(isolated("東京"), "東京");
        assert_eq!(isolated("\u{5d0} 7"), "\u{2068}\u{5d0} 7\u{2069}");
        assert_eq!(columns(&isolated("\u{5d0} 7")), 3);
    }
}
