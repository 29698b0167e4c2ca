//! `Operand`: what a field is compared with.

use serde_json::Value;

use super::decimal::Decimal;
use crate::entry::storable;

/// The value that a [`Field`](super::Field) is compared with: a text, a number, `true`, `false` or null.
///
/// A Rust text is a text, and a Rust number is a number. The JSON of metadata distinguishes them: the number 5 is not
/// the text `5`. Columns hold texts, except `risk_score`, which holds numbers.
///
/// ```
/// use tracing_audit::{AuditQuery, query::{Field, Operand}};
///
/// let number = AuditQuery::new().matching(Field::metadata("n").is([5]));
/// let text = AuditQuery::new().matching(Field::metadata("n").is(["5"]));
/// let either = AuditQuery::new().matching(Field::metadata("n").is([Operand::word("5")]));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Operand(pub(super) Kind);

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Text(String),
    Number(Decimal),
    /// `true`, `false` or null.
    Other(Value),
    /// A word of a person who does not distinguish texts from other values.
    Word(String),
    /// No value of these kinds.
    Nothing(&'static str),
}

impl Operand {
    /// A word as a person writes it: it is equal to this text, and also to the number, `true`, `false` or null that JSON
    /// writes so. In an order it is a number if JSON writes one so, of any size and exactly, and otherwise a text.
    #[must_use]
    pub fn word(text: impl Into<String>) -> Self {
        Self(Kind::Word(storable(text.into())))
    }

    /// The texts of the JSON values that are equal to this one, as stored JSON spells them.
    pub(super) fn as_json(&self) -> Vec<String> {
        let text = |text: &str| Value::from(text).to_string();
        match &self.0 {
            Kind::Text(given) => vec![text(given)],
            Kind::Number(number) => number.spellings(),
            Kind::Other(value) => vec![value.to_string()],
            Kind::Word(word) => {
                let mut values = vec![text(word)];
                match word.as_str() {
                    "true" | "false" | "null" => values.push(word.clone()),
                    _ => values.extend(Decimal::read(word).iter().flat_map(Decimal::spellings)),
                }
                values
            }
            Kind::Nothing(_) => Vec::new(),
        }
    }

    /// The text that a column is compared with.
    pub(super) fn as_text(&self) -> String {
        match &self.0 {
            Kind::Text(text) | Kind::Word(text) => text.clone(),
            Kind::Number(number) => {
                number.spellings().into_iter().next().unwrap_or_else(|| number.to_string())
            }
            Kind::Other(value) => value.to_string(),
            Kind::Nothing(_) => String::new(),
        }
    }

    /// The number, if this is one.
    pub(super) fn as_number(&self) -> Option<Decimal> {
        match &self.0 {
            Kind::Number(number) => Some(number.clone()),
            Kind::Word(word) => Decimal::read(word),
            _ => None,
        }
    }
}

impl From<&str> for Operand {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<String> for Operand {
    fn from(text: String) -> Self {
        Self(Kind::Text(storable(text)))
    }
}

impl From<&String> for Operand {
    fn from(text: &String) -> Self {
        text.clone().into()
    }
}

impl From<bool> for Operand {
    fn from(value: bool) -> Self {
        Self(Kind::Other(value.into()))
    }
}

impl From<f64> for Operand {
    fn from(number: f64) -> Self {
        Self(match Decimal::read(&Value::from(number).to_string()) {
            Some(number) => Kind::Number(number),
            None => Kind::Nothing("the number is not finite"),
        })
    }
}

impl From<f32> for Operand {
    /// The shortest decimal that is this number: 0.1 is 0.1.
    fn from(number: f32) -> Self {
        number.to_string().parse::<f64>().unwrap_or(f64::NAN).into()
    }
}

impl From<Value> for Operand {
    fn from(value: Value) -> Self {
        match value {
            Value::String(text) => text.into(),
            Value::Number(number) => Self(match Decimal::read(&number.to_string()) {
                Some(number) => Kind::Number(number),
                None => Kind::Nothing("the number is not finite"),
            }),
            Value::Bool(_) | Value::Null => Self(Kind::Other(value)),
            Value::Array(_) | Value::Object(_) => {
                Self(Kind::Nothing("lists and objects are not compared: name the values in them"))
            }
        }
    }
}

macro_rules! from_integers {
    ($($integer:ty)*) => {$(
        impl From<$integer> for Operand {
            fn from(number: $integer) -> Self {
                Self::from(Value::from(number))
            }
        }
    )*};
}

from_integers!(i8 i16 i32 i64 isize u8 u16 u32 u64 usize);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_word_is_equal_to_every_json_value_that_is_written_so_and_to_numbers_of_its_value() {
        let of = |text: &str| Operand::word(text).as_json();
        assert_eq!(of("5"), ["\"5\"", "5", "5.0"]);
        assert_eq!(of("0.50"), ["\"0.50\"", "0.5"]);
        assert_eq!(of("true"), ["\"true\"", "true"]);
        assert_eq!(of("null"), ["\"null\"", "null"]);
        assert_eq!(of("[1]"), ["\"[1]\""]);
        assert_eq!(of("a\"b"), ["\"a\\\"b\""]);
        assert_eq!(of("a\0"), ["\"a\u{fffd}\""]);
        // No stored number is equal to it: it would be rounded, and is kept as text.
        assert_eq!(of("12345678901234567890123"), ["\"12345678901234567890123\""]);
    }

    #[test]
    fn texts_and_numbers_are_told_apart() {
        assert_eq!(Operand::from("5").as_json(), ["\"5\""]);
        assert_eq!(Operand::from(5).as_json(), ["5", "5.0"]);
        assert_eq!(Operand::from(json!(-0.0)).as_json(), ["0", "0.0", "-0.0"]);
        assert_eq!(Operand::from(0.1_f32).as_json(), ["0.1"]);
        assert_eq!(Operand::from(u64::MAX).as_text(), u64::MAX.to_string());
        assert_eq!(Operand::from(f64::NAN).as_number(), None);
        assert_eq!(Operand::from(json!(null)).as_json(), ["null"]);
    }
}
