//! Shortens JSON texts that are too long: cuts the long texts in them, so that the short values stay.

/// The JSON text with at most `value` bytes for each text in it and at most `room` bytes in all; `None` if it is not JSON.
/// If there are too many values, those at the end are left out. A JSON text without its end is shortened likewise. The
/// flag says whether anything is missing.
pub(super) fn shorten(json: &str, value: usize, room: usize) -> Option<(String, bool)> {
    let mut most = value;
    loop {
        let out = String::with_capacity(json.len().min(room));
        let mut copy = Copy { out, open: Vec::new(), safe: 0, cut: false };
        let whole = copy.values(json, most, room)?;
        // Shorter texts leave room for more values.
        if whole || most < 64 {
            copy.close();
            return Some((copy.out, copy.cut || !whole));
        }
        most /= 16;
    }
}

struct Copy {
    out: String,
    /// The brackets that close what is open.
    open: Vec<char>,
    /// The length of the copy up to which it becomes JSON by closing what is open.
    safe: usize,
    /// Whether a text was cut.
    cut: bool,
}

impl Copy {
    /// Copies the values until the end, or until one is not whole or does not fit: false. `None`: not JSON.
    fn values(&mut self, json: &str, most: usize, room: usize) -> Option<bool> {
        let mut rest = json.trim_start();
        while let Some(first) = rest.chars().next() {
            let is_text = first == '"';
            let end = match first {
                '{' | '[' | '}' | ']' | ',' | ':' => Some(1),
                '"' => end_of_text(rest),
                '-' | '0'..='9' | 't' | 'f' | 'n' => rest
                    .find([',', '}', ']', ' ', '\t', '\r', '\n'])
                    .or(self.open.is_empty().then_some(rest.len())),
                _ => return None,
            };
            let is_key = is_text && self.open.last() == Some(&'}') && self.out.ends_with(['{', ',']);
            let is_whole = end.is_some();
            if !is_whole && (is_key || !is_text) {
                return Some(false);
            }
            let (token, after) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
            rest = after.trim_start();
            let kept = if is_text && !is_key { cut(token, most, is_whole) } else { token };
            if self.out.len() + kept.len() + self.open.len() + 2 > room {
                return Some(false);
            }
            match first {
                '{' => self.open.push('}'),
                '[' => self.open.push(']'),
                '}' | ']' if self.open.pop() != Some(first) => return None,
                _ => {}
            }
            self.out.push_str(kept);
            if kept.len() < token.len() || !is_whole {
                self.out.push('"');
                self.cut = true;
            }
            if !is_key && !matches!(first, ',' | ':') {
                self.safe = self.out.len();
            }
        }
        Some(self.open.is_empty())
    }

    /// Closes what is open after the last value that is whole.
    fn close(&mut self) {
        if !self.open.is_empty() {
            self.out.truncate(self.safe);
            self.out.extend(self.open.drain(..).rev());
        }
    }
}

/// The length of the text, with both quotation marks, at the beginning of this JSON; `None` if it has no end.
fn end_of_text(json: &str) -> Option<usize> {
    let mut escaped = false;
    let end = json.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map(|end| end + 2)
}

/// The text itself if it has at most `most` bytes between its quotation marks; otherwise its beginning, without a
/// quotation mark at the end, cut between characters.
fn cut(token: &str, most: usize, is_whole: bool) -> &str {
    if is_whole && token.len() <= most + 2 {
        return token;
    }
    let bytes = token.as_bytes();
    let limit = (most + 1).min(token.len());
    let mut end = 1;
    while end < limit {
        let length = match bytes.get(end..).unwrap_or_default() {
            // The first half of a surrogate pair.
            [b'\\', b'u', b'd' | b'D', b'8' | b'9' | b'a' | b'b' | b'A' | b'B', ..] => 12,
            [b'\\', b'u', ..] => 6,
            [b'\\', ..] => 2,
            _ => 1,
        };
        if end + length > limit {
            break;
        }
        end += length;
    }
    token.get(..token.floor_char_boundary(end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn shortened(json: &str, value: usize, room: usize) -> (Value, bool) {
        let (text, cut) = shorten(json, value, room).unwrap();
        assert!(text.len() <= room, "{text}");
        (serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")), cut)
    }

    #[test]
    fn a_long_text_is_cut_and_its_neighbours_stay() {
        let long = "é\n\"".repeat(100);
        let json =
            json!({ "a": 1, "long": long, "user": "alice", "z": [{ "long": long }, "last"] }).to_string();
        let (kept, cut) = shortened(&json, 20, 1000);
        assert!(cut);
        let beginning = kept["long"].as_str().unwrap();
        assert!(!beginning.is_empty() && long.starts_with(beginning), "{beginning}");
        assert_eq!((&kept["user"], &kept["a"], &kept["z"][1]), (&json!("alice"), &json!(1), &json!("last")));
        assert_eq!(kept["z"][0]["long"], beginning);
        assert_eq!(shortened(&json, 10_000, 10_000), (serde_json::from_str(&json).unwrap(), false));
    }

    #[test]
    fn too_many_values_are_left_out_at_the_end() {
        let (kept, cut) =
            shortened(&json!({ "user": "alice", "z": vec![12345; 1000] }).to_string(), 1000, 200);
        assert!(cut);
        assert_eq!(kept["user"], "alice");
        assert!(!kept["z"].as_array().unwrap().is_empty());
    }

    #[test]
    fn what_is_not_json_is_not_shortened() {
        for text in ["plain text", "}", "[}", "<xml/>"] {
            assert_eq!(shorten(text, 10, 100), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_beginning_of_json_becomes_json(
            texts in proptest::collection::vec(any::<String>(), 1..6), emoji in "\u{1f600}{0,9}", at in any::<prop::sample::Index>(),
            value in 0..30_usize, room in 60..400_usize, floats in any::<[f64; 3]>(),
        ) {
            let escaped = emoji.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<Vec<_>>().concat();
            let json = json!({ "a": texts, "b": { "c": floats, "d": [null, true, {}, []] } }).to_string();
            let json = [r#"[""#, &escaped, r#"", "#, &json, "]"].concat();
            let end = json.floor_char_boundary(1 + at.index(json.len()));
            for json in [json.get(..end).unwrap(), &json] {
                shortened(json, value, room);
            }
        }
    }
}
