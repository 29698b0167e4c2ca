//! One condition of a query, in addition to its ledger and its ranges of time and `seq`.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    column::Column,
    decimal::Decimal,
    field::Field,
    path::{PathStep, spelled_path},
};
use crate::entry::{audit_id, is_namelike, storable};

/// One condition of a query. All conditions of a query must hold.
///
/// The sets (`Ids`, `Texts`, `Metadata`) match one of their values if they are `within`; otherwise they match all
/// others, NULL included.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    /// The column of ids holds one of these.
    Ids {
        column: Column,
        ids: Vec<Uuid>,
        within: bool,
    },
    /// The column of text holds one of these.
    Texts {
        column: Column,
        texts: Vec<String>,
        within: bool,
    },
    /// The action begins with this text, which is not empty.
    ActionPrefix(String),
    /// The risk score is at least this. An entry without a score does not match.
    RiskAtLeast(f64),
    /// The risk score is at most this. An entry without a score does not match.
    RiskAtMost(f64),
    /// The entry has problems, or (`false`) has none.
    Problems(bool),
    /// The metadata holds one of these values at this path. The values are JSON texts, as `serde_json` writes them.
    Metadata {
        path: Vec<PathStep>,
        values: Vec<String>,
        within: bool,
    },
    /// The action, the resource or the reason contains this text. The text has no ASCII capitals.
    Contains(String),
    /// The value is of the bound's type, and stands in this order to it. The field is a column of text or in the metadata.
    Compared {
        field: Field,
        order: Order,
        bound: Bound,
    },
    /// The value as text is like the pattern.
    Like {
        field: Field,
        pattern: Pattern,
    },
    /// The value as text contains this one, which has no ASCII capitals. The case of ASCII letters does not count.
    Holds {
        field: Field,
        text: String,
    },
    /// There is a value.
    Exists(Field),
    /// The condition does not hold. It never holds half: what cannot be compared does not meet it.
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
    /// Nothing that could be asked, for this reason.
    Refused(String),
}

/// The order between a value and a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Less,
    AtMost,
    AtLeast,
    Greater,
}

impl Order {
    /// The operator of SQL.
    #[cfg(any(feature = "_sqlite", feature = "postgres"))]
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::AtLeast => ">=",
            Self::Greater => ">",
        }
    }

    fn described(self) -> &'static str {
        match self {
            Self::Less => "less_than",
            Self::AtMost => "at_most",
            Self::AtLeast => "at_least",
            Self::Greater => "greater_than",
        }
    }
}

/// The value that a field is compared with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Bound {
    Text(String),
    Number(Decimal),
}

/// A text in which each `*` stands for any text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pattern(pub(super) String);

impl Pattern {
    /// The most bytes, and the most `*`, of a pattern. Databases look for one with many for a long time.
    const MAX: (usize, usize) = (8192, 16);

    pub(super) fn fault(&self) -> Option<&'static str> {
        let stars = self.0.matches('*').count();
        (self.0.len() > Self::MAX.0 || stars > Self::MAX.1).then_some("a pattern may have 8 KiB and 16 *")
    }

    /// The text before its only `*`, if that is at the end.
    pub(super) fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix('*').filter(|prefix| !prefix.contains('*'))
    }

    /// The texts between its `*`, of which there is one less.
    #[cfg(any(feature = "_sqlite", feature = "postgres"))]
    pub(crate) fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('*')
    }
}

/// The greatest depth of conditions within conditions.
const MAX_DEPTH: usize = 8;

impl Condition {
    /// The column holds one of these, or none of them. A text in a column of ids is a UUID or a name.
    pub(super) fn of_column(column: Column, values: Vec<String>, within: bool) -> Self {
        if !column.holds_ids() {
            return Self::Texts { column, texts: values.into_iter().map(storable).collect(), within };
        }
        let of = |text: String| match text.parse::<Uuid>() {
            Ok(id) if column != Column::Id && is_namelike(id) => [Some(id), Some(audit_id(&id.to_string()))],
            Ok(id) => [Some(id), None],
            Err(_) => [Some(audit_id(&text)), None],
        };
        Self::Ids { column, ids: values.into_iter().flat_map(of).flatten().collect(), within }
    }

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
            Self::Not(inner) => inner.values(),
            Self::All(inner) | Self::Any(inner) => inner.iter().map(Self::values).sum(),
            _ => 1,
        }
    }

    /// The number of conditions that it consists of.
    pub(super) fn count(&self) -> usize {
        match self {
            Self::Not(inner) => 1 + inner.count(),
            Self::All(inner) | Self::Any(inner) => 1 + inner.iter().map(Self::count).sum::<usize>(),
            _ => 1,
        }
    }

    /// The reason why it cannot be asked, if it cannot.
    pub(super) fn fault(&self, depth: usize, negated: bool) -> Option<String> {
        match self {
            _ if depth > MAX_DEPTH => {
                Some(format!("conditions within conditions are possible to a depth of {MAX_DEPTH}"))
            }
            Self::Refused(fault) => Some(fault.clone()),
            Self::Not(inner) => inner.fault(depth + 1, true),
            Self::All(inner) | Self::Any(inner) => inner.iter().find_map(|one| one.fault(depth + 1, negated)),
            // A person who can choose metadata could hide an entry behind a name.
            Self::Like { field, .. } | Self::Holds { field, .. } if negated && field.has_names() => {
                Some(format!(
                    "{field}: nobody has checked the names by which entries would be left out: give each whole"
                ))
            }
            _ => None,
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
            Self::Compared { field, order, bound } => {
                let bound = match bound {
                    Bound::Text(text) => json!(text),
                    Bound::Number(number) => number.described(),
                };
                json!({ "field": field.to_string(), order.described(): bound })
            }
            Self::Like { field, pattern } => json!({ "field": field.to_string(), "like": pattern.0 }),
            Self::Holds { field, text } => json!({ "field": field.to_string(), "contains": text }),
            Self::Exists(field) => json!({ "field": field.to_string(), "exists": true }),
            Self::Not(inner) => json!({ "not": inner.described() }),
            Self::All(inner) => json!({ "all": inner.iter().map(Self::described).collect::<Vec<_>>() }),
            Self::Any(inner) => json!({ "any": inner.iter().map(Self::described).collect::<Vec<_>>() }),
            Self::Refused(fault) => json!({ "refused": fault }),
        }
    }
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
