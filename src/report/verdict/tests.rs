//! One small profile for each finding, and what is said of it.

use super::{Figure, Finding, findings};
use crate::model::{
    counts::{ClassCounts, Counter, Counters},
    ids::{LockId, Pid, Tid},
    profile::{
        Backend, Blame, Counted, HoldSite, HoldTally, LockProfile, Profile, Spread, StackTime, TargetSummary,
        ThreadProfile,
    },
    quality::Quality,
    stack::{Frame, FrameKind, StackId, StackTable},
    state::{State, StateClass, StateTimes},
    surroundings::Surroundings,
    time::{MonoNanos, Nanos},
};

mod memory;

const LOCK: LockId = LockId::from_index(0);

/// A profile under construction. All times are milliseconds, the window is a second.
struct Scene {
    profile: Profile,
}

/// What a thread does.
struct Life<'a> {
    at: &'a [Frame],
    states: &'a [(State, u64)],
    holds: u64,
    waits: u64,
    forced: u64,
}

fn script(function: &str) -> Frame {
    let (function, file) = (function.to_owned(), "/srv/app.py".to_owned());
    Frame { kind: FrameKind::Script, function, file, line: Some(7) }
}

fn millis(millis: u64) -> Nanos {
    Nanos::from_millis(millis)
}

impl Scene {
    fn new() -> Self {
        let (target, window) = (target(), millis(1000));
        let profile = Profile {
            target,
            start: MonoNanos::from_monotonic(0),
            window,
            backend: Backend::Preload,
            exact: true,
            counted: Counted::Everything,
            native: false,
            counters: Default::default(),
            measured: Vec::new(),
            gone: Vec::new(),
            event: None,
            fault_cost: None,
            locks: vec![lock()],
            threads: Vec::new(),
            blame: Vec::new(),
            hold_sites: Vec::new(),
            long_hold_threshold: millis(10),
            long_holds: Vec::new(),
            parking: None,
            estimates: None,
            quality: Quality::default(),
            stacks: StackTable::default(),
        };
        Self { profile }
    }

    /// Adds a thread; they are numbered from 1.
    fn thread(&mut self, life: &Life<'_>) -> Tid {
        let tid = Tid::from_raw(i32::try_from(self.profile.threads.len() + 1).unwrap()).unwrap();
        let stack = self.profile.stacks.intern(life.at);
        let mut states = StateTimes::default();
        life.states.iter().for_each(|(state, time)| states.add(*state, millis(*time)));
        let spread =
            life.states.iter().map(|(state, time)| StackTime { state: *state, lock: None, stack, time: millis(*time) });
        self.profile.threads.push(ThreadProfile {
            tid,
            name: format!("t{tid}"),
            first_seen: MonoNanos::from_monotonic(0),
            lifetime: states.total(),
            holds: life.holds,
            waits: life.waits,
            forced_releases: life.forced,
            states,
            undivided: Default::default(),
            counts: None,
            stacks: spread.collect(),
        });
        self.profile.locks[0].waits += life.waits;
        tid
    }

    fn stack(&mut self, frames: &[Frame]) -> StackId {
        self.profile.stacks.intern(frames)
    }

    fn blame(&mut self, waiter: Tid, holder: Tid, wait: u64, at: &[Frame]) {
        let stack = self.stack(at);
        let (waiter, holder) = (Some(waiter), Some(holder));
        self.profile.blame.push(Blame { lock: LOCK, waiter, holder, wait: millis(wait), stack });
    }

    /// Holds seen at `at`, all of them contended.
    fn seen(&mut self, at: &[Frame], holds: u64, held: u64) {
        let stack = self.stack(at);
        let (held, longest) = (millis(held), millis(held / holds * 2));
        let tally = HoldTally { holds, held, longest, contended: held, forced: holds, counts: Default::default() };
        self.profile.hold_sites.push(HoldSite { lock: LOCK, stack, tally });
    }

    fn findings(&self) -> Vec<Finding> {
        findings(&self.profile)
    }
}

