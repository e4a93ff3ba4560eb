//! A profile made by hand: a small web service whose `render` owns the lock most of the time. Its numbers keep all
//! four invariants.

use gilscope::model::{
    ids::{LockId, Pid, Tid},
    profile::{
        Backend, Blame, Counted, HoldSite, HoldTally, LockProfile, LongHold, Profile, Spread, StackTime, TargetSummary,
        ThreadProfile,
    },
    quality::{Overhead, Quality, SchedulerRung},
    stack::{Frame, FrameKind, StackId, StackTable},
    state::{State, StateTimes},
    surroundings::Surroundings,
    time::{MonoNanos, Nanos},
};

/// Nanoseconds of `micros` microseconds plus an odd rest, so that rounding would show.
fn micros(micros: u64) -> Nanos {
    Nanos::from_nanos(micros * 1_000 + micros % 7)
}

pub fn tid(raw: i32) -> Tid {
    Tid::from_raw(raw).unwrap()
}

struct Stacks {
    table: StackTable,
}

impl Stacks {
    /// A stack of `function@file:line` words, outermost first.
    fn of(&mut self, frames: &str) -> StackId {
        let frames: Vec<Frame> = frames.split(' ').map(frame).collect();
        self.table.intern(&frames)
    }
}

fn frame(word: &str) -> Frame {
    let Some((function, place)) = word.split_once('@') else {
        return Frame::marker(&word.replace('_', " "));
    };
    let (file, line) = place.split_once(':').unwrap();
    Frame {
        kind: FrameKind::Script,
        function: function.to_owned(),
        file: format!("/srv/shop/{file}"),
        line: Some(line.parse().unwrap()),
    }
}

fn thread(raw: i32, name: &str, counts: (u64, u64, u64), parts: &[(State, StackId, u64)]) -> ThreadProfile {
    let mut states = StateTimes::default();
    let parts: Vec<StackTime> = parts
        .iter()
        .map(|(state, stack, us)| StackTime { state: *state, lock: None, stack: *stack, time: micros(*us) })
        .collect();
    for part in &parts {
        states.add(part.state, part.time);
    }
    ThreadProfile {
        tid: tid(raw),
        name: name.to_owned(),
        first_seen: MonoNanos::from_monotonic(1_000_000_000),
        lifetime: states.total(),
        holds: counts.0,
        waits: counts.1,
        forced_releases: counts.2,
        states,
        undivided: Default::default(),
        counts: None,
        stacks: parts,
    }
}

const BOOT: &str = "<module>@app.py:88 main@app.py:71";
const WORK: &str = "_bootstrap@threading.py:1012 run@threading.py:1049 work@pool.py:31";
const EXPAND: &str = "_bootstrap@threading.py:1012 run@threading.py:1049 work@pool.py:31 handle@views.py:55 \
                      render@templates.py:140 _expand@templates.py:201";
const DUMPS: &str = "_bootstrap@threading.py:1012 run@threading.py:1049 work@pool.py:31 handle@views.py:61 \
                     to_json@models.py:19 dumps@encoder.py:200";
const PARSE: &str = "<module>@app.py:88 main@app.py:71 serve_forever@server.py:237 parse_request@http.py:98";

/// The profile.
pub fn shop() -> Profile {
    let mut stacks = Stacks { table: StackTable::default() };
    let threads = threads(&mut stacks);
    let blame = blame(&mut stacks);
    let hold_sites = hold_sites(&mut stacks);
    let lock = lock(&threads, &blame, &hold_sites);
    let long_holds = long_holds(&mut stacks);
    Profile {
        target: TargetSummary {
            pid: Pid::from_raw(4242).unwrap(),
            command: "python3 app.py --port 8080".to_owned(),
            runtime: "cpython".to_owned(),
            runtime_version: "3.12.1".to_owned(),
            free_threaded: false,
            surroundings: Surroundings::default(),
        },
        start: MonoNanos::from_monotonic(0),
        window: Nanos::from_nanos(10_000_000_000),
        backend: Backend::Preload,
        exact: true,
        counted: Counted::Everything,
        native: false,
        counters: Default::default(),
        measured: Vec::new(),
        gone: Vec::new(),
        event: None,
        fault_cost: None,
        locks: vec![lock],
        threads,
        blame,
        hold_sites,
        long_hold_threshold: Nanos::from_millis(10),
        long_holds,
        parking: None,
        estimates: None,
        quality: quality(),
        stacks: stacks.table,
    }
}

