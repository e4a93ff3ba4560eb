//! Nanoseconds that a lock event costs the thread that makes it, with and without counters read at it.

use gilscope::{
    model::time::Nanos,
    perf::events::CountedEvent,
    source::{
        uprobe::{self, sweep::Sweeper},
        watchpoint,
    },
};

use crate::{bench::Bench, figures::Figures};

/// Some that every kernel counts by itself.
const EVENTS: [&str; 4] = ["sched:sched_switch", "cpu-clock", "alignment-faults", "emulation-faults"];
/// How many of them are read.
const NUMBERS: [usize; 4] = [0, 1, 2, 4];
/// Measurements a round: each is short.
const RUNS: usize = 5;

type Events = &'static [CountedEvent];

pub fn report(bench: &Bench) {
    let sweeper = Sweeper { program: env!("CARGO_BIN_EXE_gilscope").into(), arguments: vec!["__sweep".into()] };
    println!("\nA lock event with counters read at it: ns by the median and by the best (beside those without)");
    compare("uprobe in tracefs", bench, |events| uprobe::cost::measure_cost(&sweeper, events).ok());
    compare("watchpoint", bench, |events| watchpoint::cost::measure_cost(events).ok());
}

fn compare(name: &str, bench: &Bench, cost: impl Fn(Events) -> Option<Nanos>) {
    let events = |number: usize| -> Events {
        Vec::leak(EVENTS[..number].iter().map(|name| CountedEvent::named(name).expect("the kernel has it")).collect())
    };
    let chosen = NUMBERS.map(events);
    let mut costs = NUMBERS.map(|_| Vec::new());
    for _ in 0..bench.rounds * RUNS {
        for (costs, events) in costs.iter_mut().zip(chosen) {
            costs.extend(cost(events).map(|cost| cost.as_nanos() as f64));
        }
    }
    let figures = costs.map(Figures::of);
    let Some(without) = &figures[0] else { return println!("  {name}: skipped: not permitted here") };
    for (number, figures) in NUMBERS.iter().zip(&figures) {
        let Some(figures) = figures else { continue };
        let more = |of: fn(&Figures) -> f64| (of(figures) / of(without) - 1.0) * 100.0;
        println!(
            "  {name:<18} {number} counters {:>6.0} {:>+5.1} %   {:>6.0} {:>+5.1} %",
            figures.median(),
            more(Figures::median),
            figures.lowest(),
            more(Figures::lowest)
        );
    }
}
