//! One condition on an entry, beside its ledger, its time and its `seq`.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    column::Column,
    path::{PathStep, spelled_path},
};

/// What an entry must be, beside its ledger and its place in time and order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    /// In the column stands one of these. Unless `within`: none of them, or nothing at all.
    Ids {
        column: Column,
        ids: Vec<Uuid>,
        within: bool,
    },
    Texts {
        column: Column,
        texts: Vec<String>,
        within: bool,
    },
    /// The action begins with this, which is not empty.
    ActionPrefix(String),
    RiskAtLeast(f64),
    RiskAtMost(f64),
    Problems(bool),
    /// At this place in the metadata stands one of these values, as JSON writes them.
    Metadata {
        path: Vec<PathStep>,
        values: Vec<String>,
        within: bool,
    },
    /// Action, resource or reason contain this text, which has no ASCII capitals.
    Contains(String),
}

impl Condition {
    /// No action is one of none.
    pub(super) const NOTHING: Self = Self::Texts { column: Column::Action, texts: Vec::new(), within: true };
    /// The risk of those in the index on it.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(crate) const RISKY: Self = Self::RiskAtLeast(0.8);

    /// How many values it compares with.
    pub(super) fn values(&self) -> usize {
        match self {
            Self::Ids { ids, .. } => ids.len(),
            Self::Texts { texts, .. } => texts.len(),
            Self::Metadata { values, .. } => values.len(),
            _ => 1,
        }
    }

    pub(super) fn described(&self) -> Value {
        let set = |field: &str, values: Value, within: bool| json!({ "field": field, (if within { "any_of" } else { "none_of" }): values });
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

/// What JSON writes for the values that look like this.
pub(super) fn as_json(text: &str) -> impl Iterator<Item = String> + use<> {
    let other = serde_json::from_str::<Value>(text).ok();
    let other = other.filter(|value| value.is_number() || value.is_boolean() || value.is_null());
    [Some(Value::from(text)), other].into_iter().flatten().map(|value| value.to_string())
}

/// The least text that is greater than every text which begins with this one, by code points as both databases compare;
/// none if there is no such text.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
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
    fn a_text_is_compared_with_all_that_json_writes_so() {
        let of = |text| as_json(text).collect::<Vec<_>>();
        assert_eq!(of("5"), ["\"5\"", "5"]);
        assert_eq!(of("0.50"), ["\"0.50\"", "0.5"]);
        assert_eq!(of("true"), ["\"true\"", "true"]);
        assert_eq!(of("null"), ["\"null\"", "null"]);
        assert_eq!(of("[1]"), ["\"[1]\""]);
        assert_eq!(of("a\"b"), ["\"a\\\"b\""]);
    }

    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    #[test]
    fn what_comes_after_a_prefix_is_the_next_text_in_code_points() {
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