fn threads(stacks: &mut Stacks) -> Vec<ThreadProfile> {
    use State::{
        HeldBlocked, HeldPreempted, HeldRunning, OutsideBlocked, OutsidePreempted, OutsideRunning, Unknown,
        WaitHandoff, WaitQueued,
    };
    let accept = stacks.of(&format!("{BOOT} serve_forever@server.py:232 select@selectors.py:415"));
    let parse = stacks.of(PARSE);
    let render = stacks.of(EXPAND);
    let render_row =
        stacks.of(&format!("{WORK} handle@views.py:55 render@templates.py:140 <listcomp>@templates.py:177"));
    let dumps = stacks.of(DUMPS);
    let hashing = stacks.of(&format!("{WORK} etag@views.py:80 sha256@digest.py:12"));
    let query = stacks.of(&format!("{WORK} handle@views.py:48 load@models.py:77 execute@db.py:310"));
    let idle = stacks.of(&format!("{WORK} get@queue.py:171 wait@threading.py:355"));
    let flush = stacks.of("_bootstrap@threading.py:1012 run@metrics.py:40 flush@metrics.py:66");
    let log = stacks.of(&format!("{BOOT} serve_forever@server.py:241 log@<größe>&\"x\".py:9"));
    let none = stacks.of("no_stack");
    vec![
        thread(
            4242,
            "python3",
            (9_310, 2_104, 3),
            &[
                (HeldRunning, parse, 512_340),
                (HeldRunning, log, 187_010),
                (HeldPreempted, parse, 41_200),
                (WaitQueued, accept, 2_911_450),
                (WaitQueued, parse, 614_003),
                (WaitHandoff, accept, 120_550),
                (OutsideRunning, accept, 233_120),
                (OutsidePreempted, accept, 19_340),
                (OutsideBlocked, accept, 5_360_000),
            ],
        ),
        thread(
            4243,
            "worker-0",
            (21_502, 18_877, 811),
            &[
                (HeldRunning, render, 2_204_500),
                (HeldRunning, render_row, 1_013_200),
                (HeldRunning, dumps, 633_900),
                (HeldPreempted, render, 180_660),
                (HeldBlocked, dumps, 92_410),
                (WaitQueued, render, 1_904_120),
                (WaitQueued, query, 800_450),
                (WaitHandoff, query, 211_870),
                (OutsideRunning, hashing, 901_330),
                (OutsidePreempted, hashing, 77_120),
                (OutsideBlocked, query, 1_700_210),
                (OutsideBlocked, idle, 280_230),
            ],
        ),
        thread(
            4244,
            "worker-1",
            (20_989, 18_102, 790),
            &[
                (HeldRunning, render, 1_950_780),
                (HeldRunning, render_row, 902_340),
                (HeldRunning, dumps, 801_120),
                (HeldPreempted, dumps, 122_900),
                (WaitQueued, render, 2_310_560),
                (WaitQueued, query, 704_230),
                (WaitHandoff, query, 190_340),
                (OutsideRunning, hashing, 1_100_990),
                (OutsideBlocked, query, 1_402_110),
                (OutsideBlocked, idle, 514_630),
            ],
        ),
        thread(
            4250,
            "",
            (40, 31, 0),
            &[
                (HeldRunning, flush, 20_120),
                (WaitQueued, flush, 150_700),
                (WaitHandoff, flush, 3_010),
                (OutsideBlocked, none, 3_800_000),
                (Unknown, none, 26_170),
            ],
        ),
    ]
}

/// Nearly all queued waiting charged to a holder; the ten microseconds left are of unknown owners.
fn blame(stacks: &mut Stacks) -> Vec<Blame> {
    let render = stacks.of(EXPAND);
    let dumps = stacks.of(DUMPS);
    let parse = stacks.of(PARSE);
    let charge = |waiter, holder, stack, us| Blame {
        lock: LockId::from_index(0),
        waiter: Some(tid(waiter)),
        holder: Some(tid(holder)),
        wait: micros(us),
        stack,
    };
    vec![
        charge(4244, 4243, render, 2_411_700),
        charge(4243, 4244, render, 2_203_330),
        charge(4242, 4243, render, 1_902_450),
        charge(4242, 4244, dumps, 1_423_003),
        charge(4244, 4242, parse, 603_090),
        charge(4243, 4244, dumps, 501_240),
        charge(4242, 4244, render, 199_990),
        charge(4250, 4243, dumps, 150_700),
    ]
}

