//! How much less work busy threads get done while they are watched, and what that costs the one who watches.
//!
//! Throughput is work by the clock; it counts what a tool takes from the program by stopping it or by using its CPUs. CPU
//! time a unit counts only what the program itself is made to do. Each run is compared with the mean of the nearest runs
//! alone before and after it; the row `alone` compares those with each other, and so shows what chance does here.

use std::ffi::{OsStr, OsString};

use crate::{
    bench::Bench,
    figures::Figures,
    loads::Load,
    tool::{Account, Setting, Tool},
};

/// Seconds after which all tools are at work.
const BEFORE: &str = "0.3";

/// Between two runs alone.
const GROUPS: [[Setting; 4]; 3] = [
    [
        ("preload, 100 Hz", Tool::Gilscope(&["--backend", "preload"])),
        ("preload, 100 Hz, -n", Tool::Gilscope(&["--backend", "preload", "-n"])),
        ("preload, 1 kHz", Tool::Gilscope(&["--backend", "preload", "-r", "1000"])),
        ("preload, 1 kHz, -n", Tool::Gilscope(&["--backend", "preload", "-r", "1000", "-n"])),
    ],
    [
        ("uprobe, 100 Hz", Tool::Gilscope(&["--backend", "uprobe"])),
        ("uprobe, 100 Hz, -n", Tool::Gilscope(&["--backend", "uprobe", "-n"])),
        ("uprobe, 1 kHz", Tool::Gilscope(&["--backend", "uprobe", "-r", "1000"])),
        ("uprobe, 1 kHz, -n", Tool::Gilscope(&["--backend", "uprobe", "-r", "1000", "-n"])),
    ],
    [
        ("py-spy, 100 Hz", Tool::PySpy(&["-r", "100"])),
        ("py-spy, 100 Hz, nonbl.", Tool::PySpy(&["-r", "100", "--nonblocking"])),
        ("py-spy, 1 kHz", Tool::PySpy(&["-r", "1000"])),
        ("py-spy, 1 kHz, nonbl.", Tool::PySpy(&["-r", "1000", "--nonblocking"])),
    ],
];

/// What the work of one run came to.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Units a second.
    speed: f64,
    /// CPU seconds a unit.
    cpu: f64,
}

/// A watched run against those alone, and the tool's account.
#[derive(Debug, Clone, Copy)]
struct Compared {
    ratio: Pace,
    account: Option<Account>,
}

/// Of one setting, what each round came to.
type Row = Vec<Compared>;

pub fn report(bench: &Bench, load: &Load) {
    let script = bench.script("load.py", &load.script());
    let mut alone = (Row::new(), Vec::new());
    let mut watched: Vec<Row> = vec![Row::new(); GROUPS.as_flattened().len()];
    for _ in 0..bench.rounds {
        round(&Runs { bench, load, script: script.as_os_str() }, &mut alone, &mut watched);
    }
    println!("\n{}: against alone, in turn (median, lowest and highest of {} rounds)", load.title, bench.rounds);
    println!("                           work done    range         CPU a unit   stacks  errors  late  own CPU");
    let speed = Figures::of(alone.1).map_or(0.0, |speeds| speeds.median());
    show("alone", &alone.0, &format!("    {speed:.0} units a second"));
    for ((name, tool), row) in GROUPS.as_flattened().iter().zip(&watched) {
        match tool {
            Tool::PySpy(_) if !bench.has_py_spy => println!("  {name:<23} skipped: {} does not run", bench.py_spy),
            _ => show(name, row, &middle(row)),
        }
    }
}

/// How one load is run again and again.
struct Runs<'a> {
    bench: &'a Bench,
    load: &'a Load,
    script: &'a OsStr,
}

impl Runs<'_> {
    fn run(&self, tool: &Tool) -> Option<(Pace, Option<Account>)> {
        let window = OsString::from(self.bench.window.to_string());
        let arguments = [self.script, OsStr::new(self.load.threads), OsStr::new(BEFORE), &window];
        let watched = tool.watch(self.bench, &arguments)?;
        let [speed, cpu] = watched.lines.first()?[..] else { return None };
        Some((Pace { speed, cpu }, watched.account))
    }

    fn alone(&self) -> Pace {
        self.run(&Tool::Nobody).expect("the load runs").0
    }
}

/// Every setting once, with runs alone before, between and after the groups.
fn round(runs: &Runs<'_>, (alone, speeds): &mut (Row, Vec<f64>), watched: &mut [Row]) {
    let mut before = runs.alone();
    for (group, rows) in GROUPS.iter().zip(watched.chunks_mut(GROUPS[0].len())) {
        if matches!(group[0].1, Tool::PySpy(_)) && !runs.bench.has_py_spy {
            continue;
        }
        let group = group.each_ref().map(|(_, tool)| runs.run(tool));
        let after = runs.alone();
        let mean = Pace { speed: f64::midpoint(before.speed, after.speed), cpu: f64::midpoint(before.cpu, after.cpu) };
        for (run, row) in group.into_iter().zip(rows) {
            row.extend(run.map(|(pace, account)| Compared { ratio: pace.against(mean), account }));
        }
        alone.push(Compared { ratio: after.against(before), account: None });
        speeds.push(after.speed);
        before = after;
    }
}

impl Pace {
    fn against(self, other: Self) -> Self {
        Self { speed: self.speed / other.speed, cpu: self.cpu / other.cpu }
    }
}

fn show(name: &str, row: &[Compared], rest: &str) {
    let speed = Figures::of(row.iter().map(|run| run.ratio.speed));
    let cpu = Figures::of(row.iter().map(|run| run.ratio.cpu));
    let (Some(speed), Some(cpu)) = (speed, cpu) else {
        return println!("  {name:<23} skipped: not permitted here");
    };
    let (median, lowest, highest) = (speed.median(), speed.lowest(), speed.highest());
    println!("  {name:<23} x {median:.4}  {lowest:.3} to {highest:.3}   x {:.4}{rest}", cpu.median());
}

/// The account of the run in the middle by stacks.
fn middle(row: &[Compared]) -> String {
    let mut accounts: Vec<Account> = row.iter().filter_map(|run| run.account).collect();
    accounts.sort_by_key(|account| account.stacks);
    let Some(Account { stacks, errors, late, cpu }) = accounts.get(accounts.len() / 2).copied() else {
        return String::new();
    };
    format!("   {stacks:>7} {errors:>7} {late:>5}  {:>5.1} %", 100.0 * cpu)
}
