//! `fixtures/native/keepers.py` under gilscope: every library's hold has its right names and its right length.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::live::{
    interpreters::some_interpreters,
    libraries::{build, listed, run},
    privilege::may_use_uprobes,
    profiled::{Outcome, Stage, Way, sampling_error},
    stolen::lasting_faults,
};

const ATTEMPTS: u32 = 5;
/// Beyond the sampling error: the way into a library and out of it, and ticks that find the kernel at work.
const AROUND: f64 = 0.03;
/// How much of the waiting for a library must be charged to stacks that show all its functions.
const WHOLE: f64 = 0.9;
/// While gilscope reads the interpreter's names, which takes a build without optimization more than a second, ticks are lost.
const WORDS: [&str; 3] = ["--await-line", "--warm-up", "2000"];
/// What no stack with script frames has: the loop gives way to them, and nothing is shown that every thread has.
const NEVER: [&str; 7] = [
    "_PyEval_EvalFrameDefault",
    "__libc_start_main",
    "Py_BytesMain",
    "Py_RunMain",
    "start_thread",
    "clone3",
    "thread_run",
];

/// A library, and what must be seen of it.
struct Keeper {
    library: PathBuf,
    caller: &'static str,
    /// Outermost first.
    functions: Vec<String>,
}

#[test]
fn attached() {
    judge(Way::Attach);
}

#[test]
fn launched() {
    judge(Way::Run);
}

#[test]
fn launched_without_privileges() {
    judge(Way::Plain);
}

