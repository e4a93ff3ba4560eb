//! Who watches a load: nobody, gilscope, or py-spy; how it is started, and what it tells of itself.

use std::{
    ffi::OsStr,
    fs::{self, File},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::bench::Bench;

/// Clock ticks of `/proc`, a second.
const TICKS: f64 = 100.0;
/// How often a running tool is looked at.
const GLANCE: Duration = Duration::from_millis(2);

/// Who watches, with its options.
#[derive(Debug, Clone, Copy)]
pub enum Tool {
    /// Nobody.
    Nobody,
    /// gilscope.
    Gilscope(&'static [&'static str]),
    /// The other one.
    PySpy(&'static [&'static str]),
}

/// How a load is watched, and what that is called.
pub type Setting = (&'static str, Tool);

/// What a watched load came to.
#[derive(Debug)]
pub struct Watched {
    /// The lines that the load wrote, as numbers.
    pub lines: Vec<Vec<f64>>,
    /// What the tool tells; `None` where there is none.
    pub account: Option<Account>,
}

/// A tool's account of its own work.
#[derive(Debug, Clone, Copy)]
pub struct Account {
    /// Stacks that it took: gilscope's include those of waits and holders, py-spy's leave out idle threads.
    pub stacks: u64,
    /// Stacks that it could not take.
    pub errors: u64,
    /// How often it complained that it cannot keep up, or lost events.
    pub late: u64,
    /// Its own CPU time against the time that it ran, report included.
    pub cpu: f64,
}

impl Tool {
    /// Runs the load; `None` if the tool does not start or watch here, or the load tells nothing.
    pub fn watch(&self, bench: &Bench, arguments: &[&OsStr]) -> Option<Watched> {
        let (told, said) = (bench.file("told"), bench.file("said"));
        fs::remove_file(&told).ok();
        let mut command = self.command(bench);
        command.arg(arguments[0]).arg(&told).args(&arguments[1..]);
        let words = File::create(&said).expect("the temporary folder is writable");
        command.stdin(Stdio::null()).stderr(words.try_clone().expect("a file has more than one handle")).stdout(words);
        let start = Instant::now();
        let cpu = ended(&mut command.spawn().ok()?) / start.elapsed().as_secs_f64();
        let text = fs::read_to_string(&told).ok()?;
        let lines = text.lines().map(|line| line.split(' ').map(|word| word.parse().ok()).collect());
        let account = match self {
            Self::Nobody => None,
            Self::Gilscope(_) => Some(gilscope_account(&fs::read_to_string(bench.file("out.json")).ok()?, cpu)?),
            Self::PySpy(_) => Some(py_spy_account(&fs::read_to_string(&said).ok()?, cpu)?),
        };
        Some(Watched { lines: lines.collect::<Option<_>>()?, account })
    }

    /// Up to the interpreter.
    fn command(&self, bench: &Bench) -> Command {
        let mut command = match self {
            Self::Nobody => return Command::new(&bench.python),
            Self::Gilscope(options) => {
                let mut gilscope = Command::new(env!("CARGO_BIN_EXE_gilscope"));
                gilscope.args(["run", "-q", "-o"]).arg(bench.file("out.json")).args(*options);
                if !options.contains(&"--max-overhead") {
                    gilscope.args(["--max-overhead", "none"]);
                }
                gilscope
            }
            Self::PySpy(options) => {
                let mut py_spy = Command::new(&bench.py_spy);
                py_spy.args(["record", "-f", "raw", "-o"]).arg(bench.file("raw")).args(*options);
                py_spy
            }
        };
        command.arg("--").arg(&bench.python);
        command
    }
}

/// Waits for the end; the process's own CPU seconds, without those of its children.
pub fn ended(child: &mut Child) -> f64 {
    let file = format!("/proc/{}/stat", child.id());
    // The numbers of a process are there until it has been waited for.
    let cpu = loop {
        let text = fs::read_to_string(&file).expect("a child that was not waited for has numbers");
        let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        if fields[0] == "Z" {
            break fields[11..13].iter().filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS;
        }
        sleep(GLANCE);
    };
    child.wait().expect("a child can be waited for");
    cpu
}

fn gilscope_account(json: &str, cpu: f64) -> Option<Account> {
    let document: serde_json::Value = serde_json::from_str(json).ok()?;
    let count = |name: &str| document["quality"][name].as_u64();
    let (stacks, errors) = (count("stack_samples")?, count("stack_failures")?);
    Some(Account { stacks, errors, late: count("lost_events")?, cpu })
}

/// `... Samples: 287 Errors: 0`, and a line whenever it is late.
fn py_spy_account(said: &str, cpu: f64) -> Option<Account> {
    let after = |word: &str| said.split(word).nth(1)?.split_whitespace().next()?.parse().ok();
    let late = said.lines().filter(|line| line.contains("behind in sampling")).count();
    Some(Account { stacks: after("Samples:")?, errors: after("Errors:")?, late: late as u64, cpu })
}
