//! What is counted beside time against the kernel's own counts: a thread that faults, computes and sleeps with the GIL and without
//! it, under every source.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and prints what it measured")]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use serde_json::Value;

#[path = "support/live.rs"]
mod live;

use live::{
    attached::attached_with,
    interpreters::{Interpreter, interpreters, usual},
    libraries::built,
    observed::{STORM, attach, gilscope, gilscope_without_programs, launch},
    outcome,
    privilege::{is_root, may_use_uprobes, may_watch_threads},
    stolen::{lasting_faults, with_stolen},
};

/// In the order in which the program tells them.
const COUNTERS: [&str; 3] = ["minor-faults", "context-switches", "task-clock"];
/// What may come between the program's last look at its own counts and the end of its thread, or before its first.
const LATER: [u64; 3] = [24, 4, 1_500_000];
const ATTEMPTS: u32 = 5;
const CLASSES: [&str; 4] = ["inside", "waiting", "outside", "unknown"];

/// How gilscope meets the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Launch(&'static str),
    /// By the probe, in a pid namespace of its own.
    Apart,
    Tracepoints,
    Attach(&'static str),
}

/// What is needed for runs.
struct Stage {
    folder: tempfile::TempDir,
    files: [PathBuf; 2],
}

#[test]
fn the_probe_counts_what_the_kernel_counts() {
    judge(Way::Launch("preload"), &interpreters());
}

#[test]
fn programs_in_the_kernel_count_the_same() {
    if may_use_uprobes() {
        judge(Way::Launch("uprobe"), &interpreters());
    }
}

#[test]
fn so_do_all_other_ways() {
    judge(Way::Launch("watchpoint"), &[usual()]);
    judge(Way::Attach("watchpoint"), &[usual()]);
    if may_use_uprobes() {
        judge(Way::Attach("uprobe"), &[usual()]);
        judge(Way::Tracepoints, &[usual()]);
    }
    if is_root() {
        judge(Way::Apart, &[usual()]);
    }
}

/// Each of two forked workers touches pages of its own, fewer and more than can be told one by one.
#[test]
fn forked_workers_are_counted_each_by_itself() {
    const FORK: &str = "import mmap, multiprocessing, sys\ndef work(pages):\n    fresh = mmap.mmap(-1, pages * 4096)\n    \
                        for page in range(pages): fresh[page * 4096] = 1\nmultiprocessing.set_start_method('fork')\n\
                        workers = [multiprocessing.Process(target=work, args=(int(pages),)) for pages in sys.argv[1:]]\n\
                        for worker in workers: worker.start()\nfor worker in workers: worker.join()";
    if !may_watch_threads("counters") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("profile.json");
    for (limit, pages) in [("none", ["4000", "70000"]), ("3%", ["4000", "400000"])] {
        let mut program = usual().command();
        program.args(["-c", FORK]).args(pages);
        let mut gilscope = gilscope();
        gilscope
            .args(["run", "-q", "-s", "--backend", "preload", "--max-overhead", limit, "-o"])
            .arg(&report)
            .arg("--");
        assert!(gilscope.arg(program.get_program()).args(program.get_args()).status().unwrap().success());
        let profile: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
        let workers: Vec<&Value> =
            profile["processes"].as_array().unwrap().iter().filter(|process| process["recorded"] == true).collect();
        assert_eq!(workers.len(), 2);
        let faults = |worker: &Value| {
            let counters = &worker["threads"][0]["counters"];
            CLASSES.iter().map(|class| counters[class]["minor-faults"].as_u64()).sum::<Option<u64>>()
        };
        let mut counted: Vec<Option<u64>> = workers.iter().map(|worker| faults(worker)).collect();
        counted.sort_unstable();
        println!("--max-overhead {limit}: {pages:?}: {counted:?}");
        // Beside that each copies pages of its parent.
        let is_all = |counted: u64, pages: &str| {
            let pages: u64 = pages.parse().unwrap();
            (pages..pages + 3_000).contains(&counted)
        };
        if limit == "none" {
            assert!(counted.iter().zip(pages).all(|(counted, pages)| is_all(counted.unwrap(), pages)), "{counted:?}");
        } else {
            // Nobody knows how many the storm had, and nobody says so; the other one may have ended before.
            let [None, other] = counted[..] else { panic!("{counted:?}") };
            assert!(other.is_none_or(|other| is_all(other, pages[0])), "{counted:?}");
            assert!(profile.to_string().contains("page faults came too fast"), "{}", profile["quality"]);
        }
    }
}

/// `perf` counts the same process at the same time.
#[test]
fn perf_counts_the_same() {
    if Command::new("perf").arg("--version").output().is_err() {
        outcome::skipped("comparing with perf: it is absent");
        return;
    }
    if !may_watch_threads("counters") {
        return;
    }
    let (stage, interpreter) = (Stage::new(), usual());
    let [report, told] = ["profile.json", "perf.csv"].map(|name| stage.folder.path().join(name));
    let mut program = interpreter.command();
    program.args(&stage.files).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut program = program.spawn().unwrap();
    sleep(Duration::from_millis(500));
    let ((), stolen) = with_stolen(|| {
        let mut gilscope = attached_with(program.id(), &report, &[]);
        let mut perf = Command::new("perf");
        perf.args(["stat", "-x,", "-e", "minor-faults,context-switches,task-clock,cpu-migrations", "-o"]).arg(&told);
        let mut perf = perf.arg("-p").arg(program.id().to_string()).spawn().unwrap();
        // It says nothing when it has begun.
        sleep(Duration::from_secs(1));
        writeln!(program.stdin.take().unwrap()).unwrap();
        for child in [&mut program, &mut gilscope, &mut perf] {
            assert!(child.wait().unwrap().success());
        }
    });
    let profile: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    for line in fs::read_to_string(&told).unwrap().lines().filter(|line| line.contains(',')) {
        let fields: Vec<&str> = line.split(',').collect();
        let (counted, counter): (f64, &str) = (fields[0].parse().unwrap(), fields[2].trim_end_matches(":u"));
        let threads = profile["threads"].as_array().unwrap();
        let of = |class: &str| {
            threads.iter().map(|thread| thread["counters"][class][counter].as_f64().unwrap()).sum::<f64>()
        };
        let ours: f64 = CLASSES.map(of).iter().sum();
        // `perf` tells this one in milliseconds.
        let (ours, slack) =
            if counter == "task-clock" { (ours / 1e6, stolen.as_secs_f64() * 1e3) } else { (ours, 0.0) };
        println!("{counter}: {ours} (perf: {counted})");
        assert!((ours - counted).abs() <= counted * 0.02 + 3.0 + slack, "{counter}: {ours} {counted}");
    }
}

