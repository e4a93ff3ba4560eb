//! Durations as people type them: `5`, `1.5`, `500ms`, `2m`. Read digit by digit, so that nothing is rounded.

use std::time::Duration;

use thiserror::Error;

/// Why a word is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DurationError {
    /// Not a number with an optional unit.
    #[error("`{word}` is not a duration; examples: 5 (seconds), 1.5, 500ms, 2m, 1h")]
    NotADuration {
        /// What was typed.
        word: String,
    },
    /// Nothing can be recorded in no time.
    #[error("a duration must be longer than zero; examples: 5 (seconds), 1.5, 500ms, 2m, 1h")]
    Zero,
    /// Longer than a year, or than the machine can count.
    #[error("`{word}` is longer than a year")]
    TooLong {
        /// What was typed.
        word: String,
    },
}

const LONGEST: u128 = 366 * 24 * 3600 * 1_000_000_000;

/// The duration `word` stands for; a bare number means seconds.
pub fn parse(word: &str) -> Result<Duration, DurationError> {
    let nonsense = || DurationError::NotADuration { word: word.to_owned() };
    let too_long = || DurationError::TooLong { word: word.to_owned() };
    let trimmed = word.trim();
    let (number, unit) = trimmed.split_at(trimmed.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(trimmed.len()));
    let unit = nanos_in(unit).ok_or_else(nonsense)?;
    let (whole, fraction) = number.trim_end().split_once('.').unwrap_or((number.trim_end(), ""));
    let are_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if !are_digits(whole) || !are_digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return Err(nonsense());
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| too_long())? };
    let nanos = whole.checked_mul(unit).ok_or_else(too_long)? + nanos_of_fraction(fraction, unit);
    match nanos {
        0 => Err(DurationError::Zero),
        LONGEST.. => Err(too_long()),
        nanos => Ok(Duration::from_nanos(u64::try_from(nanos).map_err(|_| too_long())?)),
    }
}

fn nanos_in(unit: &str) -> Option<u128> {
    match unit {
        "us" => Some(1_000),
        "ms" => Some(1_000_000),
        "" | "s" => Some(1_000_000_000),
        "m" | "min" => Some(60 * 1_000_000_000),
        "h" => Some(3600 * 1_000_000_000),
        _ => None,
    }
}

/// `0.fraction` units; what lies below a nanosecond is dropped.
fn nanos_of_fraction(fraction: &str, unit: u128) -> u128 {
    let digits = fraction.bytes().take(18).map(|digit| u128::from(digit - b'0'));
    let (number, scale) = digits.fold((0, 1), |(number, scale), digit| (number * 10 + digit, scale * 10));
    number * unit / scale
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{DurationError, parse};

    #[test]
    fn numbers_are_seconds_unless_a_unit_follows() {
        for (word, millis) in [
            ("5", 5_000),
            ("1.5", 1_500),
            (".25", 250),
            ("2.", 2_000),
            ("500ms", 500),
            ("0.5ms", 0),
            ("10s", 10_000),
            ("2m", 120_000),
            ("1.5m", 90_000),
            ("1h", 3_600_000),
            ("3 s", 3_000),
        ] {
            let parsed = parse(word).unwrap();
            assert_eq!(parsed.as_millis(), millis, "{word}");
        }
        assert_eq!(parse("0.1"), Ok(Duration::from_millis(100)));
        assert_eq!(parse("0.123456789"), Ok(Duration::from_nanos(123_456_789)));
        assert_eq!(parse("5us"), Ok(Duration::from_micros(5)));
    }

    #[test]
    fn anything_else_is_refused_with_examples() {
        for word in ["", ".", "x", "5x", "-1", "1e3", "1.2.3", "5 5", "ms", "５", "inf", "1m30s"] {
            let refusal = parse(word).unwrap_err();
            assert_eq!(refusal, DurationError::NotADuration { word: word.to_owned() });
            assert!(refusal.to_string().contains("500ms"));
        }
        assert_eq!(parse("0"), Err(DurationError::Zero));
        assert_eq!(parse("0.0000000001"), Err(DurationError::Zero));
        for word in
            ["9000h", "99999999999999999999999999999999999999999999", "340282366920938463463374607431768211455h"]
        {
            assert_eq!(parse(word), Err(DurationError::TooLong { word: word.to_owned() }));
        }
    }
}
