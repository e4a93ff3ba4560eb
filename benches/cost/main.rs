//! What gilscope costs the program it watches, beside py-spy: `cargo bench --bench cost`.
//!
//! Every load runs alone and under each tool, in turn, for several rounds, and times itself once its threads are up, so
//! that neither start-up nor the report counts. Nothing is asserted: figures are printed, with their spread.
//!
//! Words after `--` choose sections: `pipe`, `counters`, `computing`, `releasing`, `contended`, `detach`, `latency`, `memory`. Variables: `PYTHON`, the
//! interpreter (`python3`); `PY_SPY`, the other profiler (`py-spy`; left out where there is none); `ROUNDS`, how often
//! everything is measured (3); `WINDOW`, seconds for which a load's work is counted (0.6).

#![expect(clippy::print_stdout, reason = "a benchmark prints what it measures")]

mod bench;
mod counters;
mod detach;
mod figures;
mod latency;
mod loads;
mod memory;
mod pipe;
mod throughput;
mod tool;

use std::env;

use bench::Bench;

type Section = (&'static str, fn(&Bench));

const SECTIONS: [Section; 8] = [
    ("pipe", pipe::report),
    ("counters", counters::report),
    ("computing", |bench| throughput::report(bench, &loads::COMPUTING)),
    ("releasing", |bench| throughput::report(bench, &loads::RELEASING)),
    ("contended", |bench| throughput::report(bench, &loads::CONTENDED)),
    ("detach", detach::report),
    ("latency", latency::report),
    ("memory", memory::report),
];

fn main() {
    // Cargo adds options of its own.
    let chosen: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let bench = Bench::new();
    println!("{}, {} CPUs, {} rounds", bench.versions(), bench.cpus(), bench.rounds);
    for (name, report) in SECTIONS {
        if chosen.is_empty() || chosen.iter().any(|word| word == name) {
            report(&bench);
        }
    }
}
