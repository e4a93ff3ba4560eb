//! Every kind, in interpreters of every sort.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::live::{
    interpreters::{Interpreter, some_interpreters, usual},
    outcome,
    privilege::may_use_uprobes,
    profiled::{Outcome, Stage, Way, sampling_error},
    stolen::lasting_faults,
};

const ATTEMPTS: u32 = 5;
/// Beyond the sampling error: what surrounds the measured calls, and ticks that find the kernel at work.
const AROUND: f64 = 0.10;

/// By which clock the truth is known, and in which state the main thread is meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clock {
    Cpu,
    Asleep,
    /// What the wall saw and the CPU did not.
    WallOnly,
}

/// What a function of the fixture does, and what the report calls it.
struct Deed {
    function: &'static str,
    kind: &'static str,
    /// The report's `function` or `detail`.
    detail: Option<&'static str>,
    clock: Clock,
    /// Which functions of the program the report may name; all if there are none.
    callers: &'static [&'static str],
    /// What it may be off beyond the sampling error, as a share.
    around: f64,
}

const fn deed(
    (function, kind, detail): (&'static str, &'static str, Option<&'static str>),
    clock: Clock,
    callers: &'static [&'static str],
) -> Deed {
    Deed { function, kind, detail, clock, callers, around: AROUND }
}

const SLEEPS: &[&str] = &["sleeps.<locals>.<genexpr>", "<genexpr>"];

/// Those that can be told from each other by the function of the program, in one run. Sleepers come first: while gilscope
/// reads names of functions not seen before, it looks at nobody.
const TOGETHER: [Deed; 11] = [
    deed(("nanosleep", "blocked", Some("clock_nanosleep")), Clock::Asleep, &["nanosleep"]),
    deed(("read", "blocked", Some("read")), Clock::Asleep, SLEEPS),
    deed(("other_lock", "other_lock", None), Clock::Asleep, SLEEPS),
    deed(("page_from_afar", "page_fault", None), Clock::Asleep, SLEEPS),
    deed(("c_code", "c_code", Some("spin")), Clock::Cpu, &["c_code"]),
    deed(("collect", "garbage_collection", None), Clock::Cpu, &["collect"]),
    deed(("collect_by_itself", "garbage_collection", None), Clock::Cpu, &["collect_by_itself"]),
    deed(("destroy", "destructor", None), Clock::Cpu, &["destroy"]),
    deed(("finalize", "destructor", None), Clock::Cpu, &["Slow.__del__", "__del__"]),
    deed(("import_modules", "import", None), Clock::Cpu, &[]),
    // A tick that comes at the end of a fault finds the program's own code at work again.
    Deed { around: 0.2, ..deed(("page_fault", "page_fault", None), Clock::Cpu, &["page_fault"]) },
];
/// Those that cannot, each in its own.
const ALONE: [Deed; 2] = [
    deed(("bytecode", "bytecode", None), Clock::Cpu, &[]),
    deed(("preempted", "preempted", None), Clock::WallOnly, &[]),
];

#[test]
fn every_kind_is_told_and_timed() {
    if may_use_uprobes() {
        judge(Way::Attach, &some_interpreters());
    }
}

#[test]
fn so_it_is_where_gilscope_launches_the_program() {
    if may_use_uprobes() {
        judge(Way::Run, &[usual()]);
    }
}

