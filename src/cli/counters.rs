//! Lists of counters as people type them: `minor-faults,cs`, `none`.

use thiserror::Error;

use crate::model::counts::{Counter, Counters};

/// Why a word is no list of counters.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CountersError {
    /// Nobody counts that.
    #[error("`{word}` is no counter; there are: {}", known())]
    Unknown {
        /// What was typed.
        word: String,
    },
    /// Processors count that, and gilscope does not read it yet.
    #[error("`{word}` is a hardware counter, which cannot be attributed yet; there are: {}", known())]
    Hardware {
        /// What was typed.
        word: String,
    },
}

/// Names of hardware counters that `perf` has made known.
const HARDWARE: [&str; 12] = [
    "cycles",
    "cpu-cycles",
    "instructions",
    "cache-references",
    "cache-misses",
    "branches",
    "branch-instructions",
    "branch-misses",
    "bus-cycles",
    "ref-cycles",
    "stalled-cycles-frontend",
    "stalled-cycles-backend",
];

/// The counters that `words` names, separated by commas.
pub fn parse(words: &str) -> Result<Counters, CountersError> {
    if words.trim().eq_ignore_ascii_case("none") {
        return Ok(Counters::default());
    }
    words.split(',').map(|word| one(word.trim())).try_fold(Counters::default(), |all, these| Ok(all.with(these?)))
}

fn one(word: &str) -> Result<Counters, CountersError> {
    let owned = || word.to_owned();
    match word {
        "all" => return Ok(Counters::these(&Counter::ALL)),
        "page-faults" | "faults" => return Ok(Counters::these(&[Counter::MinorFaults, Counter::MajorFaults])),
        "cs" => return Ok(Counters::these(&[Counter::ContextSwitches])),
        "migrations" => return Ok(Counters::these(&[Counter::Migrations])),
        _ if HARDWARE.contains(&word) => return Err(CountersError::Hardware { word: owned() }),
        _ => {}
    }
    let named = Counter::ALL.into_iter().find(|counter| counter.name() == word);
    named.map(|counter| Counters::these(&[counter])).ok_or_else(|| CountersError::Unknown { word: owned() })
}

fn known() -> String {
    let names = Counter::ALL.map(Counter::name).join(", ");
    format!("{names}, page-faults (both kinds), all, none")
}

#[cfg(test)]
mod tests {
    use super::{CountersError, parse};
    use crate::model::counts::{Counter, Counters};

    #[test]
    fn lists_take_perfs_names() {
        let faults = [Counter::MinorFaults, Counter::MajorFaults];
        for (words, counters) in [
            ("none", Counters::default()),
            ("all", Counters::these(&Counter::ALL)),
            ("page-faults", Counters::these(&faults)),
            ("minor-faults, faults", Counters::these(&faults)),
            ("cs,cpu-migrations", Counters::these(&[Counter::ContextSwitches, Counter::Migrations])),
        ] {
            assert_eq!(parse(words), Ok(counters), "{words}");
        }
    }

    #[test]
    fn other_words_are_refused_with_a_reason() {
        for word in ["", "fault", "cs,", "none,cs", "task clock"] {
            assert!(matches!(parse(word), Err(CountersError::Unknown { .. })), "{word}");
        }
        assert_eq!(parse("cs,cycles"), Err(CountersError::Hardware { word: "cycles".to_owned() }));
    }
}
