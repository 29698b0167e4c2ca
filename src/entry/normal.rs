//! Brings entries, texts and JSON into the normal form in which they are stored.

use serde_json::Value;

use super::{
    audit_entry::AuditEntry,
    moment::{MAX_TS, MIN_TS, from_micros},
};

/// The greatest depth of stored JSON. Deeper values could be built in memory but not read back: `serde_json` stops at
/// 128 levels.
const MAX_DEPTH: usize = 100;

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

/// Replaces U+0000 and too deep values in JSON, and adds the problems found to the list.
pub(crate) fn normalize_json(value: &mut Value, problems: &mut Vec<String>) {
    let (mut nul, mut deep) = (false, false);
    clean(value, 0, &mut nul, &mut deep);
    if nul {
        problems.push("metadata: NUL replaced".to_owned());
    }
    if deep {
        problems.push(format!("metadata: nested deeper than {MAX_DEPTH} levels, the rest kept as text"));
    }
}

fn clean(value: &mut Value, depth: usize, nul: &mut bool, deep: &mut bool) {
    match value {
        Value::String(text) => *nul |= replace_nul(text),
        Value::Array(_) | Value::Object(_) if depth >= MAX_DEPTH => {
            let mut text = value.to_string();
            replace_nul(&mut text);
            *value = Value::String(text);
            *deep = true;
        }
        Value::Array(items) => items.iter_mut().for_each(|item| clean(item, depth + 1, nul, deep)),
        Value::Object(map) => {
            let hostile: Vec<String> = map.keys().filter(|key| key.contains('\0')).cloned().collect();
            for key in hostile {
                if let Some(inner) = map.remove(&key) {
                    let mut clean = key.replace('\0', "\u{fffd}");
                    while map.contains_key(&clean) {
                        clean.push('\u{fffd}');
                    }
                    map.insert(clean, inner);
                    *nul = true;
                }
            }
            map.values_mut().for_each(|inner| clean(inner, depth + 1, nul, deep));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
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
