//! How long the clients of a service of sixteen threads wait for their answers while it is watched.
//!
//! Two services live all the time: one alone, to which gilscope attaches in some windows, and one launched under the
//! in-target probe. Each is asked in windows in turn, while nobody asks the other one; a watched window is compared with the
//! mean of the windows of the unwatched service before and after it, and those with each other.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use crate::{
    bench::Bench,
    detach::{attached, leave},
    figures::Figures,
};

/// For how long answers are collected: some ten thousand.
const WINDOW: Duration = Duration::from_secs(3);

/// Clients that have rested need so long to get out of step again.
const SETTLING: Duration = Duration::from_millis(300);

const ROWS: [&str; 3] = ["alone", "preload, 100 Hz", "uprobe, 100 Hz"];

/// Percentiles of one window in microseconds: p50, p90, p99.
type Times = [f64; 3];

/// A service and its clients.
struct Service {
    program: Child,
    clients: Child,
    ask: ChildStdin,
    told: BufReader<ChildStdout>,
}

pub fn report(bench: &Bench) {
    let mut alone = Service::start(bench, Command::new(&bench.python));
    alone.rest();
    let mut launcher = Command::new(env!("CARGO_BIN_EXE_gilscope"));
    launcher.args(["run", "-q", "-o"]).arg(bench.file("launched.json")).arg("--").arg(&bench.python);
    let mut launched = Service::start(bench, launcher);
    launched.rest();
    let mut ratios: [Vec<Times>; 3] = Default::default();
    for _ in 0..bench.rounds {
        let before = alone.window();
        let rows = [Some(launched.window()), alone.watched_window(bench)];
        let after = alone.window();
        let against = |times: Times| [0, 1, 2].map(|at| times[at] / f64::midpoint(before[at], after[at]));
        ratios[0].push([0, 1, 2].map(|at| after[at] / before[at]));
        rows.into_iter().zip(&mut ratios[1..]).for_each(|(row, ratios)| ratios.extend(row.map(against)));
    }
    alone.stop();
    launched.stop();
    println!(
        "\nTime to an answer of a service of 16 threads against alone, in turn (median of {} rounds)",
        bench.rounds
    );
    println!("                           p50      p90      p99     range of p99");
    for (name, ratios) in ROWS.iter().zip(&ratios) {
        let figures = [0, 1, 2].map(|at| Figures::of(ratios.iter().map(|times| times[at])));
        let [Some(p50), Some(p90), Some(p99)] = figures else {
            println!("  {name:<23} skipped: not permitted here");
            continue;
        };
        let (lowest, highest) = (p99.lowest(), p99.highest());
        let [p50, p90, p99] = [p50, p90, p99].map(|figures| figures.median());
        println!("  {name:<23} x {p50:.3}  x {p90:.3}  x {p99:.3}   {lowest:.3} to {highest:.3}");
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/service").join(name)
}

impl Service {
    fn start(bench: &Bench, mut launcher: Command) -> Self {
        launcher.arg(fixture("service.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = launcher.spawn().expect("python starts");
        let mut port = String::new();
        let mut out = BufReader::new(program.stdout.take().expect("it is a pipe"));
        out.read_line(&mut port).expect("the service tells its port");
        let mut clients = Command::new(&bench.python);
        clients.arg(fixture("client.py")).arg(port.trim()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut clients = clients.spawn().expect("python starts");
        let ask = clients.stdin.take().expect("it is a pipe");
        let told = BufReader::new(clients.stdout.take().expect("it is a pipe"));
        Self { program, clients, ask, told }
    }

    /// What the clients see from now on, for a while.
    fn window(&mut self) -> Times {
        self.signal(libc::SIGCONT);
        sleep(SETTLING);
        self.told();
        sleep(WINDOW);
        let [_, failures, p50, p90, p99] = self.told()[..] else { panic!("the clients tell five numbers") };
        assert!(failures == 0.0, "{failures} requests failed");
        self.rest();
        [p50, p90, p99]
    }

    /// Has the clients ask no more for now.
    fn rest(&self) {
        self.signal(libc::SIGSTOP);
    }

    #[expect(unsafe_code, reason = "kill has no safe wrapper among the dependencies")]
    fn signal(&self, signal: libc::c_int) {
        let pid = i32::try_from(self.clients.id()).expect("the kernel's numbers fit");
        // SAFETY: sends a signal to a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "a child can be stopped");
    }

    fn watched_window(&mut self, bench: &Bench) -> Option<Times> {
        let mut gilscope = attached(bench, self.program.id(), &[])?;
        let times = self.window();
        leave(&mut gilscope);
        Some(times)
    }

    fn told(&mut self) -> Vec<f64> {
        self.ask.write_all(b"\n").expect("the clients listen");
        let mut line = String::new();
        self.told.read_line(&mut line).expect("the clients answer");
        line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    }

    fn stop(mut self) {
        self.signal(libc::SIGCONT);
        drop(self.ask);
        self.clients.wait().expect("a child can be waited for");
        drop(self.program.stdin.take());
        self.program.wait().expect("a child can be waited for");
    }
}
