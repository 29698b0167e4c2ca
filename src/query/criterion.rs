//! `Criterion`: a condition as a value, which can be negated and combined with others; the criteria of a field.

use std::ops::Not;

use super::{
    column::Column,
    condition::{Bound, Condition, Order, Pattern},
    field::Field,
    operand::{Kind, Operand},
    path::steps,
};
use crate::entry::storable;

/// A condition that an entry must meet to match a query: see [`AuditQuery::matching`](super::AuditQuery::matching).
///
/// The methods of [`Field`](super::Field) make criteria. An entry without a value in the field does not meet them. `!` is met
/// by all entries that do not meet the criterion, those without a value included.
///
/// ```
/// use tracing_audit::{AuditQuery, query::{Column, Criterion, Field}};
///
/// let action = || Field::from(Column::Action);
/// let created_or_slow = AuditQuery::new().matching(Criterion::any([
///     action().like("*:CreateUser"),
///     Criterion::all([Field::metadata("ms").at_least(500), !action().contains("health")]),
/// ]));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Criterion(pub(super) Condition);

impl Criterion {
    /// Met if one of these is. Without any, never.
    #[must_use]
    pub fn any(criteria: impl IntoIterator<Item = Self>) -> Self {
        let mut criteria: Vec<Condition> = criteria.into_iter().map(|one| one.0).collect();
        Self(match (criteria.pop(), criteria.is_empty()) {
            (Some(only), true) => only,
            (last, _) => {
                criteria.extend(last);
                Condition::Any(criteria)
            }
        })
    }

    /// Met if all of these are. Without any, always.
    #[must_use]
    pub fn all(criteria: impl IntoIterator<Item = Self>) -> Self {
        Self(Condition::All(criteria.into_iter().map(|one| one.0).collect()))
    }
}

impl Not for Criterion {
    type Output = Self;

    fn not(self) -> Self {
        Self(match self.0 {
            Condition::Ids { column, ids, within } => Condition::Ids { column, ids, within: !within },
            Condition::Texts { column, texts, within } => Condition::Texts { column, texts, within: !within },
            Condition::Metadata { path, values, within } => {
                Condition::Metadata { path, values, within: !within }
            }
            Condition::Not(inner) => *inner,
            other => Condition::Not(Box::new(other)),
        })
    }
}

impl Field {
    /// The value is one of these. Numbers are compared by value: 5 is 5.0.
    #[must_use]
    pub fn is<V: Into<Operand>>(self, values: impl IntoIterator<Item = V>) -> Criterion {
        let values: Vec<Operand> = values.into_iter().map(Into::into).collect();
        if let Some(fault) = values.iter().find_map(fault) {
            return self.refused(fault);
        }
        Criterion(match self {
            Self::Column(column) => {
                Condition::of_column(column, values.iter().map(Operand::as_text).collect(), true)
            }
            Self::Metadata(path) => {
                let values = values.iter().flat_map(Operand::as_json).collect();
                Condition::Metadata { path: steps(&path), values, within: true }
            }
            Self::RiskScore => {
                let mut equal = Vec::new();
                for value in &values {
                    let Some(score) = score(value) else {
                        return self.refused("a risk score is a finite number");
                    };
                    equal.push(Condition::All(vec![
                        Condition::RiskAtLeast(score),
                        Condition::RiskAtMost(score),
                    ]));
                }
                Condition::Any(equal)
            }
        })
    }

    /// The value is less than this one.
    ///
    /// In metadata a number is compared with numbers, by value and exactly, and a text with texts, by their code points. A
    /// value of another type does not meet the criterion: neither the text `404` nor null is less than 500. Columns are
    /// compared as texts, and the risk score as a number. An id has no order.
    #[must_use]
    pub fn less_than(self, value: impl Into<Operand>) -> Criterion {
        self.compared(Order::Less, &value.into())
    }

