//! Reads JSON texts, and finds what a parser would change in them.
//!
//! The answers are the same whatever features other crates turn on in `serde_json`: `arbitrary_precision` keeps numbers
//! as they are written, and reads an object with a certain key as a number.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde_json::{Number, Value as Json};

/// The beginning of the keys that `serde_json` keeps for itself.
pub(super) const PRIVATE_KEY: &str = "$serde_json::private::";

const WIDE: &str = "holds a number that would be rounded, kept as text";
const EQUAL_KEYS: &str = "holds two equal keys in one object, kept as text";
const PRIVATE: &str = "holds a key that `serde_json` keeps for itself, kept as text";

/// The reason why a text is not taken as JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is not JSON, or nested too deeply.
    NotJson,
    /// It is, and reading it would change it in this way.
    Changed(&'static str),
}

/// The value of this JSON text, if no more than its spelling is lost by reading it.
pub(super) fn read(text: &str) -> Result<Json, Kept> {
    if let Some(change) = change(text) {
        let is_json = serde_json::from_str::<IgnoredAny>(text).is_ok();
        return Err(if is_json { Kept::Changed(change) } else { Kept::NotJson });
    }
    serde_json::from_str(text).map_err(|_| Kept::NotJson)
}

/// The change that a parser would make to this text. For a text that is not JSON, the answer means nothing.
pub(super) fn change(text: &str) -> Option<&'static str> {
    // The keys of all objects that are open, and where those of each begin.
    let (mut keys, mut open): (Vec<Cow<'_, str>>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| matches!(c, '{' | '}' | '"' | '-' | '0'..='9')) {
        let (_, token) = rest.split_at_checked(at)?;
        rest = token.get(1..)?;
        match token.bytes().next()? {
            b'{' => open.push(keys.len()),
            b'}' => {
                let begin = open.pop().unwrap_or(0).min(keys.len());
                let mut own = keys.split_off(begin);
                own.sort_unstable();
                if own.windows(2).any(|pair| matches!(pair, [one, other] if one == other)) {
                    return Some(EQUAL_KEYS);
                }
            }
            b'"' => {
                let end = end_of_string(rest)?;
                let (inner, after) = rest.split_at_checked(end)?;
                rest = after.get(1..)?;
                if rest.trim_start_matches([' ', '\t', '\r', '\n']).starts_with(':') {
                    let key = unescaped(inner);
                    if key.starts_with(PRIVATE_KEY) {
                        return Some(PRIVATE);
                    }
                    keys.push(key);
                }
            }
            _ => {
                let within = |c: char| matches!(c, '0'..='9' | '.' | 'e' | 'E' | '+' | '-');
                let (number, after) =
                    token.split_at_checked(token.find(|c| !within(c)).unwrap_or(token.len()))?;
                if !is_kept(number) {
                    return Some(WIDE);
                }
                rest = after;
            }
        }
    }
    None
}

/// The end of the string whose inner part begins this text.
fn end_of_string(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

/// The text of a JSON string without its quotation marks.
fn unescaped(inner: &str) -> Cow<'_, str> {
    if !inner.contains('\\') {
        return inner.into();
    }
    serde_json::from_str(&["\"", inner, "\""].concat()).map_or(inner.into(), |text: String| text.into())
}

/// Whether a number that is written so is the same number once it is an `i64`, a `u64` or an `f64`.
///
/// The measure is the text that `serde_json` writes, because that text is stored. The standard library differs where
/// two decimals are equally short and equally near: of 611249632404904.25 it writes `…04.3`, and `serde_json`, like
/// most others, `…04.2`.
fn is_kept(number: &str) -> bool {
    if !number.contains(['.', 'e', 'E']) {
        return number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok();
    }
    let written = number.parse().ok().and_then(Number::from_f64);
    written.is_some_and(|written| decimal(number) == decimal(&written.to_string()))
}

/// The digits of a decimal number, without zeros at either end, and the power of ten of the first.
fn decimal(number: &str) -> (String, i64) {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.trim_start_matches('-').split_once('.').unwrap_or((mantissa, ""));
    let whole = whole.trim_start_matches('-');
    let all = [whole, fraction].concat();
    let digits = all.trim_start_matches('0');
    let zeros = i64::try_from(all.len() - digits.len()).unwrap_or(i64::MAX);
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        return (String::new(), 0);
    }
    let whole = i64::try_from(whole.len()).unwrap_or(i64::MAX);
    let exponent: i64 =
        exponent.parse().unwrap_or(if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 });
    (digits.to_owned(), exponent.saturating_add(whole - zeros))
}

