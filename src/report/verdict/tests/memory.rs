//! Holds during which the processor stands still.

use super::{Figure, Finding, Life, Scene, figure, ids, script, time};
use crate::model::{
    counts::{ClassCounts, CountedPlace, Counter, Counters, Counts, Meaning, Measured, Slot},
    state::{State, StateClass},
};

const EVENTS: [Meaning; 5] =
    [Meaning::Cycles, Meaning::Instructions, Meaning::CacheMisses, Meaning::StalledBackend, Meaning::StalledFrontend];

fn at(slot: usize) -> Counter {
    Counter::Measured(Slot::at(slot).unwrap())
}

fn add(counts: &mut Counts, numbers: &[u64]) {
    numbers.iter().enumerate().for_each(|(slot, number)| counts.add(at(slot), *number));
}

/// One thread loads for 600 ms of a second, of which it runs for `running`, while another one waits for it. `inside` and
/// `outside` are what [`EVENTS`] counted, as many as there are numbers.
fn loading(running: u64, inside: &[u64], outside: &[u64]) -> Scene {
    let mut scene = Scene::new();
    let place = [script("load")];
    let states = [(State::HeldRunning, running), (State::HeldBlocked, 600 - running), (State::OutsideRunning, 400)];
    let owner = scene.thread(&Life { at: &place, states: &states, holds: 50, waits: 5, forced: 0 });
    let states = [(State::HeldRunning, 0), (State::WaitQueued, 500), (State::OutsideBlocked, 500)];
    let other = scene.thread(&Life { at: &[script("other")], states: &states, holds: 50, waits: 50, forced: 0 });
    scene.blame(other, owner, 400, &place);
    scene.seen(&place, 50, 600);
    let event = |meaning: &Meaning| Measured {
        name: format!("{meaning:?}"),
        meaning: Some(*meaning),
        place: CountedPlace::Program,
    };
    scene.profile.measured = EVENTS.iter().take(inside.len()).map(event).collect();
    scene.profile.counters = Counters::measured(inside.len());
    let mut counts = ClassCounts::default();
    add(counts.class_mut(StateClass::Inside), inside);
    add(counts.class_mut(StateClass::Outside), outside);
    scene.profile.threads[0].counts = Some(counts);
    scene.profile.threads[1].counts = Some(ClassCounts::default());
    add(&mut scene.profile.hold_sites[0].tally.counts, inside);
    scene
}

fn told(scene: &Scene) -> Option<Finding> {
    scene.findings().into_iter().find(|finding| ["memory_bound_inside", "stalled_inside"].contains(&finding.id))
}

fn ratio(finding: &Finding, name: &str) -> f64 {
    match figure(finding, name) {
        Figure::Ratio(ratio) => *ratio,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn holds_that_wait_for_memory_are_memory_bound() {
    let scene = loading(600, &[1_000_000, 400_000, 12_400], &[2_000_000, 4_200_000, 5]);
    let found = told(&scene).unwrap();
    assert_eq!(found.id, "memory_bound_inside");
    assert_eq!(
        found.words,
        "Holds run at IPC 0.40 with 31 cache misses per thousand instructions, mostly in load (app.py): memory-bound under the \
         lock; outside it the same threads run at IPC 2.1"
    );
    let figures = ["ipc", "outside_ipc", "cache_misses_per_1000_instructions"].map(|name| ratio(&found, name));
    assert_eq!(figures, [0.4, 2.1, 31.0]);
    assert_eq!(time(&found, "running_ns"), 600_000);
    assert_eq!(figure(&found, "function"), &Figure::Name(Some("load (app.py)".to_owned())));
    assert!(!found.figures.iter().any(|(name, _)| *name == "stalled_share"), "it was not counted");
    // At an IPC of 1 they would take 40 % of that time, so the rest of the 500 ms of queueing is for memory.
    assert!((299..=300).contains(&(found.explains.as_nanos() / 1_000_000)), "{found:?}");
    assert_eq!(ids(&scene.findings()), ["one_function", "memory_bound_inside"], "where, and why");
}

#[test]
fn what_does_not_matter_or_is_not_known_is_not_told() {
    let memory = [1_000_000, 400_000, 12_400];
    assert_eq!(told(&loading(600, &[1_000_000, 2_000_000, 62_000], &[])), None, "it computes beside that");
    assert_eq!(told(&loading(600, &[1_000_000, 400_000, 2_000], &[])), None, "it waits for something else");
    assert_eq!(told(&loading(200, &memory, &[])), None, "it sleeps for most of the time");
    assert_eq!(told(&loading(600, &[0, 0, 0], &[])), None, "nothing was counted");
    let mut lost = loading(600, &memory, &[]);
    lost.profile.threads[1].counts = None;
    assert_eq!(told(&lost), None, "some records were lost");
    let mut late = loading(600, &memory, &[]);
    let mut counts = late.profile.threads[0].counts.unwrap();
    counts.miss(Counters::these(&[at(2)]));
    late.profile.threads[0].counts = Some(counts);
    assert_eq!(told(&late), None, "cache misses were not counted all the time");
    let mut elsewhere = loading(600, &memory, &[]);
    elsewhere.profile.measured[1].place = CountedPlace::Everywhere;
    assert_eq!(told(&elsewhere), None, "instructions were counted in other code than cycles");
}

#[test]
fn stalled_cycles_tell_what_misses_do_not() {
    let backend = told(&loading(600, &[1_000_000, 600_000, 1_200, 700_000, 100_000], &[])).unwrap();
    assert_eq!(backend.id, "stalled_inside");
    assert!(backend.words.contains("for 70 % of the cycles inside the processor stands still for want of data"));
    assert_eq!((ratio(&backend, "stalled_share"), ratio(&backend, "ipc")), (0.7, 0.6));
    assert_eq!(backend.explains.as_nanos() / 1_000_000, 350);
    let frontend = told(&loading(600, &[1_000_000, 600_000, 1_200, 100_000, 550_000], &[])).unwrap();
    assert!(frontend.words.contains("for want of instructions"), "{}", frontend.words);
    assert_eq!(told(&loading(600, &[1_000_000, 600_000, 1_200, 400_000, 400_000], &[])), None);
    // Of a memory-bound hold they say how much.
    let memory = told(&loading(600, &[1_000_000, 400_000, 12_400, 900_000, 0], &[])).unwrap();
    assert_eq!((memory.id, memory.explains.as_nanos() / 1_000_000), ("memory_bound_inside", 450));
}
