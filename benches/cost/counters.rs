//! What it costs at each lock event to read counters, against the event without them.

use crate::{
    bench::Bench,
    figures::Figures,
    pipe,
    tool::{Setting, Tool},
};

/// The process's own CPU time, in the load's lines.
const CPU_TIME: usize = 1;

const fn gilscope(options: &'static [&'static str]) -> Tool {
    Tool::Gilscope(options)
}

const ONE: &str = "cpu-clock";
const TWO: &str = "cpu-clock,alignment-faults";
const FOUR: &str = "cpu-clock,alignment-faults,emulation-faults,cpu-clock:u";
const HARDWARE: &str = "hardware";

/// The first row of each group is what the others are compared with.
const GROUPS: [[Setting; 6]; 2] = [
    [
        ("alone", Tool::Nobody),
        ("uprobe-bpf", gilscope(&["-r", "0", "--backend", "uprobe-bpf", "--counters", "none"])),
        ("  1 of the kernel's", gilscope(&["-r", "0", "--backend", "uprobe-bpf", "--counters", ONE])),
        ("  2 of the kernel's", gilscope(&["-r", "0", "--backend", "uprobe-bpf", "--counters", TWO])),
        ("  4 of the kernel's", gilscope(&["-r", "0", "--backend", "uprobe-bpf", "--counters", FOUR])),
        ("  4 of the processor's", gilscope(&["-r", "0", "--backend", "uprobe-bpf", "--counters", HARDWARE])),
    ],
    [
        ("alone", Tool::Nobody),
        ("uprobe-tracefs", gilscope(&["-r", "0", "--backend", "uprobe-tracefs", "--counters", "none"])),
        ("  1 of the kernel's", gilscope(&["-r", "0", "--backend", "uprobe-tracefs", "--counters", ONE])),
        ("  2 of the kernel's", gilscope(&["-r", "0", "--backend", "uprobe-tracefs", "--counters", TWO])),
        ("  4 of the kernel's", gilscope(&["-r", "0", "--backend", "uprobe-tracefs", "--counters", FOUR])),
        ("  4 of the processor's", gilscope(&["-r", "0", "--backend", "uprobe-tracefs", "--counters", HARDWARE])),
    ],
];

pub fn report(bench: &Bench) {
    println!(
        "\nPipe loop, counters read at each lock event: ns of CPU time a cycle, and what an event costs against one without"
    );
    println!("  (where the machine has no counters of the processor's, the last row of a group is one without)");
    for group in &GROUPS {
        let figures = pipe::figures(&pipe::run(bench, group), CPU_TIME);
        let [Some(alone), Some(without), ..] = &figures[..] else {
            println!("    {:<22} skipped: not permitted here", group[1].0);
            continue;
        };
        for ((name, _), figures) in group.iter().zip(&figures).skip(1) {
            show(name, figures.as_ref(), (alone, without));
        }
    }
}

fn show(name: &str, figures: Option<&Figures>, (alone, without): (&Figures, &Figures)) {
    let Some(figures) = figures else { return println!("    {name:<22} skipped: not permitted here") };
    let ratio = |of: fn(&Figures) -> f64| (of(figures) - of(alone)) / (of(without) - of(alone));
    println!(
        "    {name:<22} {:>6.0}   event x {:.2} by the median, x {:.2} by the first quartile",
        figures.median(),
        ratio(Figures::median),
        ratio(Figures::first_quartile)
    );
}