/// The number as `serde_json` holds it without any feature: an `i64`, a `u64` or an `f64`. `None`: none of them holds it.
pub(crate) fn plain(number: &Number) -> Option<Number> {
    if let Some(integer) = number.as_i64() {
        // `-0` is read as a float, which keeps the sign.
        let negative_zero = integer == 0 && *number != Number::from(0);
        return if negative_zero { Number::from_f64(-0.0) } else { Some(integer.into()) };
    }
    if let Some(integer) = number.as_u64() {
        return Some(integer.into());
    }
    let plain = Number::from_f64(number.as_f64()?)?;
    // Only with `arbitrary_precision` the two can differ.
    (plain == *number || is_kept(&number.to_string())).then_some(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::entry::normal::normalize_json;

    #[test]
    fn what_a_parser_would_change_is_found() {
        for (text, change) in [
            (r#"{"user":"alice","user":"mallory"}"#, EQUAL_KEYS),
            (r#"{"a":[{"k":1,"x":{"k":2},"\u006b":3}]}"#, EQUAL_KEYS),
            (r#"{"amount":12345678901234567.89}"#, WIDE),
            (r#"{"a":[1,123456789012345678901]}"#, WIDE),
            (r#"{"a":-9223372036854775809}"#, WIDE),
            (r#"{"a":1e400}"#, WIDE),
            (r#"{"a":1e-400}"#, WIDE),
            (r#"{"a":0.1000000000000000055511151231257827}"#, WIDE),
            (r#"{"a":1e99999999999999999999}"#, WIDE),
            (r#"{"$serde_json::private::Number":"1"}"#, PRIVATE),
        ] {
            assert_eq!(read(text), Err(Kept::Changed(change)), "{text}");
        }
        for text in [r#"{"a":1e400"#, "{", "nul", r#"{"a":"\ud800"}"#, "\u{feff}{}", "{'a':1}", "[1,]"] {
            assert_eq!(read(text), Err(Kept::NotJson), "{text}");
        }
    }

    #[test]
    fn other_spellings_of_the_same_values_are_read() {
        for (text, value) in [
            (
                r#" {"a" : 1e2, "b": 0.10, "c": -0.0, "d": 1E+2} "#,
                json!({"a": 100.0, "b": 0.1, "c": -0.0, "d": 100.0}),
            ),
            (r#"{"n":18446744073709551615,"m":-9223372036854775808}"#, json!({"n": u64::MAX, "m": i64::MIN})),
            (
                r#"{"n":1e300,"s":"123456789012345678901","m":"1e400"}"#,
                json!({"n": 1e300, "s": "123456789012345678901", "m": "1e400"}),
            ),
            (
                r#"{"a":{"k":1},"b":[{"k":1},{"k":2}],"k":"\"k\":"}"#,
                json!({"a": {"k": 1}, "b": [{"k": 1}, {"k": 2}], "k": "\"k\":"}),
            ),
            (
                r#"{"a":5e-324,"b":1.7976931348623157e308,"c":0e5,"d":0.000}"#,
                json!({"a": 5e-324, "b": f64::MAX, "c": 0.0, "d": 0.0}),
            ),
        ] {
            // If a feature of `serde_json` keeps the spelling of numbers, the normal form still does not.
            let mut kept = read(text).unwrap();
            normalize_json(&mut kept, &mut Vec::new());
            assert_eq!(kept, value, "{text}");
        }
    }

    #[test]
    fn a_float_with_two_shortest_decimals_is_read_as_it_is_stored() {
        // Each is in the middle between two decimals of sixteen digits.
        for (whole, other) in [
            (611_249_632_404_904_f64, "611249632404904.3"),
            (1_000_000_000_000_000.0, "1000000000000000.3"),
            (2_251_799_813_685_247.0, "2251799813685247.3"),
            (-611_249_632_404_905.0, "-611249632404904.7"),
        ] {
            let float = whole + 0.25;
            let stored = json!([float]).to_string();
            assert_eq!(read(&stored), Ok(json!([float])), "{stored}");
            // Another spelling of the same float would be stored with another digit.
            let spelt = decimal(other) == decimal(stored.trim_matches(['[', ']']));
            assert!(spelt || read(other) == Err(Kept::Changed(WIDE)), "{other}");
            assert_eq!(other.parse(), Ok(float));
        }
    }

    proptest! {
        #[test]
        fn every_float_that_is_written_is_read(float in any::<f64>(), text in any::<String>()) {
            change(&text);
            let json = json!({ text.as_str(): [text.as_str(), float] }).to_string();
            prop_assert!(read(&json).is_ok(), "{}", json);
        }
    }
}
