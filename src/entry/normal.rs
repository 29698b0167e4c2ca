//! Brings entries, texts and JSON into the normal form in which they are stored.

use serde_json::{Map, Value};

use super::{
    audit_entry::AuditEntry,
    json_text::{PRIVATE_KEY, plain},
    moment::{MAX_TS, MIN_TS, from_micros},
};

/// The greatest depth of stored JSON. Deeper values could be built in memory but not read back: `serde_json` stops at
/// 128 levels.
const MAX_DEPTH: usize = 100;

const NUL: &str = "NUL replaced";
const DEEP: &str = "nested deeper than 100 levels, the rest kept as text";

/// Brings an entry into normal form and returns the problems that it had to correct. A second call changes nothing.
pub(crate) fn normalize(entry: &mut AuditEntry) -> Vec<String> {
    let mut problems = Vec::new();
    let micros = entry.ts.timestamp_micros();
    if !(MIN_TS..=MAX_TS).contains(&micros) {
        problems.push(format!("ts: {} is outside of the years 1 to 9999", entry.ts));
    }
    entry.ts = from_micros(micros);
    for (name, text) in [
        ("action", Some(&mut entry.action)),
        ("resource", Some(&mut entry.resource)),
        ("resource_id", entry.resource_id.as_mut()),
        ("decision", Some(&mut entry.decision)),
        ("reason", entry.reason.as_mut()),
    ] {
        if let Some(text) = text
            && replace_nul(text)
        {
            problems.push(format!("{name}: NUL replaced"));
        }
    }
    if !entry.risk_score.is_finite() {
        problems.push(format!("risk_score: {} is not a finite number", entry.risk_score));
        entry.risk_score = 0.0;
    }
    normalize_json(&mut entry.metadata, &mut problems);
    problems
}

/// Replaces U+0000 in a text, and returns whether there was any: PostgreSQL cannot store it, and C programs stop
/// reading at it.
pub(crate) fn replace_nul(text: &mut String) -> bool {
    let found = text.contains('\0');
    if found {
        *text = text.replace('\0', "\u{fffd}");
    }
    found
}

/// Brings JSON into the normal form, which is the same whatever features other crates turn on in `serde_json`, and adds
/// the problems found to the list: U+0000, too deep values, numbers that no `i64`, `u64` or `f64` holds, and keys that
/// `serde_json` keeps for itself are replaced.
pub(crate) fn normalize_json(value: &mut Value, problems: &mut Vec<String>) {
    let mut found = Found::default();
    found.clean(value, 0);
    // Keys are in the order of the alphabet, also where a map keeps the order of insertion.
    value.sort_all_objects();
    problems.extend(found.notes.iter().map(|note| format!("metadata: {note}")));
    if let Some(key) = found.twice {
        problems.push(format!(
            "metadata: `{key}` is both one key and a path through several; a query finds the value of the one key"
        ));
    }
}

/// The corrections and observations made in JSON.
#[derive(Default)]
struct Found {
    notes: Vec<&'static str>,
    /// A key that a path through several keys is written like.
    twice: Option<String>,
}