fn judge(way: Way) {
    if !may_use_uprobes() {
        return;
    }
    let stage = Stage::new();
    let keepers = keepers(&stage);
    let mut lasting = Vec::new();
    for interpreter in some_interpreters() {
        let scripts = [PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/native/keepers.py"))];
        let libraries = keepers.iter().map(|keeper| keeper.library.clone());
        let files: Vec<PathBuf> = scripts.into_iter().chain(libraries).collect();
        let name = format!("{} {way:?}", interpreter.name);
        lasting.extend(lasting_faults(
            ATTEMPTS,
            || stage.run(way, &interpreter, &files, &WORDS),
            |outcome, stolen| outcome.map_or_else(Vec::new, |outcome| faults_of(&outcome, &keepers, &name, stolen)),
        ));
    }
    assert!(lasting.is_empty(), "{}", lasting.join("\n"));
}

fn faults_of(outcome: &Outcome, keepers: &[Keeper], name: &str, stolen: f64) -> Vec<String> {
    println!("{name}: {:?} joined, at the inner end only, of all", outcome.joined());
    let mut faults: Vec<String> = mystery(outcome).into_iter().map(|line| format!("{name}: {line}")).collect();
    for (keeper, said) in keepers.iter().zip(outcome.said.as_array().unwrap()) {
        let name = format!("{name} {}", keeper.library.file_name().unwrap().display());
        faults.extend(keeper.length_faults(outcome, (said["cpu_ns"].as_f64().unwrap(), stolen), &name));
        faults.extend(keeper.stack_faults(outcome, &name));
    }
    faults
}

/// The libraries for which there are compilers.
fn keepers(stage: &Stage) -> Vec<Keeper> {
    let own = ["-g", "-static-libgcc", "-static-libstdc++"];
    let lambda = "keeper::Work::run()::{lambda(long)#1}::operator()";
    let spin = "keeper::Spinner<std::chrono::_V2::steady_clock, 2>::spin";
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut keepers = Vec::new();
    for (source, options, caller, functions) in [
        ("keeper.c", &own[..1], "call_c", names(&["outer_c", "middle_c", "inner_c"])),
        ("keeper.cpp", &own[..], "call_cpp", names(&["outer_cpp", "keeper::Work::run", lambda, spin])),
        ("keeper.rs", &own[..1], "call_rust", names(&["outer_rust", "keeper::work::middle", "keeper::work::inner"])),
    ] {
        let library = build(source, stage.folder(), options);
        keepers.extend(library.map(|library| Keeper { library, caller, functions }));
    }
    let whole = keepers.iter().find(|keeper| keeper.caller == "call_c").map(|keeper| keeper.library.clone());
    keepers.extend(whole.and_then(|whole| stripped(&whole)));
    keepers
}

/// What was static is called by its address.
fn stripped(whole: &PathBuf) -> Option<Keeper> {
    let library = whole.with_file_name("libstripped.so");
    if !run("strip", [&PathBuf::from("-o"), &library, whole]) {
        return None;
    }
    let functions = listed(whole, &[]);
    let address = |name: &str| functions.iter().find(|function| function.name == name).unwrap().address;
    let addresses = ["middle_c", "inner_c"].map(|name| format!("{:#x}", address(name)));
    let functions = ["outer_c".to_owned()].into_iter().chain(addresses).collect();
    Some(Keeper { library, caller: "call_c", functions })
}

impl Keeper {
    fn is_of(&self, file: &Value) -> bool {
        let name = self.library.file_name().unwrap().to_str().unwrap();
        file.as_str().is_some_and(|file| file.rsplit('/').next() == Some(name))
    }

    /// Where the script calls the library.
    fn is_caller(&self, frame: &Value) -> bool {
        let script = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/native/keepers.py")).unwrap();
        let start = format!("def {}(", self.caller);
        let line = script.lines().position(|line| line.starts_with(&start)).unwrap() + 2;
        let file = frame["file"].as_str().unwrap_or_default();
        frame["function"] == self.caller && file.ends_with("/keepers.py") && frame["line"] == line
    }

    /// The time that the report says the library kept the GIL while it ran, against the CPU time that it took.
    fn length_faults(&self, outcome: &Outcome, (truth, stolen): (f64, f64), name: &str) -> Option<String> {
        let held = outcome.held(|kind| {
            let named =
                kind["kind"] == "c_code" && kind["function"] == *self.functions[0] && self.is_of(&kind["object"]);
            named && self.is_caller(&kind["caller"])
        });
        let allowed = sampling_error(truth, outcome.of_main_thread("held_running")) + AROUND * truth + stolen;
        println!(
            "{name}: {:.1} ms of {:.1} ms, off by {:.1} % of {:.1} % allowed",
            held / 1e6,
            truth / 1e6,
            (held / truth - 1.0) * 100.0,
            allowed / truth * 100.0
        );
        let is_right = (held - truth).abs() < allowed;
        (!is_right).then(|| format!("{name}: {held} ns instead of {truth}"))
    }

    /// Whoever waited for the library waited for its functions in their order, called by the right line.
    fn stack_faults(&self, outcome: &Outcome, name: &str) -> Vec<String> {
        let (mut seen, mut whole, mut faults) = (0.0, 0.0, Vec::new());
        for blame in outcome.profile["blame"].as_array().unwrap() {
            let stack = blame["stack"].as_array().unwrap();
            let Some(first) = stack.iter().position(|frame| frame["kind"] == "native" && self.is_of(&frame["file"]))
            else {
                continue;
            };
            let last_script = stack.iter().rposition(|frame| frame["kind"] == "script");
            if !last_script.is_some_and(|last| last < first && self.is_caller(&stack[last])) {
                faults.push(format!("{name}: not called by {}: {stack:?}", self.caller));
            }
            let of_library = stack.iter().filter(|frame| self.is_of(&frame["file"]));
            let known = of_library.filter_map(|frame| frame["function"].as_str());
            let known: Vec<&str> =
                known.filter(|function| self.functions.iter().any(|known| known == function)).collect();
            if stack[first]["function"] != *self.functions[0] || !self.functions.iter().zip(&known).all(|(a, b)| a == b)
            {
                faults.push(format!("{name}: {known:?} in {stack:?}"));
            }
            let wait = blame["wait_ns"].as_f64().unwrap();
            seen += wait;
            whole += if known.len() == self.functions.len() { wait } else { 0.0 };
        }
        println!("{name}: {:.1} % of the waiting is charged to the whole stack", whole / seen * 100.0);
        if whole.is_nan() || whole < WHOLE * seen || seen == 0.0 {
            faults.push(format!("{name}: {whole} of {seen} ns have all its functions"));
        }
        faults
    }
}

/// Lines of the folded report that have what no stack with script frames should have.
pub fn mystery(outcome: &Outcome) -> Vec<String> {
    let main = format!("(tid {})", outcome.profile["target"]["pid"]);
    let is_mystery = |line: &&str| {
        let frames: Vec<&str> = line.split(';').collect();
        let has_script = frames.iter().any(|frame| frame.contains(".py:"));
        let never = frames.iter().any(|frame| NEVER.iter().any(|never| frame.split(' ').next() == Some(never)));
        (has_script && never) || (line.contains(&main) && line.contains("[not in the interpreter]"))
    };
    outcome.folded.lines().filter(is_mystery).map(str::to_owned).collect()
}