fn target() -> TargetSummary {
    TargetSummary {
        pid: Pid::from_raw(1).unwrap(),
        command: "python3 app.py".to_owned(),
        runtime: "cpython".to_owned(),
        runtime_version: "3.12.1".to_owned(),
        free_threaded: false,
        surroundings: Surroundings::default(),
    }
}

fn lock() -> LockProfile {
    LockProfile {
        id: LOCK,
        name: "GIL".to_owned(),
        interpreter: Some(0),
        switch_interval: Some(Nanos::from_millis(5)),
        held: millis(1000),
        contended: millis(1000),
        free: Nanos::ZERO,
        unknown: Nanos::ZERO,
        handoff: Nanos::ZERO,
        wait_unknown: Nanos::ZERO,
        wait_total: Nanos::ZERO,
        blamed: Nanos::ZERO,
        holds: 0,
        waits: 0,
        forced_releases: 0,
        long_holds: 0,
        unseen: HoldTally::default(),
        hold_spread: Spread::default(),
        counted: None,
        wait_spread: Spread::default(),
    }
}

fn ids(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.id).collect()
}

fn figure<'a>(finding: &'a Finding, name: &str) -> &'a Figure {
    &finding.figures.iter().find(|(other, _)| *other == name).unwrap_or_else(|| panic!("no {name}: {finding:?}")).1
}

