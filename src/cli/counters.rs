//! Lists of counters as people type them: `minor-faults,cs`, `cycles,cpu/event=0x3c,umask=0/`, `none`.

use thiserror::Error;

use crate::{
    model::counts::{Counter, Counters, Slot},
    session::chosen::{Chosen, ChosenEvent, EventError, KNOWN_EVENTS},
};

/// Why a word is no list of counters.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CountersError {
    /// Nobody counts that.
    #[error("{why}; there are: {}", known())]
    Unknown {
        /// What is the matter.
        why: EventError,
    },
    /// It could be counted if it were named otherwise, or somewhere else.
    #[error(transparent)]
    Event(#[from] EventError),
    /// More than fit into a recording.
    #[error("{count} events are more than can be counted at a time: name at most {}", Slot::COUNT)]
    TooMany {
        /// How many were named.
        count: usize,
    },
}

/// Events that say together what a processor does.
const HARDWARE: [&str; 4] = ["cycles", "instructions", "cache-misses", "branch-misses"];

/// The counters that `words` names, separated by commas.
pub fn parse(words: &str) -> Result<Chosen, CountersError> {
    if words.trim().eq_ignore_ascii_case("none") {
        return Ok(Chosen::default());
    }
    let (mut own, mut events) = (Counters::default(), Vec::new());
    for word in split(words) {
        match of_ours(word) {
            Some(these) => own = own.with(these),
            None if word == "hardware" => {
                let named = HARDWARE.into_iter().map(ChosenEvent::named);
                events.extend(named.collect::<Result<Vec<_>, _>>()?);
            }
            None => events.push(event(word)?),
        }
    }
    if events.len() > Slot::COUNT {
        return Err(CountersError::TooMany { count: events.len() });
    }
    Ok(Chosen::these(own, events))
}

/// At commas, but for those between the slashes of an event.
fn split(words: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    let at_comma = move |letter: char| {
        inside ^= letter == '/';
        letter == ',' && !inside
    };
    words.split(at_comma).map(str::trim)
}

/// Those that every recording can have.
fn of_ours(word: &str) -> Option<Counters> {
    match word {
        "all" => Some(Counters::these(&Counter::OWN)),
        "page-faults" | "faults" => Some(Counters::these(&[Counter::MinorFaults, Counter::MajorFaults])),
        "cs" => Some(Counters::these(&[Counter::ContextSwitches])),
        "migrations" => Some(Counters::these(&[Counter::Migrations])),
        _ => {
            let named = Counter::OWN.into_iter().find(|counter| counter.name(&[]) == word);
            named.map(|counter| Counters::these(&[counter]))
        }
    }
}

fn event(word: &str) -> Result<ChosenEvent, CountersError> {
    ChosenEvent::named(word).map_err(|why| match why {
        EventError::Unknown { .. } => CountersError::Unknown { why },
        why => CountersError::Event(why),
    })
}

fn known() -> String {
    let names = Counter::OWN.map(|counter| counter.name(&[]).to_owned()).join(", ");
    format!(
        "{names}, page-faults (both kinds), all (of these), none; {KNOWN_EVENTS}; hardware ({})",
        HARDWARE.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::{CountersError, parse};
    use crate::{
        model::counts::{Counter, Counters},
        session::chosen::{Chosen, EventError},
    };

    fn names(chosen: Chosen) -> Vec<&'static str> {
        chosen.events.iter().map(|event| event.name.as_str()).collect()
    }

    #[test]
    fn lists_take_perfs_names() {
        let faults = [Counter::MinorFaults, Counter::MajorFaults];
        for (words, counters) in [
            ("none", Counters::default()),
            ("all", Counters::these(&Counter::OWN)),
            ("page-faults", Counters::these(&faults)),
            ("minor-faults, faults", Counters::these(&faults)),
            ("cs,cpu-migrations", Counters::these(&[Counter::ContextSwitches, Counter::Migrations])),
        ] {
            let chosen = parse(words).unwrap();
            assert_eq!((chosen.own, names(chosen)), (counters, Vec::new()), "{words}");
        }
    }

    #[test]
    fn events_stand_beside_them_each_once() {
        let chosen = parse("cycles,cs,instructions:u,cycles").unwrap();
        assert_eq!(chosen.own, Counters::these(&[Counter::ContextSwitches]));
        assert_eq!(names(chosen), ["cycles", "instructions:u"]);
        assert_eq!(names(parse("all,hardware").unwrap()).len(), 4);
    }

    #[test]
    fn commas_between_slashes_separate_nothing() {
        let refused = parse("cs,nowhere/event=1,umask=2/,cycles");
        let Err(CountersError::Event(EventError::Unit { word, .. })) = refused else { panic!("{refused:?}") };
        assert_eq!(word, "nowhere/event=1,umask=2/");
    }

    #[test]
    fn other_words_are_refused_with_a_reason() {
        for word in ["", "fault", "cs,", "none,cs", "task clock"] {
            assert!(matches!(parse(word), Err(CountersError::Unknown { .. })), "{word}");
        }
        assert_eq!(parse("r1,r2,r3,r4,r5,r6,r7,r8,r9"), Err(CountersError::TooMany { count: 9 }));
    }
}