    /// The value is at most this one, as in [`less_than`](Self::less_than).
    #[must_use]
    pub fn at_most(self, value: impl Into<Operand>) -> Criterion {
        self.compared(Order::AtMost, &value.into())
    }

    /// The value is at least this one, as in [`less_than`](Self::less_than).
    #[must_use]
    pub fn at_least(self, value: impl Into<Operand>) -> Criterion {
        self.compared(Order::AtLeast, &value.into())
    }

    /// The value is greater than this one, as in [`less_than`](Self::less_than).
    #[must_use]
    pub fn greater_than(self, value: impl Into<Operand>) -> Criterion {
        self.compared(Order::Greater, &value.into())
    }

    /// The value as text is like this pattern, in which each `*` stands for any text, also for none, and every other
    /// character for itself. The case of letters counts.
    ///
    /// The text of a value in metadata that is no string is its JSON: `true`, `5`, `["a","b"]`. A pattern may have 8 KiB and 16
    /// `*`. Only a pattern for the beginning of the action (`document.*`) can be served by an index: for every other one,
    /// give a range of time as well.
    #[must_use]
    pub fn like(self, pattern: impl Into<String>) -> Criterion {
        let pattern = Pattern(storable(pattern.into()));
        if self == Self::RiskScore {
            return self.refused("a number has no pattern: compare it");
        }
        if let Some(fault) = pattern.fault() {
            return self.refused(fault);
        }
        Criterion(match (&self, pattern.prefix()) {
            (Self::Column(Column::Action), Some(prefix)) if !prefix.is_empty() => {
                Condition::ActionPrefix(prefix.to_owned())
            }
            _ => Condition::Like { field: self, pattern },
        })
    }

    /// The value as text contains this one. The case of ASCII letters is ignored. No index serves this criterion: give a
    /// range of time as well. The text of a value is that of [`like`](Self::like).
    #[must_use]
    pub fn contains(self, text: &str) -> Criterion {
        if self == Self::RiskScore {
            return self.refused("a number contains no text: compare it");
        }
        Criterion(Condition::Holds { field: self, text: storable(text.to_ascii_lowercase()) })
    }

    /// There is a value. A null in the metadata is one.
    #[must_use]
    pub fn exists(self) -> Criterion {
        Criterion(Condition::Exists(self))
    }

    fn compared(self, order: Order, value: &Operand) -> Criterion {
        if let Some(fault) = fault(value) {
            return self.refused(fault);
        }
        Criterion(match &self {
            Self::Column(column) if column.holds_ids() => return self.refused("an id has no order"),
            Self::Column(_) => {
                Condition::Compared { field: self, order, bound: Bound::Text(value.as_text()) }
            }
            Self::RiskScore => {
                let Some(score) = score(value) else {
                    return self.refused("a risk score is a finite number");
                };
                match order {
                    Order::Less => Condition::RiskAtMost(score.next_down()),
                    Order::AtMost => Condition::RiskAtMost(score),
                    Order::AtLeast => Condition::RiskAtLeast(score),
                    Order::Greater => Condition::RiskAtLeast(score.next_up()),
                }
            }
            Self::Metadata(_) => {
                let bound = match (value.as_number(), &value.0) {
                    (Some(number), _) => Bound::Number(number),
                    (None, Kind::Text(text) | Kind::Word(text)) => Bound::Text(text.clone()),
                    _ => return self.refused("true, false and null have no order"),
                };
                Condition::Compared { field: self, order, bound }
            }
        })
    }

    fn refused(self, fault: &str) -> Criterion {
        Criterion(Condition::Refused(format!("{self}: {fault}")))
    }
}

/// The reason why nothing can be compared with this.
fn fault(value: &Operand) -> Option<&'static str> {
    if let Kind::Nothing(fault) = &value.0 { Some(fault) } else { None }
}

/// The operand as a risk score. A zero is the positive one, as in entries.
fn score(value: &Operand) -> Option<f64> {
    let score: f64 = value.as_number()?.to_string().parse().ok()?;
    score.is_finite().then_some(score + 0.0)
}
