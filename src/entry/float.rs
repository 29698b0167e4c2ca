//! Finds the decimal that a float was: `tracing` hands an `f32` on as an `f64`.

/// From here on neighbours of an `f32` are two and more apart: its exact value is an integer.
const EXACT_INTEGERS: f64 = 16_777_216.0;

/// The float whose shortest decimal is the one that was meant.
///
/// `0.1_f32` arrives as the `f64` 0.10000000149011612. A float whose digits in binary end exactly where those of an
/// `f32` do was one, and is returned as the `f64` of its own shortest decimal, 0.1. One that ends a few digits earlier
/// may have been either, such as a power of two, and so may a large integer: they keep their exact value.
#[expect(clippy::cast_possible_truncation, reason = "the comparison that follows finds what is lost")]
pub(super) fn shortest(float: f64) -> f64 {
    let narrow = float as f32;
    let was_narrow = f64::from(narrow).to_bits() == float.to_bits() && narrow.to_bits().trailing_zeros() < 4;
    if was_narrow && float.abs() < EXACT_INTEGERS && float.is_finite() {
        narrow.to_string().parse().unwrap_or(float)
    } else {
        float
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_float_of_either_type_has_its_own_decimal() {
        for (narrow, text) in [
            (0.1_f32, "0.1"),
            (0.85, "0.85"),
            (-3.25e-3, "-0.00325"),
            (1.0 / 3.0, "0.33333334"),
            (1e-7, "1e-7"),
        ] {
            assert_eq!(format!("{:?}", shortest(f64::from(narrow))), text);
        }
        for wide in [
            0.1,
            f64::EPSILON,
            f64::MAX,
            f64::MIN_POSITIVE,
            1.0 / 3.0,
            5e-324,
            -0.0,
            0.5,
            1.0 / 1_048_576.0,
            123_456_790_528.0,
            12_345.0 / 65_536.0,
            f64::from(f32::MAX),
            f64::from(f32::MIN_POSITIVE),
            f64::INFINITY,
        ] {
            assert_eq!(shortest(wide).to_bits(), wide.to_bits(), "{wide}");
        }
        assert!(shortest(f64::NAN).is_nan());
    }

    proptest! {
        #[test]
        #[expect(clippy::cast_possible_truncation, reason = "to compare as the type that it was")]
        fn no_float_becomes_another_of_its_type(narrow in any::<f32>()) {
            let kept = shortest(f64::from(narrow));
            prop_assert!(narrow.is_nan() || (kept as f32).to_bits() == narrow.to_bits());
        }
    }
}
