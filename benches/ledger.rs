//! What booking an event costs: `cargo bench --bench ledger`.
//!
//! Synthetic threads pass one lock round, each waiting while all others hold it in turn; what is printed is nanoseconds an
//! event, for growing numbers of threads that wait at the same time.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measures")]

use std::time::Instant;

use gilscope::{
    ledger::{GivingWayLimits, Ledger, LedgerOptions, LockStart},
    model::{
        event::{Event, LockStep, OffCpu, What},
        ids::{LockId, Tid},
        stack::{Frame, StackTable},
        time::{MonoNanos, Nanos},
    },
};

const LOCK: LockId = LockId::from_index(0);
const ROUNDS: usize = 400_000;

fn main() {
    println!("ledger, ns an event (best of 3)");
    for threads in [1, 2, 10, 100, 500] {
        let best = (0..3).map(|_| measure(threads)).fold(f64::INFINITY, f64::min);
        println!("  {threads:>4} threads {best:>10.1}");
    }
}

fn measure(threads: i32) -> f64 {
    let mut ledger = ledger();
    let mut clock = 0;
    let mut at = |step: u64| {
        clock += step;
        MonoNanos::from_monotonic(clock)
    };
    let tids: Vec<Tid> = (1..=threads).filter_map(Tid::from_raw).collect();
    for tid in tids.iter().copied() {
        ledger.apply(&Event { at: at(1), tid, what: What::Created });
    }
    // More rounds would take minutes where a step costs in proportion to the waiters.
    let rounds = ROUNDS / usize::try_from(threads).unwrap_or(1).clamp(1, 20);
    let started = Instant::now();
    let mut events = 0;
    for tid in tids.iter().copied().cycle().take(rounds) {
        let steps = [
            What::SwitchedIn,
            What::Lock(LOCK, LockStep::Acquired),
            What::Lock(LOCK, LockStep::Released),
            What::Lock(LOCK, LockStep::Want),
            What::SwitchedOut(OffCpu::Blocked),
        ];
        for what in steps {
            events += 1;
            ledger.apply(&Event { at: at(700), tid, what });
        }
    }
    let elapsed = started.elapsed();
    assert!(ledger.finish(at(1)).invariants_broken.is_empty(), "the sums hold");
    elapsed.as_secs_f64() * 1e9 / f64::from(events)
}

fn ledger() -> Ledger {
    let mut stacks = StackTable::default();
    let mut ledger = Ledger::new(LedgerOptions {
        start: MonoNanos::from_monotonic(0),
        long_hold: Nanos::from_millis(10),
        giving_way: GivingWayLimits {
            computing: Nanos::from_nanos(100_000),
            step: Nanos::from_nanos(20_000),
            mutex_sleep: Nanos::from_millis(5),
        },
        no_stack: stacks.intern(&[Frame::marker("no stack read")]),
    });
    ledger.declare_lock(LOCK, "GIL", Some(0), LockStart::Free);
    ledger
}
