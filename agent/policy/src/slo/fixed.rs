//! Numbers as Prometheus writes them, in millionths: integers, so that a comparison means what it says.

use core::str::FromStr;

/// A number in millionths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millionths(pub i64);

/// A text that is not a number that can be held: `NaN`, or beyond nine trillion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a number that can be compared")]
pub struct ParseMillionthsError;

impl FromStr for Millionths {
    type Err = ParseMillionthsError;

    /// Reads `12`, `-0.005`, `2.5e-3`; what is smaller than a millionth is cut off.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let (negative, plain) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match plain.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (
                mantissa,
                exponent.parse::<i32>().map_err(|_| ParseMillionthsError)?,
            ),
            None => (plain, 0),
        };
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() && part.is_empty() {
            return Err(ParseMillionthsError);
        }
        // The point stands this many digits from the left once the exponent and the millionths are in.
        let point = i64::try_from(whole.len()).map_err(|_| ParseMillionthsError)? + i64::from(exponent) + 6;
        let mut value: i64 = 0;
        let mut place: i64 = 0;
        for digit in whole.bytes().chain(part.bytes()) {
            let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'));
            let digit = digit.ok_or(ParseMillionthsError)?;
            if place < point {
                let grown = value.checked_mul(10).and_then(|value| value.checked_add(digit));
                value = grown.ok_or(ParseMillionthsError)?;
            }
            place += 1;
        }
        while place < point && value != 0 {
            value = value.checked_mul(10).ok_or(ParseMillionthsError)?;
            place += 1;
        }
        Ok(Self(if negative { -value } else { value }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_read_as_prometheus_writes_them() {
        for (text, value) in [
            ("0", 0),
            ("12", 12_000_000),
            ("0.005", 5_000),
            (".5", 500_000),
            ("1e-05", 10),
            ("2.5e-3", 2_500),
            ("1.25e+06", 1_250_000_000_000),
            ("-0.5", -500_000),
            ("0.0000009", 0),
            ("0e99", 0),
        ] {
            assert_eq!(text.parse(), Ok(Millionths(value)), "{text}");
        }
        for bad in [
            "",
            "NaN",
            "+Inf",
            "1e400",
            "1.2.3",
            "1e",
            "-",
            ".",
            "9223372036854775807",
        ] {
            assert_eq!(bad.parse::<Millionths>(), Err(ParseMillionthsError), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_floating_point(value in -1.0e6..1.0e6_f64) {
            let Millionths(millionths) = format!("{value:e}").parse().unwrap();
            #[expect(clippy::cast_precision_loss, reason = "compared with a tolerance")]
            let back = millionths as f64 / 1e6;
            prop_assert!((back - value).abs() <= 1.1e-6, "{value} {back}");
        }
    }
}