impl Found {
    fn note(&mut self, note: &'static str) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn clean(&mut self, value: &mut Value, depth: usize) {
        match value {
            Value::String(text) => {
                if replace_nul(text) {
                    self.note(NUL);
                }
            }
            Value::Array(_) | Value::Object(_) if depth >= MAX_DEPTH => {
                value.sort_all_objects();
                let mut text = value.to_string();
                replace_nul(&mut text);
                *value = Value::String(text);
                self.note(DEEP);
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.clean(item, depth + 1)),
            Value::Object(map) => {
                self.clean_keys(map);
                map.values_mut().for_each(|inner| self.clean(inner, depth + 1));
                if self.twice.is_none() {
                    self.twice = map.keys().find(|key| is_path_too(map, key)).cloned();
                }
            }
            Value::Number(number) => {
                if let Some(plain) = plain(number) {
                    *number = plain;
                } else {
                    *value = Value::String(number.to_string());
                    self.note("a number that would be rounded, kept as text");
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn clean_keys(&mut self, map: &mut Map<String, Value>) {
        let is_hostile = |key: &&String| key.contains('\0') || key.starts_with(PRIVATE_KEY);
        let hostile: Vec<String> = map.keys().filter(is_hostile).cloned().collect();
        for key in hostile {
            if let Some(inner) = map.remove(&key) {
                let mut clean = key.replace('\0', "\u{fffd}");
                if clean != key {
                    self.note(NUL);
                }
                if clean.starts_with(PRIVATE_KEY) {
                    clean.insert(0, '_');
                    self.note("a key that `serde_json` keeps for itself, renamed");
                }
                while map.contains_key(&clean) {
                    clean.push('\u{fffd}');
                }
                map.insert(clean, inner);
            }
        }
    }
}

/// The most dots for which a key is compared with the paths that are written like it.
const MAX_DOTS: usize = 16;

/// Whether a path of several keys that is written like this key with dots leads to another value of the map.
fn is_path_too(map: &Map<String, Value>, key: &str) -> bool {
    let mut dots = key.match_indices('.');
    let leads_on = |(at, _): (usize, &str)| {
        let (first, rest) = (key.get(..at).unwrap_or_default(), key.get(at + 1..).unwrap_or_default());
        let inner = map.get(first).and_then(Value::as_object);
        inner.is_some_and(|inner| inner.contains_key(rest) || is_path_too(inner, rest))
    };
    dots.clone().count() <= MAX_DOTS && dots.any(leads_on)
}

/// The least number of bytes in the text of this JSON; counts no further than to `enough`.
pub(crate) fn least_length(value: &Value, enough: usize) -> usize {
    let (mut length, mut open) = (0_usize, vec![value]);
    while let Some(value) = open.pop() {
        length += match value {
            Value::String(text) => text.len() + 2,
            Value::Array(items) => {
                open.extend(items);
                items.len() + 1
            }
            Value::Object(map) => {
                open.extend(map.values());
                map.keys().map(|key| key.len() + 4).sum::<usize>() + 1
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => 1,
        };
        if length > enough {
            break;
        }
    }
    length
}

/// A text as an entry that holds it is stored.
pub(crate) fn storable(mut text: String) -> String {
    replace_nul(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use proptest::prelude::*;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn json_deeper_than_can_be_read_back_is_kept_as_text() {
        let mut value = json!("core");
        for _ in 0..500 {
            value = json!([value]);
        }
        let mut problems = Vec::new();
        normalize_json(&mut value, &mut problems);
        assert_eq!(problems.len(), 1);
        let text = value.to_string();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        assert!(text.contains("core"));
    }

    #[test]
    fn two_keys_that_differ_only_in_nul_are_both_kept() {
        let mut value = json!({"a\0": 1, "a\u{fffd}": 2});
        normalize_json(&mut value, &mut Vec::new());
        assert_eq!(value, json!({"a\u{fffd}": 2, "a\u{fffd}\u{fffd}": 1}));
    }

    proptest! {
        #[test]
        fn normalizing_twice_changes_nothing_more(
            micros in any::<i64>(), text in any::<String>(), risk in any::<f64>(), key in any::<String>(),
        ) {
            let mut entry = AuditEntry::new(Uuid::nil(), text.clone() + "\0", "r");
            entry.ts = DateTime::from_timestamp_micros(micros / 4).unwrap_or(DateTime::<Utc>::MAX_UTC);
            entry.risk_score = risk;
            entry.metadata = json!({ key: text });
            normalize(&mut entry);
            let once = entry.clone();
            prop_assert_eq!(normalize(&mut entry), Vec::<String>::new());
            prop_assert_eq!(once, entry);
        }
    }
}
