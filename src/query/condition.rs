//! One condition of a query, in addition to its ledger and its ranges of time and `seq`.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    column::Column,
    path::{PathStep, spelled_path},
};
use crate::entry::plain;

/// One condition of a query. All conditions of a query must hold.
///
/// The sets (`Ids`, `Texts`, `Metadata`) match one of their values if they are `within`; otherwise they match all
/// others, NULL included.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    /// The column of ids holds one of these.
    Ids { column: Column, ids: Vec<Uuid>, within: bool },
    /// The column of text holds one of these.
    Texts { column: Column, texts: Vec<String>, within: bool },
    /// The action begins with this text, which is not empty.
    ActionPrefix(String),
    /// The risk score is at least this. An entry without a score does not match.
    RiskAtLeast(f64),
    /// The risk score is at most this. An entry without a score does not match.
    RiskAtMost(f64),
    /// The entry has problems, or (`false`) has none.
    Problems(bool),
    /// The metadata holds one of these values at this path. The values are JSON texts, as `serde_json` writes them.
    Metadata { path: Vec<PathStep>, values: Vec<String>, within: bool },
    /// The action, the resource or the reason contains this text. The text has no ASCII capitals.
    Contains(String),
}

impl Condition {
    /// Matches no entry: no action is in an empty set.
    pub(super) const NOTHING: Self = Self::Texts { column: Column::Action, texts: Vec::new(), within: true };
    /// Matches the entries that are in the index on high risk.
    #[cfg(any(feature = "_sqlite", feature = "postgres"))]
    pub(crate) const RISKY: Self = Self::RiskAtLeast(0.8);

    /// The number of values that the condition compares with.
    pub(super) fn values(&self) -> usize {
        match self {
            Self::Ids { ids, .. } => ids.len(),
            Self::Texts { texts, .. } => texts.len(),
            Self::Metadata { values, .. } => values.len(),
            _ => 1,
        }
    }

    /// The condition as JSON, for the record of reads.
    pub(super) fn described(&self) -> Value {
        let set = |field: &str, values: Value, within: bool| {
            let relation = if within { "any_of" } else { "none_of" };
            json!({ "field": field, relation: values })
        };
        match self {
            Self::Ids { column, ids, within } => set(column.name(), json!(ids), *within),
            Self::Texts { column, texts, within } => set(column.name(), json!(texts), *within),
            Self::Metadata { path, values, within } => {
                let values: Vec<Value> = values.iter().filter_map(|value| value.parse().ok()).collect();
                set(&["metadata.", &spelled_path(path)].concat(), values.into(), *within)
            }
            Self::ActionPrefix(prefix) => json!({ "action_prefix": prefix }),
            Self::RiskAtLeast(least) => json!({ "risk_at_least": least }),
            Self::RiskAtMost(greatest) => json!({ "risk_at_most": greatest }),
            Self::Problems(some) => json!({ "problems": some }),
            Self::Contains(text) => json!({ "containing": text }),
        }
    }
}

/// The JSON values that this text stands for: the string, and the number, boolean or null that is written so.
pub(super) fn as_json(text: &str) -> impl Iterator<Item = String> + use<> {
    // Numbers are spelled as entries in normal form spell them.
    let other = serde_json::from_str(text).ok().and_then(|value| match value {
        Value::Number(number) => plain(&number).map(Value::from),
        Value::Bool(_) | Value::Null => Some(value),
        _ => None,
    });
    [Some(Value::from(text)), other].into_iter().flatten().map(|value| value.to_string())
}

/// The least text that is greater than all texts with this prefix, by code points, as both databases compare. `None`
/// if no text is greater.
#[cfg(any(feature = "_sqlite", feature = "postgres"))]
pub(crate) fn after_prefix(prefix: &str) -> Option<String> {
    let kept = prefix.trim_end_matches(char::MAX);
    let last = kept.chars().next_back()?;
    let next = (last..=char::MAX).nth(1)?;
    Some(kept.strip_suffix(last)?.to_owned() + next.encode_utf8(&mut [0; 4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_matches_every_json_value_that_is_written_so() {
        let of = |text| as_json(text).collect::<Vec<_>>();
        assert_eq!(of("5"), ["\"5\"", "5"]);
        assert_eq!(of("0.50"), ["\"0.50\"", "0.5"]);
        assert_eq!(of("true"), ["\"true\"", "true"]);
        assert_eq!(of("null"), ["\"null\"", "null"]);
        assert_eq!(of("[1]"), ["\"[1]\""]);
        assert_eq!(of("a\"b"), ["\"a\\\"b\""]);
    }

    #[cfg(any(feature = "_sqlite", feature = "postgres"))]
    #[test]
    fn the_text_after_a_prefix_is_the_next_in_code_points() {
        for (prefix, after) in [
            ("document.", Some("document/")),
            ("a\u{d7ff}", Some("a\u{e000}")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
        ] {
            assert_eq!(after_prefix(prefix).as_deref(), after);
        }
    }
}
