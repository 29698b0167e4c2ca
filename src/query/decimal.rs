//! Decimal numbers, compared exactly, and the numbers of stored JSON that are equal to one or near it.

use std::{cmp::Ordering, fmt};

use serde_json::Value;

/// A number as JSON writes it, exactly: a number without sign below 1, given by its digits, times a power of ten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decimal {
    negative: bool,
    /// The digits behind the point, without zeros at either end. Zero has none.
    digits: String,
    exponent: i64,
}

/// Beyond these powers of ten lies no number that a log stores.
const MAX_EXPONENT: i64 = 400;

/// More digits than the difference of two numbers that a log stores can have.
const MAX_DIGITS: usize = 800;

impl Decimal {
    /// The number that this text is, by the grammar of JSON.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = match rest.find(['e', 'E']) {
            Some(at) => (rest.get(..at)?, Some(rest.get(at + 1..)?)),
            None => (rest, None),
        };
        let (whole, fraction) =
            mantissa.split_once('.').map_or((mantissa, None), |(whole, rest)| (whole, Some(rest)));
        let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_whole = are_digits(whole) && (whole == "0" || !whole.starts_with('0'));
        if !is_whole || !fraction.is_none_or(are_digits) {
            return None;
        }
        let power = match exponent {
            None => 0,
            Some(exponent) => {
                let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
                if !are_digits(unsigned) {
                    return None;
                }
                let power = unsigned.parse().unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
                if exponent.starts_with('-') { -power } else { power }
            }
        };
        let all = [whole, fraction.unwrap_or_default()].concat();
        let digits = all.trim_start_matches('0');
        let zeros = i64::try_from(all.len() - digits.len()).unwrap_or(i64::MAX / 4);
        let whole = i64::try_from(whole.len()).unwrap_or(i64::MAX / 4);
        Some(Self::new(negative, digits.trim_end_matches('0'), power.saturating_add(whole - zeros)))
    }

    /// A number with so many digits, or so great or small, that no stored number is, is replaced by one that compares with
    /// every stored number as it does.
    fn new(negative: bool, digits: &str, exponent: i64) -> Self {
        if digits.is_empty() {
            return Self { negative: false, digits: String::new(), exponent: 0 };
        }
        if exponent.abs() > MAX_EXPONENT {
            return Self { negative, digits: "1".to_owned(), exponent: MAX_EXPONENT * exponent.signum() };
        }
        let digits = match digits.get(..MAX_DIGITS) {
            Some(first) if digits.len() > MAX_DIGITS => [first, "1"].concat(),
            _ => digits.to_owned(),
        };
        Self { negative, digits, exponent }
    }

    /// The numbers that are equal to this one, as the normal form of JSON spells them: an integer, a float, or both.
    pub(crate) fn spellings(&self) -> Vec<String> {
        let integer = (!self.has_fraction()).then(|| self.least_integer(true));
        let integer = integer.filter(|integer| (i64::MIN.into()..=u64::MAX.into()).contains(integer));
        let mut spellings: Vec<String> = integer.iter().map(ToString::to_string).collect();
        let float = self.nearest_float();
        if Self::read(&spelled(float)).as_ref() == Some(self) {
            spellings.extend(all_spelled(float));
        }
        spellings
    }

    /// The number as JSON: the number if JSON can hold it exactly, and otherwise its text.
    pub(super) fn described(&self) -> Value {
        let spelling = self.spellings().into_iter().next();
        spelling.and_then(|text| text.parse().ok()).unwrap_or_else(|| self.to_string().into())
    }

    fn has_fraction(&self) -> bool {
        i64::try_from(self.digits.len()).is_ok_and(|digits| digits > self.exponent)
    }

    /// The least integer that is greater than this number, or equal to it if it may be. One that is beyond all stored integers
    /// is only as exact as it must be to be so.
    pub(crate) fn least_integer(&self, may_be_equal: bool) -> i128 {
        let whole = match usize::try_from(self.exponent) {
            Ok(places @ 1..=38) => {
                let digits = self.digits.get(..places).unwrap_or(&self.digits);
                let zeros = "0".repeat(places - digits.len());
                [digits, &zeros].concat().parse().unwrap_or(0)
            }
            Ok(39..) => i128::MAX / 2,
            _ => 0,
        };
        let (is_whole, whole) = (!self.has_fraction(), if self.negative { -whole } else { whole });
        let next = if is_whole { !may_be_equal } else { !self.negative };
        whole + i128::from(next)
    }

    fn nearest_float(&self) -> f64 {
        self.to_string().parse::<f64>().unwrap_or(0.0).clamp(f64::MIN, f64::MAX)
    }

    /// The floats that are greater than this number, or equal to it if they may be: some that are near it, as JSON spells
    /// them, and a float from which on all others are.
    ///
    /// A database that reads the text of a float not quite exactly takes it at most for its second neighbour.
    #[cfg(any(feature = "_sqlite", test))]
    pub(crate) fn floats_from(&self, may_be_equal: bool) -> (Vec<String>, f64) {
        let nearest = self.nearest_float();
        let is_in = match Self::read(&spelled(nearest)).map(|nearest| nearest.cmp(self)) {
            Some(Ordering::Greater) => true,
            Some(Ordering::Equal) => may_be_equal,
            _ => false,
        };
        let mut near = if is_in { all_spelled(nearest) } else { Vec::new() };
        let (mut float, mut bound) = (nearest, f64::INFINITY);
        for step in 1..=8 {
            float = if float == 0.0 { f64::from_bits(1) } else { float.next_up() };
            if !float.is_finite() {
                break;
            }
            near.extend(all_spelled(float));
            if step == 4 {
                bound = float;
            }
        }
        (near, bound)
    }
}