/// Memory that malloc gives back and takes anew: some 600,000 page faults, of which telling one by one would cost too much.
#[test]
fn storms_of_page_faults_are_told_in_groups() {
    if !may_watch_threads("counters") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("profile.json");
    let mut program = usual().command();
    program.args(["-c", STORM]);
    let mut gilscope = gilscope();
    gilscope.args(["run", "-q", "--max-overhead", "3%", "-o"]).arg(&report).arg("--").arg(program.get_program());
    let output = gilscope.args(program.get_args()).output().unwrap();
    let kernel: f64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    let profile: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    let counters = &profile["threads"][0]["counters"];
    let ours: f64 = CLASSES.map(|class| counters[class]["minor-faults"].as_f64().unwrap()).iter().sum();
    let (share, notes) = (&profile["quality"]["overhead"]["share"], profile["quality"]["notes"].to_string());
    println!("{ours} page faults ({kernel}), at a cost of {share}: {notes}");
    assert!(kernel > 100_000.0 && (ours - kernel).abs() < kernel * 0.01 + 300.0, "{ours} {kernel}");
    assert!(notes.contains("minor page faults came so fast") && share.as_f64().unwrap() < 0.03, "{share}: {notes}");
}

fn judge(way: Way, interpreters: &[Interpreter]) {
    if !may_watch_threads("counters") {
        return;
    }
    let stage = Stage::new();
    for interpreter in interpreters {
        let name = format!("{} {way:?}", interpreter.name);
        let faults = lasting_faults(
            ATTEMPTS,
            || stage.run(way, interpreter),
            |(profile, said), stolen| compare(&name, &profile, &said, stolen).into_iter().collect(),
        );
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}

/// What the thread did beside its work is in either class; it knows how much that was, and that is little. Says what is wrong with
/// its time on a CPU, which can be the hypervisor's fault and may be by as much as it has `stolen`; nothing else may be wrong.
fn compare(what: &str, profile: &Value, said: &Value, stolen: f64) -> Option<String> {
    assert_eq!(profile["quality"]["lost_events"], 0, "{what}");
    let threads = profile["threads"].as_array().unwrap();
    let thread =
        threads.iter().find(|thread| thread["tid"] == said["tid"] || thread["inner_tid"] == said["tid"]).unwrap();
    let mut misfit = None;
    for (index, counter) in COUNTERS.iter().enumerate() {
        let of = |class: &str| thread["counters"][class][counter].as_u64().unwrap();
        let kernel = |part: &str| said[part][index].as_u64().unwrap();
        let [inside, outside, life] = ["inside", "outside", "life"].map(kernel);
        let total: u64 = CLASSES.iter().map(|class| of(class)).sum();
        let stolen = if *counter == "task-clock" { stolen as u64 } else { 0 };
        let most = life - inside - outside + LATER[index] + stolen;
        // A moment of the calls themselves lies on the other side of the step with the lock.
        let slack = |expected: u64| if *counter == "task-clock" { expected / 100 } else { 0 };
        let fits = |ours: u64, expected: u64, most: u64| (expected - slack(expected)..=expected + most).contains(&ours);
        let words = format!(
            "{what}: {counter}: inside {} ({inside}), outside {} ({outside}), all {total} ({life})",
            of("inside"),
            of("outside")
        );
        println!("{words}");
        let all_fit = fits(of("inside"), inside, most)
            && fits(of("outside"), outside, most)
            && fits(total, life, LATER[index] + stolen);
        assert!(all_fit || *counter == "task-clock", "{words}");
        misfit = misfit.or((!all_fit).then_some(words));
    }
    misfit
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/counters");
        let library = built("counters/counters.c", folder.path(), "libcounters.so");
        Self { folder, files: [fixtures.join("counters.py"), library] }
    }

    fn run(&self, way: Way, interpreter: &Interpreter) -> (Value, Value) {
        let report = self.folder.path().join("profile.json");
        let mut program = interpreter.command();
        program.args(self.files.iter().map(|file| interpreter.give(self.folder.path(), file)));
        let said = match way {
            Way::Launch(backend) => launch(gilscope(), (backend, &[]), &program, &report),
            Way::Tracepoints => launch(gilscope_without_programs(), ("uprobe", &[]), &program, &report),
            Way::Apart => {
                let mut apart = Command::new("unshare");
                apart.args(["-pf", "--mount-proc"]).arg(program.get_program()).args(program.get_args());
                launch(gilscope(), ("preload", &[]), &apart, &report)
            }
            Way::Attach(backend) => attach(&mut program, (backend, &[]), &report),
        };
        let profile = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
        (profile, serde_json::from_str(said.trim()).unwrap())
    }
}