fn time(finding: &Finding, name: &str) -> u64 {
    match figure(finding, name) {
        Figure::Time(time) => time.as_nanos() / 1_000,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn hardly_any_waiting_is_no_problem() {
    let mut scene = Scene::new();
    let states = [(State::HeldRunning, 100), (State::WaitQueued, 1), (State::OutsideBlocked, 899)];
    scene.thread(&Life { at: &[script("serve")], states: &states, holds: 50, waits: 5, forced: 0 });
    let found = scene.findings();
    assert_eq!(ids(&found), ["no_contention"]);
    assert_eq!((time(&found[0], "waited_ns"), time(&found[0], "busy_ns")), (1_000, 101_000));
    assert!(found[0].words.contains("0.1 % of the threads' lifetime (1.00 ms)"), "{}", found[0].words);
    assert!(found[0].words.ends_with("90 %, they were asleep without it"), "{}", found[0].words);
}

#[test]
fn threads_that_compute_take_turns() {
    let mut scene = Scene::new();
    let at = [script("crunch")];
    let states = [(State::HeldRunning, 250), (State::WaitQueued, 740), (State::WaitHandoff, 10)];
    let life = Life { at: &at, states: &states, holds: 51, waits: 50, forced: 50 };
    let tids: Vec<Tid> = (0..4).map(|_| scene.thread(&life)).collect();
    // One that sleeps is none of them.
    let idle = [(State::HeldRunning, 1), (State::OutsideBlocked, 999)];
    scene.thread(&Life { at: &at, states: &idle, holds: 3, waits: 0, forced: 0 });
    for waiter in &tids {
        scene.blame(*waiter, tids[(usize::try_from(waiter.raw()).unwrap()) % 4], 740, &at);
    }
    scene.seen(&at, 200, 1000);
    let found = scene.findings();
    assert_eq!(ids(&found), ["cpu_bound_turns"], "the function is the same one");
    assert_eq!(figure(&found[0], "threads"), &Figure::Count(4));
    assert_eq!(figure(&found[0], "waited_share"), &Figure::Share(0.75));
    assert_eq!(time(&found[0], "turn_ns"), 5_000);
    assert!(
        found[0].words.starts_with("4 CPU-bound threads take turns: 75 % of each is waiting"),
        "{}",
        found[0].words
    );
}

fn convoy() -> Scene {
    let mut scene = Scene::new();
    let (hog, io) = ([script("hog")], [script("handle")]);
    let states = [(State::HeldRunning, 900), (State::WaitQueued, 90), (State::WaitHandoff, 10)];
    let culprit = scene.thread(&Life { at: &hog, states: &states, holds: 120, waits: 119, forced: 119 });
    let states = [(State::HeldRunning, 4), (State::WaitQueued, 200), (State::OutsideBlocked, 796)];
    for _ in 0..3 {
        let victim = scene.thread(&Life { at: &io, states: &states, holds: 40, waits: 40, forced: 0 });
        scene.blame(victim, culprit, 190, &hog);
    }
    scene.seen(&hog, 120, 600);
    scene
}

#[test]
fn a_hog_and_its_victims_are_a_convoy() {
    let found = convoy().findings();
    assert_eq!(ids(&found), ["convoy"]);
    let convoy = &found[0];
    assert_eq!((figure(convoy, "victims"), figure(convoy, "hog_tid")), (&Figure::Count(3), &Figure::Count(1)));
    assert_eq!((time(convoy, "mean_wait_ns"), time(convoy, "mean_hold_ns")), (5_000, 100));
    assert_eq!(time(convoy, "inflicted_wait_ns"), 570_000);
    assert!(convoy.words.contains("3 threads wait 5.00 ms at a time for holds of 100 µs, behind t1 (tid 1)"));
}

/// One thread's C code keeps the lock for 40 ms at a time while another one waits.
fn keeper(native: bool) -> Scene {
    let mut scene = Scene::new();
    scene.profile.native = native;
    let at = [script("handler")];
    let deep = [script("handler"), Frame::native("scan_once", "/usr/lib/_json.cpython-312-x86_64-linux-gnu.so")];
    let ticked: &[Frame] = if native { &deep } else { &at };
    let states = [(State::HeldRunning, 800), (State::WaitQueued, 100), (State::OutsideBlocked, 100)];
    let keeper = scene.thread(&Life { at: ticked, states: &states, holds: 20, waits: 20, forced: 2 });
    let states = [(State::HeldRunning, 100), (State::WaitQueued, 800), (State::OutsideBlocked, 100)];
    let other = scene.thread(&Life { at: &[script("other")], states: &states, holds: 20, waits: 20, forced: 18 });
    scene.blame(other, keeper, 800, &at);
    scene.blame(keeper, other, 100, &[script("other")]);
    scene.seen(&at, 20, 800);
    scene
}

#[test]
fn a_function_that_keeps_the_lock_is_named() {
    let found = keeper(false).findings();
    assert_eq!(found[0].id, "one_function");
    assert_eq!((time(&found[0], "mean_contended_hold_ns"), time(&found[0], "longest_hold_ns")), (40_000, 80_000));
    assert_eq!(time(&found[0], "inflicted_wait_ns"), 800_000);
    assert!(found[0].words.starts_with("handler (app.py) keeps the GIL 40.0 ms at a time"), "{}", found[0].words);
    assert!(found[0].words.ends_with("caused 89 % of all waiting (800 ms)"), "{}", found[0].words);
    assert!(found[0].remedy.contains("--native"), "{}", found[0].remedy);
}

#[test]
fn with_machine_code_its_c_function_is_named_too() {
    let found = keeper(true).findings();
    let words = &found[0].words;
    assert!(words.starts_with("scan_once() of _json.so, called in handler (app.py), keeps the GIL 40.0 ms"), "{words}");
    assert_eq!(figure(&found[0], "c_function"), &Figure::Name(Some("scan_once".to_owned())));
    assert!(!found[0].remedy.contains("--native"));
}

/// Each state or machine code that owners should do without, the lock in their hands.
#[test]
fn what_the_lock_is_held_for_is_a_finding() {
    let python = "/usr/bin/python3.12";
    let cases = [
        (
            "held_while_blocked",
            State::HeldBlocked,
            Frame::kernel("read"),
            "hands in read(), mostly in work (app.py): 600 ms",
        ),
        ("held_while_blocked", State::HeldBlocked, Frame::kernel("futex"), "hands in futex(), mostly in work"),
        (
            "held_while_preempted",
            State::HeldPreempted,
            Frame::native("f", "/lib/f.so"),
            "CPUs: 600 ms, 86 % of the time held",
        ),
        (
            "garbage_collection",
            State::HeldRunning,
            Frame::native("gc_collect_main", python),
            "keeps the GIL, mostly in work",
        ),
        ("destructor", State::HeldRunning, Frame::native("dict_dealloc", python), "keeps the GIL, mostly in work"),
        ("import", State::HeldRunning, Frame::native("PyImport_Import", python), "keeps the GIL, mostly in work"),
        ("page_fault", State::HeldRunning, Frame::kernel("page fault"), "memory, mostly in work (app.py)"),
    ];
    for (id, state, innermost, words) in cases {
        let mut scene = Scene::new();
        scene.profile.native = true;
        let states = [(state, 600), (State::OutsideBlocked, 400)];
        let at = [script("work"), innermost];
        let owner = scene.thread(&Life { at: &at, states: &states, holds: 9, waits: 9, forced: 0 });
        let states = [(State::HeldRunning, 100), (State::WaitQueued, 600), (State::OutsideBlocked, 300)];
        let other = scene.thread(&Life { at: &[script("other")], states: &states, holds: 9, waits: 9, forced: 0 });
        scene.blame(other, owner, 600, &at[..1]);
        let found = scene.findings();
        assert_eq!(found[0].id, id, "{found:?}");
        assert!(found[0].words.contains(words), "{}", found[0].words);
        assert_eq!((time(&found[0], "held_ns"), time(&found[0], "inflicted_wait_ns")), (600_000, 600_000), "{id}");
    }
}

#[test]
fn slow_wake_ups_are_hand_off() {
    let mut scene = Scene::new();
    let states = [(State::HeldRunning, 50), (State::WaitHandoff, 250), (State::OutsideBlocked, 700)];
    for _ in 0..2 {
        scene.thread(&Life { at: &[script("ping")], states: &states, holds: 500, waits: 500, forced: 0 });
    }
    let found = scene.findings();
    assert_eq!(ids(&found), ["handoff"]);
    assert_eq!((time(&found[0], "handoff_ns"), time(&found[0], "mean_handoff_ns")), (500_000, 500));
    assert_eq!(figure(&found[0], "handoff_share"), &Figure::Share(1.0));
}

#[test]
fn unknown_time_is_said_first_and_too_much_of_it_alone() {
    let mut scene = convoy();
    let states = [(State::Unknown, 600), (State::OutsideBlocked, 400)];
    let life = Life { at: &[script("lost")], states: &states, holds: 0, waits: 0, forced: 0 };
    scene.thread(&life);
    assert_eq!(ids(&scene.findings()), ["too_much_unknown", "convoy"]);
    scene.profile.quality.lost_events = 1_200;
    assert!(scene.findings()[0].words.ends_with("12 % of the threads' time is unknown, since 1 200 events were lost"));
    for _ in 0..30 {
        scene.thread(&life);
    }
    assert_eq!(ids(&scene.findings()), ["too_much_unknown"]);
    scene.profile.threads.clear();
    assert_eq!(ids(&scene.findings()), ["too_much_unknown"], "nobody was seen");
}

/// 200 ms on a CPU inside and 40,000 page faults of 2 µs: 40 % of that, and of the waiting behind it.
#[test]
fn page_faults_under_the_lock_are_told() {
    let mut scene = Scene::new();
    let mut counts = ClassCounts::default();
    counts.class_mut(StateClass::Inside).add(Counter::MinorFaults, 40_000);
    counts.class_mut(StateClass::Outside).add(Counter::MinorFaults, 5_000_000);
    let states = [(State::HeldRunning, 200), (State::WaitQueued, 100), (State::OutsideBlocked, 700)];
    scene.thread(&Life { at: &[script("load")], states: &states, holds: 50, waits: 5, forced: 0 });
    let told = |scene: &Scene| scene.findings().into_iter().find(|finding| finding.id == "page_faults_inside");
    scene.profile.counters = Counters::these(&[Counter::MinorFaults]);
    scene.profile.threads[0].counts = Some(counts);
    assert_eq!(told(&scene), None, "what a page fault costs is not known");
    scene.profile.fault_cost = Some(Nanos::from_nanos(2_000));
    let found = told(&scene).unwrap();
    let Figure::Share(share) = figure(&found, "taken_share") else { panic!("{found:?}") };
    assert!((share - 0.4).abs() < 1e-9 && time(&found, "taken_ns") == 80_000, "{found:?}");
    assert_eq!(found.explains, millis(40));
    scene.profile.threads[0].counts = None;
    assert_eq!(told(&scene), None, "some were lost");
}
