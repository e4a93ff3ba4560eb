//! Relations of counts, and where there are none.

use super::{Known, Ratio, per_hold};
use crate::model::counts::{CountedPlace, Counter, Counters, Counts, Meaning, Measured, Slot};

const EVENTS: [Meaning; 7] = [
    Meaning::Cycles,
    Meaning::Instructions,
    Meaning::CacheReferences,
    Meaning::CacheMisses,
    Meaning::BranchMisses,
    Meaning::StalledFrontend,
    Meaning::StalledBackend,
];

fn events(places: [CountedPlace; 7]) -> Vec<Measured> {
    let event = |(meaning, place): (Meaning, CountedPlace)| Measured {
        name: format!("{meaning:?}"),
        meaning: Some(meaning),
        place,
    };
    EVENTS.into_iter().zip(places).map(event).collect()
}

fn at(slot: usize) -> Counter {
    Counter::Measured(Slot::at(slot).unwrap())
}

fn counts(numbers: [u64; 7]) -> Counts {
    let mut counts = Counts::default();
    (0..).zip(numbers).for_each(|(slot, number)| counts.add(at(slot), number));
    counts
}

fn all(counts: &Counts, known: Known<'_>) -> [Option<f64>; 5] {
    Ratio::ALL.map(|ratio| ratio.of(counts, known))
}

const COUNTED: [u64; 7] = [1_000, 400, 50, 10, 2, 300, 600];

#[test]
fn each_is_the_relation_that_it_says() {
    let measured = events([CountedPlace::Everywhere; 7]);
    let known = Known::these(Counters::measured(7), &measured);
    let expected = [Some(0.4), Some(25.0), Some(0.2), Some(5.0), Some(0.6)];
    assert_eq!(all(&counts(COUNTED), known), expected);
    assert_eq!(Ratio::Ipc.counters(known), Counters::these(&[at(0), at(1)]));
    assert_eq!((per_hold(30, 4), per_hold(30, 0)), (Some(7.5), None));
}

#[test]
fn of_what_was_not_counted_or_is_missing_nothing_is_said() {
    let measured = events([CountedPlace::Everywhere; 7]);
    let without = |slot| Known::these(Counters::measured(7).without(Counters::these(&[at(slot)])), &measured);
    assert_eq!(all(&counts(COUNTED), without(1)), [None, None, Some(0.2), None, Some(0.6)]);
    assert_eq!(all(&counts(COUNTED), without(6)), [Some(0.4), Some(25.0), Some(0.2), Some(5.0), Some(0.3)]);
    assert_eq!(all(&counts(COUNTED), Known::these(Counters::these(&Counter::OWN), &[])), [None; 5]);
}

#[test]
fn nothing_is_no_whole_but_a_part_can_be_nothing() {
    let measured = events([CountedPlace::Everywhere; 7]);
    let known = Known::these(Counters::measured(7), &measured);
    assert_eq!(all(&Counts::default(), known), [None; 5]);
    let expected = [Some(0.4), Some(0.0), None, Some(0.0), Some(0.0)];
    assert_eq!(all(&counts([1_000, 400, 0, 0, 0, 0, 0]), known), expected);
}

#[test]
fn only_counts_of_the_same_code_are_compared() {
    let mut places = [CountedPlace::Everywhere; 7];
    places[1] = CountedPlace::Program;
    let mut measured = events(places);
    let known = Known::these(Counters::measured(7), &measured);
    assert_eq!(all(&counts(COUNTED), known), [None, None, Some(0.2), None, Some(0.6)]);
    // A second event with the same meaning finds the partner that the first one has not.
    let cycles = Measured { name: "cycles:u".into(), meaning: Some(Meaning::Cycles), place: CountedPlace::Program };
    measured.push(cycles);
    let mut counted = counts(COUNTED);
    counted.add(at(7), 800);
    let known = Known::these(Counters::measured(8), &measured);
    assert_eq!(Ratio::Ipc.of(&counted, known), Some(0.5));
}