fn judge(way: Way, interpreters: &[Interpreter]) {
    let stage = Stage::new();
    let library = stage.folder().join("libkinds.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/kinds/kinds.c");
    let gcc =
        Command::new("gcc").args(["-O2", "-shared", "-fPIC", "-pthread", "-o"]).arg(&library).arg(source).status();
    if !gcc.is_ok_and(|status| status.success()) {
        outcome::skipped("gcc is absent");
        return;
    }
    let files = [PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/kinds/kinds.py")), library];
    let mut lasting = Vec::new();
    for interpreter in interpreters {
        for deeds in [&TOGETHER[..], &ALONE[..1], &ALONE[1..]] {
            let name = format!("{} {way:?}", interpreter.name);
            let warm_up = deeds.iter().all(|deed| deed.kind != "bytecode").then_some("warm_up");
            let words: Vec<&str> = warm_up.into_iter().chain(deeds.iter().map(|deed| deed.function)).collect();
            let run = || stage.run(way, interpreter, &files, &words).unwrap();
            lasting.extend(lasting_faults(ATTEMPTS, run, |outcome, stolen| {
                let faults = deeds.iter().filter_map(|deed| deed.fault(&outcome, &name, stolen));
                faults.chain(sum_fault(&outcome, &name)).collect()
            }));
        }
    }
    assert!(lasting.is_empty(), "{}", lasting.join("\n"));
}

impl Deed {
    fn fault(&self, outcome: &Outcome, name: &str, stolen: f64) -> Option<String> {
        if self.function == "destroy" && !has_names(outcome) {
            println!("{name}: no names of destructors, so that theirs is `bytecode or C code`");
            return None;
        }
        let truth = self.truth(&outcome.said[self.function])?;
        let named = has_names(outcome);
        let held = outcome.held(|kind| self.is_told(kind, named)) - self.before(outcome);
        let state = match self.clock {
            Clock::Cpu => "held_running",
            Clock::Asleep => "held_blocked",
            Clock::WallOnly => "held_preempted",
        };
        let allowed = (self.around * truth).max(sampling_error(truth, outcome.of_main_thread(state))) + stolen;
        println!(
            "{name} {}: {:.1} ms of {:.1} ms, off by {:.1} % of {:.1} % allowed",
            self.function,
            held / 1e6,
            truth / 1e6,
            (held / truth - 1.0) * 100.0,
            allowed / truth * 100.0
        );
        let what = || format!("{name} {}: {} for {held} ns instead of {truth}", self.function, self.kind);
        ((held - truth).abs() > allowed).then(what)
    }

    /// In nanoseconds; `None` where the fixture could not do it.
    fn truth(&self, said: &Value) -> Option<f64> {
        let clock = |name: &str| said[name].as_f64().unwrap();
        match self.clock {
            Clock::Cpu => Some(clock("cpu_ns")),
            Clock::WallOnly => Some(clock("wall_ns") - clock("cpu_ns")),
            Clock::Asleep if clock("asleep_ns") < 0.0 => {
                outcome::skipped(&format!("{}: the kernel does not let us", self.function));
                None
            }
            Clock::Asleep => Some(clock("asleep_ns")),
        }
    }

    /// What the fixture did before that counts as the same kind.
    fn before(&self, outcome: &Outcome) -> f64 {
        if self.clock != Clock::WallOnly {
            return 0.0;
        }
        let clock = |name: &str| outcome.said["warm_up"][name].as_f64().unwrap();
        clock("wall_ns") - clock("cpu_ns")
    }

    /// Without names, bytecode is told together with the C code that it calls, and the end of every number is a destructor.
    fn is_told(&self, kind: &Value, named: bool) -> bool {
        let ends = kind["kind"] == "destructor" && kind["caller"]["function"] == self.function;
        let nameless = self.kind == "bytecode" && !named && (kind["kind"] == "interpreter" || ends);
        let named = kind["kind"] == self.kind || nameless;
        let detailed = self.detail.is_none_or(|detail| kind["detail"] == detail || kind["function"] == detail);
        let caller = kind["caller"]["function"].as_str();
        let from = self.callers.is_empty() || caller.is_some_and(|caller| self.callers.contains(&caller));
        named && detailed && from
    }
}

/// Held time is told to the nanosecond.
fn sum_fault(outcome: &Outcome, name: &str) -> Option<String> {
    let sum = |values: &mut dyn Iterator<Item = u64>| values.sum::<u64>();
    let kinds = outcome.profile["holds_by_kind"].as_array().unwrap();
    let told = sum(&mut kinds.iter().map(|kind| kind["held_ns"].as_u64().unwrap()));
    let threads = outcome.profile["threads"].as_array().unwrap();
    let inside = ["held_running", "held_preempted", "held_blocked"];
    let of_thread = |thread: &Value| inside.map(|state| thread["states_ns"][state].as_u64().unwrap());
    let held = sum(&mut threads.iter().flat_map(of_thread));
    (told != held).then(|| format!("{name}: kinds have {told} ns of {held}"))
}

/// Whether the interpreter's own functions have names.
fn has_names(outcome: &Outcome) -> bool {
    let frames = outcome.folded.lines().flat_map(|line| line.split(';')).filter_map(|frame| frame.split_once(" ("));
    let mut nameless = frames.filter(|(function, _)| function.starts_with("0x"));
    !nameless.any(|(_, object)| object.starts_with("python3") || object.starts_with("libpython3"))
}