/// The spellings of this float in stored JSON: of zero those of both signs, and of a great float with a `+` in its exponent, as
/// `serde_json` writes it, and without, as its earlier versions did.
fn all_spelled(float: f64) -> Vec<String> {
    if float == 0.0 {
        return vec![spelled(0.0), spelled(-0.0)];
    }
    let plain = spelled(float).replace("e+", "e");
    let signed = plain.split_once('e').filter(|(_, power)| !power.starts_with('-'));
    let signed = signed.map(|(digits, power)| [digits, "e+", power].concat());
    [Some(plain), signed].into_iter().flatten().collect()
}

fn spelled(float: f64) -> String {
    Value::from(float).to_string()
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let magnitude = |one: &Self, other: &Self| {
            let by_zero = other.digits.is_empty().cmp(&one.digits.is_empty());
            by_zero
                .then_with(|| one.exponent.cmp(&other.exponent))
                .then_with(|| one.digits.cmp(&other.digits))
        };
        match (self.negative, other.negative) {
            (false, false) => magnitude(self, other),
            (true, true) => magnitude(other, self),
            (negative, _) => {
                if negative {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Decimal {
    /// Writes the number as JSON, Rust and PostgreSQL read it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.negative { "-" } else { "" };
        if self.digits.is_empty() {
            return f.write_str("0");
        }
        match usize::try_from(self.exponent) {
            Ok(places @ 1..=20) if places >= self.digits.len() => {
                write!(f, "{sign}{}{}", self.digits, "0".repeat(places - self.digits.len()))
            }
            Ok(places @ 1..=20) => {
                let (whole, fraction) = self.digits.split_at(places);
                write!(f, "{sign}{whole}.{fraction}")
            }
            Ok(0) => write!(f, "{sign}0.{}", self.digits),
            _ => write!(f, "{sign}0.{}e{}", self.digits, self.exponent),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Decimal {
        Decimal::read(text).unwrap()
    }

    #[test]
    fn numbers_are_read_as_json_writes_them() {
        for (text, same) in [
            ("0", "-0.000e7"),
            ("5", "5.00"),
            ("120", "1.2E+2"),
            ("-0.05", "-5e-2"),
            ("18446744073709551616", "1844674407370955161.6e1"),
            ("1e401", "1e99999999999999999999999"),
            ("1e-401", "3e-99999999999999999999999"),
        ] {
            assert_eq!(read(text), read(same), "{text}");
        }
        for text in ["", "-", "+5", ".5", "5.", "05", "1e", "1e+", "0x10", "nan", "inf", "1 ", "1_000", "١"]
        {
            assert_eq!(Decimal::read(text), None, "{text}");
        }
    }

    #[test]
    fn a_number_is_spelled_as_an_integer_and_as_a_float_where_each_is_equal() {
        for (text, spellings) in [
            ("5.0", &["5", "5.0"][..]),
            ("0", &["0", "0.0", "-0.0"]),
            ("-0.50", &["-0.5"]),
            ("18446744073709551615", &["18446744073709551615"]),
            ("9007199254740993", &["9007199254740993"]),
            ("1e300", &["1e300", "1e+300"]),
            ("1e-7", &["1e-7"]),
            ("0.1000000000000000055511151231257827", &[]),
            ("-9223372036854775809", &[]),
        ] {
            assert_eq!(read(text).spellings(), spellings, "{text}");
        }
    }

    #[test]
    fn the_least_integer_is_on_the_right_side() {
        for (text, least, above) in [
            ("5", 5, 6),
            ("-5", -5, -4),
            ("4.1", 5, 5),
            ("-4.1", -4, -4),
            ("0.01", 1, 1),
            ("-0.01", 0, 0),
            ("0", 0, 1),
            ("1e2", 100, 101),
            ("18446744073709551615.5", 1 << 64, 1 << 64),
            ("-1e-300", 0, 0),
        ] {
            assert_eq!(
                (read(text).least_integer(true), read(text).least_integer(false)),
                (least, above),
                "{text}"
            );
        }
        assert!(read("1e60").least_integer(true) > i128::from(u64::MAX));
        assert!(read("-1e60").least_integer(true) < i128::from(i64::MIN));
    }

    proptest! {
        #[test]
        fn floats_are_ordered_as_their_values_are(a in any::<f64>(), b in any::<f64>()) {
            prop_assume!(a.is_finite() && b.is_finite());
            prop_assert_eq!(read(&spelled(a)).cmp(&read(&spelled(b))), a.partial_cmp(&b).unwrap());
            prop_assert_eq!(&read(&read(&spelled(a)).to_string()), &read(&spelled(a)));
        }

        #[test]
        fn integers_are_ordered_as_their_values_are(a in any::<i64>(), b in any::<u64>(), near in -2..3_i128) {
            let near = i128::from(b) + near;
            prop_assert_eq!(read(&a.to_string()).cmp(&read(&b.to_string())), i128::from(a).cmp(&i128::from(b)));
            prop_assert_eq!(read(&near.to_string()).cmp(&read(&b.to_string())), near.cmp(&i128::from(b)));
            prop_assert_eq!(read(&near.to_string()).least_integer(true), near);
        }

        #[test]
        fn floats_near_a_number_are_those_on_its_side(float in any::<f64>(), steps in -20..20_i64, equal in any::<bool>()) {
            prop_assume!(float.is_finite());
            let number = read(&spelled(float));
            let mut other = float;
            for _ in 0..steps.abs() {
                other = if steps > 0 { other.next_up() } else { other.next_down() };
            }
            prop_assume!(other.is_finite());
            let (near, bound) = number.floats_from(equal);
            let found = other >= bound || near.contains(&spelled(other));
            prop_assert_eq!(found, if equal { other >= float } else { other > float });
            // The same holds for a database that takes the float for its second neighbour.
            let above = other.next_up().next_up() >= bound || near.contains(&spelled(other));
            let below = other.next_down().next_down() >= bound || near.contains(&spelled(other));
            prop_assert_eq!((above, below), (found, found));
        }
    }
}
