//! Nanoseconds that a release/acquire cycle takes when nobody else wants the lock.
//!
//! The process's own CPU time is the figure to go by: what probes do counts, and whoever else uses the CPUs does not.

use std::ffi::OsStr;

use crate::{
    bench::Bench,
    figures::Figures,
    loads,
    tool::{Setting, Tool},
};

/// Batches a run; each is a measurement.
const BATCHES: &str = "100";
/// Runs a round: cheap enough to be repeated more often than the rest.
const RUNS: usize = 2;

const SETTINGS: [Setting; 9] = [
    ("alone", Tool::Nobody),
    ("preload, budget 3 %", Tool::Gilscope(&["--backend", "preload", "--max-overhead", "3%"])),
    ("uprobe, budget 3 %", Tool::Gilscope(&["--backend", "uprobe", "--max-overhead", "3%"])),
    ("preload, 100 Hz", Tool::Gilscope(&["--backend", "preload"])),
    ("preload, 100 Hz, -n", Tool::Gilscope(&["--backend", "preload", "-n"])),
    ("uprobe, no stacks", Tool::Gilscope(&["--backend", "uprobe", "-r", "0"])),
    ("uprobe, 100 Hz", Tool::Gilscope(&["--backend", "uprobe"])),
    ("uprobe, 1 kHz", Tool::Gilscope(&["--backend", "uprobe", "-r", "1000"])),
    ("uprobe, 1 kHz, -n", Tool::Gilscope(&["--backend", "uprobe", "-r", "1000", "-n"])),
];

pub fn report(bench: &Bench) {
    let lines = run(bench, &SETTINGS);
    println!("\nPipe loop, one thread: ns a cycle (two columns of differences to alone: by the median, by the best)");
    for (column, title) in ["on the clock", "of its own CPU time"].into_iter().enumerate() {
        println!("  {title:<22}   median     +     quartiles        best     +");
        show(&figures(&lines, column));
    }
}

/// The lines that the load writes in each setting.
pub fn run(bench: &Bench, settings: &[Setting]) -> Vec<Vec<Vec<f64>>> {
    let script = bench.script("pipe.py", loads::PIPE);
    let mut lines = vec![Vec::new(); settings.len()];
    for _ in 0..bench.rounds * RUNS {
        for ((_, tool), lines) in settings.iter().zip(&mut lines) {
            let watched = tool.watch(bench, &[script.as_os_str(), OsStr::new(BATCHES)]);
            lines.extend(watched.into_iter().flat_map(|watched| watched.lines));
        }
    }
    lines
}

/// Of one column of them, in each setting; `None` where nothing ran.
pub fn figures(lines: &[Vec<Vec<f64>>], column: usize) -> Vec<Option<Figures>> {
    lines.iter().map(|lines| Figures::of(lines.iter().filter_map(|line| line.get(column).copied()))).collect()
}

fn show(figures: &[Option<Figures>]) {
    let Some(alone) = &figures[0] else { return println!("  the load does not run") };
    for ((name, _), figures) in SETTINGS.iter().zip(figures) {
        let Some(figures) = figures else {
            println!("    {name:<20} skipped: not permitted here");
            continue;
        };
        let (median, best) = (figures.median(), figures.lowest());
        let (first, third) = (figures.first_quartile(), figures.third_quartile());
        let (more, more_at_best) = (median - alone.median(), best - alone.lowest());
        println!(
            "    {name:<20} {median:>8.0} {more:>+7.0} {first:>8.0} {third:>8.0} {best:>8.0} {more_at_best:>+7.0}"
        );
    }
}