fn lock(threads: &[ThreadProfile], blame: &[Blame], sites: &[HoldSite]) -> LockProfile {
    let sum =
        |states: &[State]| threads.iter().flat_map(|thread| states.iter().map(|state| thread.states.get(*state))).sum();
    let window = Nanos::from_nanos(10_000_000_000);
    let held: Nanos = sum(&[State::HeldRunning, State::HeldPreempted, State::HeldBlocked]);
    let unknown = micros(26_170);
    let waited: Nanos = sum(&[State::WaitQueued, State::WaitHandoff]);
    let blamed: Nanos = blame.iter().map(|blame| blame.wait).sum();
    let handoff = sum(&[State::WaitHandoff]);
    let contended = micros(7_930_100);
    let mut seen = HoldTally::default();
    sites.iter().for_each(|site| seen.absorb(site.tally));
    LockProfile {
        id: LockId::from_index(0),
        name: "GIL".to_owned(),
        interpreter: Some(0),
        switch_interval: Some(Nanos::from_millis(5)),
        held,
        contended,
        free: window.checked_sub(held + unknown).unwrap(),
        unknown,
        handoff,
        wait_unknown: waited.checked_sub(blamed + handoff).unwrap(),
        wait_total: waited,
        blamed,
        holds: threads.iter().map(|thread| thread.holds).sum(),
        waits: threads.iter().map(|thread| thread.waits).sum(),
        forced_releases: threads.iter().map(|thread| thread.forced_releases).sum(),
        long_holds: 14,
        unseen: HoldTally {
            holds: threads.iter().map(|thread| thread.holds).sum::<u64>() - seen.holds,
            held: held.checked_sub(seen.held).unwrap(),
            longest: micros(4_990),
            contended: contended.checked_sub(seen.contended).unwrap(),
            forced: threads.iter().map(|thread| thread.forced_releases).sum::<u64>() - seen.forced,
            counts: Default::default(),
        },
        hold_spread: Spread { p50: micros(62), p90: micros(340), p99: micros(5_080), max: micros(48_700) },
        counted: None,
        wait_spread: Spread { p50: micros(101), p90: micros(5_060), p99: micros(10_120), max: micros(52_300) },
    }
}

/// What waiters saw; it fits the lock's totals.
fn hold_sites(stacks: &mut Stacks) -> Vec<HoldSite> {
    let mut site = |stack: &str, counts: (u64, u64), held, longest, contended| HoldSite {
        lock: LockId::from_index(0),
        stack: stacks.of(stack),
        tally: HoldTally {
            holds: counts.0,
            held: micros(held),
            longest: micros(longest),
            contended: micros(contended),
            forced: counts.1,
            counts: Default::default(),
        },
    };
    vec![
        site(EXPAND, (2_100, 1_204), 4_900_000, 31_050, 4_700_030),
        site(DUMPS, (805, 385), 1_490_700, 48_700, 1_903_020),
        site(PARSE, (1_083, 3), 549_780, 1_240, 523_100),
    ]
}

fn of_one(state: State, time: Nanos) -> StateTimes {
    let mut states = StateTimes::default();
    states.add(state, time);
    states
}

fn long_holds(stacks: &mut Stacks) -> Vec<LongHold> {
    let render = stacks.of(EXPAND);
    let dumps = stacks.of(DUMPS);
    let hold = |raw, start, duration, waiters, waited, stack| LongHold {
        lock: LockId::from_index(0),
        tid: tid(raw),
        start: micros(start),
        duration: micros(duration),
        states: of_one(State::HeldRunning, micros(duration)),
        waiters,
        waited: micros(waited),
        stack,
    };
    vec![hold(4244, 3_120_440, 48_700, 2, 91_020, dumps), hold(4243, 7_004_100, 31_050, 1, 29_880, render)]
}

fn quality() -> Quality {
    Quality {
        scheduler: SchedulerRung::Records,
        lost_events: 12,
        unmatched_events: 0,
        unknown: micros(26_170),
        stack_samples: 3_988,
        stack_failures: 17,
        overhead: Overhead { budget: Some(30_000), own_cpu: Some(micros(2_150_000)) },
        probe_cost: Some(micros(31_200)),
        invariants_broken: Vec::new(),
        notes: vec!["thread names are known from the moment a thread is seen".to_owned()],
    }
}
