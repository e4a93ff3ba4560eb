//! The service, its clients, and what can be seen of it from outside.

use std::{
    fmt, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::live::{interpreters::usual, running::Running};

/// A running service with its clients. Dropping it ends both.
pub struct Service {
    program: Child,
    /// The process that serves: the program's, or one that it has started.
    pid: u32,
    _input: ChildStdin,
    _output: BufReader<ChildStdout>,
    clients: Running,
}

/// What the clients have seen.
#[derive(Debug)]
pub struct Answers {
    pub requests: i64,
    pub failures: i64,
    /// Microseconds: half of the answers, nine tenths, all but a hundredth came at least that soon.
    pub percentiles: [i64; 3],
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p90, p99] = self.percentiles;
        write!(f, "{} requests, {} failures, p50 {p50} p90 {p90} p99 {p99} us", self.requests, self.failures)
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/service").join(name)
}

impl Service {
    /// Starts the service, which `launcher` followed by its script runs, and the clients.
    pub fn start(mut launcher: Command) -> Self {
        launcher.arg(fixture("service.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = launcher.spawn().unwrap();
        let input = program.stdin.take().unwrap();
        let mut output = BufReader::new(program.stdout.take().unwrap());
        let mut port = String::new();
        output.read_line(&mut port).unwrap();
        let mut clients = usual().command();
        clients.arg(fixture("client.py")).arg(port.trim());
        let pid = program.id();
        Self { program, pid, _input: input, _output: output, clients: Running::start(clients) }
    }

    /// The process that serves.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The service turns out to be another process than the one started.
    pub fn is_now(&mut self, pid: u32) {
        self.pid = pid;
    }

    /// Kills the program that was started.
    pub fn kill(&mut self) {
        self.program.kill().unwrap();
        self.program.wait().unwrap();
    }

    /// What the clients have seen since this was asked last.
    pub fn since_last(&mut self) -> Answers {
        self.clients.go();
        let numbers = self.clients.numbers();
        let [requests, failures, p50, p90, p99] = numbers[..] else { panic!("{numbers:?}") };
        Answers { requests, failures, percentiles: [p50, p90, p99] }
    }

    /// The service's memory in KiB.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("the service lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _killed = self.program.kill();
        let _ended = self.program.wait();
    }
}

/// The process started by `pid` that is the service.
pub fn served_by(pid: u32) -> u32 {
    let words = |child: &u32| fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
    children_of(pid).into_iter().find(|child| words(child).contains("service.py")).expect("the service runs")
}

fn children_of(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let lists = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().map(|child| child.parse().unwrap()).collect::<Vec<u32>>()).collect()
}

/// The memory that processes have taken.
pub mod residents {
    #![expect(unsafe_code, reason = "the standard library does not tell what an ended process has used")]

    use std::{mem::MaybeUninit, process::Child};

    /// Waits for the end of `child`: whether it succeeded, and the most memory it had, in KiB.
    pub fn most_of(child: Child) -> (bool, u64) {
        let mut status = 0;
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the child has not been waited for, and both places are valid for writes.
        let waited = unsafe { libc::wait4(child.id().cast_signed(), &raw mut status, 0, usage.as_mut_ptr()) };
        assert!(waited > 0, "the child is ours");
        // SAFETY: all zeroes are a valid rusage, and so is the kernel's answer.
        let usage = unsafe { usage.assume_init() };
        (libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, usage.ru_maxrss.cast_unsigned())
    }
}
