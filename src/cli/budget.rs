//! Budgets as people type them: `3%`, `0.5%`, `3`, `none`.

use thiserror::Error;

use crate::session::options::Budget;

/// Why a word is not a budget.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BudgetError {
    /// Not a percentage.
    #[error("`{word}` is not a percentage; examples: 3%, 0.5%, none")]
    NotAPercentage {
        /// What was typed.
        word: String,
    },
    /// Nothing can be observed at no cost.
    #[error("`{word}` is less than 0.1%, with which nothing would be seen; examples: 3%, 0.5%, none")]
    TooLittle {
        /// What was typed.
        word: String,
    },
    /// There is no more than all.
    #[error("`{word}` is more than 100%; to take every event whatever it costs: none")]
    TooMuch {
        /// What was typed.
        word: String,
    },
}

/// In millionths.
const LEAST: u32 = 1_000;
const ALL: u32 = 1_000_000;

/// The budget that `word` stands for; a bare number means percent, and all of the time is no limit.
pub fn parse(word: &str) -> Result<Budget, BudgetError> {
    let owned = || word.to_owned();
    let trimmed = word.trim();
    if trimmed.eq_ignore_ascii_case("none") {
        return Ok(Budget::Unlimited);
    }
    let number = trimmed.strip_suffix('%').unwrap_or(trimmed).trim_end();
    match millionths(number).ok_or_else(|| BudgetError::NotAPercentage { word: owned() })? {
        ..LEAST => Err(BudgetError::TooLittle { word: owned() }),
        ALL => Ok(Budget::Unlimited),
        part @ ..ALL => Ok(Budget::Millionths(part)),
        _ => Err(BudgetError::TooMuch { word: owned() }),
    }
}

/// A percentage in millionths, digits past the fourth after the point left out; `None` for what is none.
fn millionths(number: &str) -> Option<u32> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let are_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if !are_digits(whole) || !are_digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u32>().unwrap_or(u32::MAX) };
    let fraction: String = fraction.chars().chain("0000".chars()).take(4).collect();
    Some(whole.saturating_mul(10_000).saturating_add(fraction.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{Budget, BudgetError, parse};

    #[test]
    fn percentages_are_read_exactly() {
        for (word, part) in [("3%", 30_000), ("3", 30_000), (" 0.5 % ", 5_000), ("99.9999%", 999_999), (".1", 1_000)] {
            assert_eq!(parse(word), Ok(Budget::Millionths(part)), "{word}");
        }
        for word in ["none", "None", "100%", "100"] {
            assert_eq!(parse(word), Ok(Budget::Unlimited), "{word}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_reason() {
        let word = |word: &str| word.to_owned();
        assert_eq!(parse("0"), Err(BudgetError::TooLittle { word: word("0") }));
        assert_eq!(parse("0.09%"), Err(BudgetError::TooLittle { word: word("0.09%") }));
        assert_eq!(parse("101%"), Err(BudgetError::TooMuch { word: word("101%") }));
        assert_eq!(parse("99999999999"), Err(BudgetError::TooMuch { word: word("99999999999") }));
        for nonsense in ["", "%", ".", "3%%", "-1", "1e2", "three", "3 per cent", "NaN"] {
            assert_eq!(parse(nonsense), Err(BudgetError::NotAPercentage { word: word(nonsense) }));
        }
    }
}
