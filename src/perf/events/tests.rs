//! Tests of names and of what they stand for.

use super::{CountedEvent, CountedPlace, EventCode, EventError};
use crate::model::counts::Meaning;

fn code(kind: u32, config: u64) -> EventCode {
    EventCode { kind, config, ..EventCode::default() }
}

/// The numbers are those of `linux/perf_event.h`.
#[test]
fn names_are_the_ones_that_perf_has_made_known() {
    for (name, expected, meaning, place) in [
        ("cycles", code(0, 0), Some(Meaning::Cycles), CountedPlace::Everywhere),
        ("cpu-cycles:u", code(0, 0), Some(Meaning::Cycles), CountedPlace::Program),
        ("instructions:k", code(0, 1), Some(Meaning::Instructions), CountedPlace::Kernel),
        ("cache-misses:uk", code(0, 3), Some(Meaning::CacheMisses), CountedPlace::Everywhere),
        ("stalled-cycles-backend", code(0, 8), Some(Meaning::StalledBackend), CountedPlace::Everywhere),
        ("cpu-clock", code(1, 0), None, CountedPlace::Everywhere),
        ("L1-dcache-load-misses", code(3, 0x1_00_00), None, CountedPlace::Everywhere),
        ("dTLB-store-misses:u", code(3, 0x1_01_03), None, CountedPlace::Program),
        ("branch-misses", code(0, 5), Some(Meaning::BranchMisses), CountedPlace::Everywhere),
        ("branch-load-misses", code(3, 0x1_00_05), None, CountedPlace::Everywhere),
        ("r01c2", code(4, 0x1c2), None, CountedPlace::Everywhere),
        ("r1a8:u", code(4, 0x1a8), None, CountedPlace::Program),
    ] {
        let event = CountedEvent::named(name).unwrap();
        assert_eq!((event.code, event.meaning, event.place), (expected, meaning, place), "{name}");
        assert_eq!(event.name, name);
    }
}

#[test]
fn other_words_are_refused_with_a_reason() {
    for word in ["", "cycle", "r", "rxyz", "L1-dcache", "L1-dcache-loads-misses", "ab:c/d"] {
        assert!(
            matches!(CountedEvent::named(word), Err(EventError::Unknown { .. } | EventError::Unit { .. })),
            "{word}"
        );
    }
    assert!(matches!(CountedEvent::named("cycles:pp"), Err(EventError::Modifier { .. })));
    assert!(matches!(CountedEvent::named("nowhere/event=1/"), Err(EventError::Unit { .. })));
    assert!(matches!(CountedEvent::named("gilscope:nothing"), Err(EventError::Tracepoint { .. })));
}

#[test]
fn what_the_kernel_counts_by_itself_can_be_tried_here() {
    let clock = CountedEvent::named("cpu-clock").unwrap();
    assert!(clock.is_of_the_kernel());
    assert!(!CountedEvent::named("cycles").unwrap().is_of_the_kernel());
    match clock.tried() {
        Ok(event) => assert_eq!(event.name, "cpu-clock"),
        // A system may let nobody count anything.
        Err(why) => assert!(matches!(why.raw_os_error(), Some(libc::EACCES | libc::EPERM)), "{why}"),
    }
}
