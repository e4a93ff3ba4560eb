//! The command line as it was typed. No file is touched and nothing is resolved here; `plan` does that.

use std::{ffi::OsString, os::fd::RawFd, path::PathBuf, time::Duration};

use clap::{
    Parser, Subcommand,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};

use crate::{
    cli::{
        budget, counters, duration,
        plan::{BackendChoice, Budget},
    },
    model::ids::Pid,
    report::{Format, view::View},
    session::chosen::Chosen,
};

const EXAMPLES: &str = "\
EXAMPLES:
  gilscope run app.py                       profile a script, write gilscope.svg
  gilscope run -o waits.svg --view wait app.py --port 8080
  gilscope run -d 30 -m http.server 8000    profile a module for 30 seconds
  gilscope run -- gunicorn shop:app         profile any command that runs Python
  gilscope attach -d 10 4242                profile a running process
  gilscope attach --json gil.json 4242      and keep the numbers for scripts
  gilscope doctor 4242                      which ways of looking at it work, and what opens the others

EXIT CODES:
  0 report written, 1 failed, 2 wrong usage, 3 not permitted;
  `run` ends with the program's own exit code when that is not 0";

const RUN_USAGE: &str = "gilscope run [OPTIONS] SCRIPT [ARGS]...
       gilscope run [OPTIONS] -m MODULE [ARGS]...
       gilscope run [OPTIONS] -- COMMAND [ARGS]...";

/// The kernel takes periods below 2^63.
const PERIODS: u64 = i64::MAX.cast_unsigned();

const RUN_EXAMPLES: &str = "\
EXAMPLES:
  gilscope run app.py --verbose             options after the script are the script's own
  gilscope run -d 5 -o out.json app.py      record 5 seconds; the extension is the format
  gilscope run -e page-faults -c 100 app.py who touches new memory, with the lock and without it?
  gilscope run --python ./venv/bin/python3 -m pytest -x
  gilscope run -- celery -A shop worker     a command is run as it stands
  gilscope run spin.toy                     runs in the bundled toy VM

The program keeps its standard input and output, its signals and its exit code.
gilscope speaks on standard error.";

const DOCTOR_EXAMPLES: &str = "\
EXAMPLES:
  gilscope doctor                           what works here, tried on a program of gilscope's own
  gilscope doctor 4242                      what works on this process, and who it is
  gilscope doctor --json 4242               the same for programs

Everything is tried and ended again; the process goes on untouched.
Ends with 0 if a way works (for PID: one that attaches), 3 if none is permitted,
and 1 if the process has no lock to look at.";

const ATTACH_EXAMPLES: &str = "\
EXAMPLES:
  gilscope attach 4242                      record until Ctrl-C, then write gilscope.svg
  gilscope attach -d 10 -o - -f text 4242   ten seconds, tables on standard output
  gilscope attach -r 0 -o gil.json 4242     exact times without any stacks

The process is never stopped.";

/// What does the global interpreter lock cost a program, and whose code makes it cost that?
#[derive(Debug, Parser)]
#[command(name = "gilscope", bin_name = "gilscope", version, after_help = EXAMPLES, max_term_width = 100)]
#[command(disable_help_subcommand = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a program and profile it to its end
    #[command(override_usage = RUN_USAGE, after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Profile a program that is already running
    #[command(after_help = ATTACH_EXAMPLES)]
    Attach(AttachArgs),
    /// Say what works here, what does not and why, and what would make it work
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
    /// Run a program in the bundled toy VM, without profiling it
    #[command(name = "toyvm")]
    ToyVm(ToyVmArgs),
    /// Remove what an interrupted recording left in the kernel.
    #[command(name = "__sweep", hide = true)]
    Sweep {
        /// The group of probes to remove.
        group: String,
    },
    /// Write the last reports of a recorder that was killed.
    #[command(name = "__heir", hide = true)]
    Heir {
        /// Numbers of the files that hold them.
        #[arg(num_args = 2, value_parser = clap::value_parser!(RawFd).range(3..))]
        files: Vec<RawFd>,
        /// Numbers of the memory that probes write to.
        #[arg(long, num_args = 1.., value_parser = clap::value_parser!(RawFd).range(3..))]
        shared: Vec<RawFd>,
        /// Where they go; `-`: standard output.
        #[arg(last = true)]
        destinations: Vec<PathBuf>,
    },
}

/// `gilscope run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// What to record and where to put it.
    #[command(flatten)]
    pub record: RecordArgs,
    /// The interpreter for SCRIPT or MODULE: a path, or a name to look up in PATH
    #[arg(long, value_name = "PYTHON", default_value = "python3")]
    pub python: OsString,
    /// Run a module, as `python3 -m` does; everything after it belongs to the module
    #[arg(short, long, value_name = "MODULE", num_args = 1.., allow_hyphen_values = true)]
    pub module: Vec<OsString>,
    /// The script (`-` for standard input) and its arguments; after `--`, a command and its arguments
    #[arg(value_name = "SCRIPT", trailing_var_arg = true, required_unless_present = "module")]
    pub words: Vec<OsString>,
    /// Whether `--` stood before `words`; the parser swallows it.
    #[arg(skip)]
    pub separator: Separator,
}

/// What stood before the words of `run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Separator {
    /// Nothing: the first word is a script.
    #[default]
    Absent,
    /// `--`: the first word is a command.
    Present,
}

/// `gilscope attach`.
#[derive(Debug, clap::Args)]
pub struct AttachArgs {
    /// What to record and where to put it.
    #[command(flatten)]
    pub record: RecordArgs,
    /// The process to profile
    #[arg(value_name = "PID", value_parser = pid)]
    pub pid: Pid,
}

/// `gilscope doctor`.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The process that is to be looked at; without it, a program of gilscope's own
    #[arg(value_name = "PID", value_parser = pid)]
    pub pid: Option<Pid>,
}

/// What `run` and `attach` have in common.
#[derive(Debug, clap::Args)]
pub struct RecordArgs {
    /// Write the report to FILE (`-` for standard output); its extension chooses the format [default: gilscope.svg]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Force the format of the report [default: by the extension of FILE]
    #[arg(short, long, value_parser = format_words())]
    pub format: Option<Format>,
    /// Stop recording after this time: 5 (seconds), 1.5, 500ms, 2m, 1h [default: at the program's end, or at Ctrl-C]
    #[arg(short, long, value_name = "TIME", value_parser = duration::parse)]
    pub duration: Option<Duration>,
    /// Read the threads' stacks this many times a second (0 to 10000); 0 reads none
    #[arg(short, long, value_name = "HZ", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub rate: u32,
    /// List single holds of the lock that last this long or longer
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = duration::parse)]
    pub long_hold: Duration,
    /// Show machine code in the stacks, too: which C, C++ or Rust function of which library, below the Python lines
    #[arg(short, long)]
    pub native: bool,
    /// Probes may take this part of the time from the program, 0.1% to 100%; where all events would cost more, they are taken in
    /// windows at random moments and totals are estimated; `none`: take all events, whatever it costs
    #[arg(long, value_name = "PERCENT", default_value = "3%", value_parser = budget::parse)]
    pub max_overhead: Budget,
    /// What to count of each thread inside, waiting and outside the lock: all, none, or some of task-clock, minor-faults,
    /// major-faults, page-faults (both kinds), context-switches (cs), cpu-migrations, separated by commas; beside them up to
    /// eight events as perf names them (cycles, instructions:u, syscalls:sys_enter_futex …), or hardware for four of them
    #[arg(long, value_name = "LIST", default_value = "all", value_parser = counters::parse)]
    pub counters: Chosen,
    /// Sample an event of the threads, with the state and the stack of each sample: task-clock, page-faults, minor-faults,
    /// major-faults, context-switches, cpu-migrations, cycles, instructions, cache-misses or any other that perf names; the
    /// report then shows where it comes inside, waiting and outside the lock
    #[arg(short, long, value_name = "EVENT")]
    pub event: Option<String>,
    /// Take a sample whenever the event has happened to a thread N times (of a clock: every N nanoseconds)
    #[arg(short, long, value_name = "N", requires = "event", value_parser = clap::value_parser!(u64).range(1..=PERIODS))]
    pub count: Option<u64>,
    /// Take so many samples of the event a second of a thread's running [default: 999]
    #[arg(short = 'F', long, value_name = "HZ", requires = "event", conflicts_with = "count")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub freq: Option<u32>,
    /// Record the processes that the program starts as well, each by itself
    #[arg(short, long)]
    pub subprocesses: bool,
    /// Where lock events come from
    #[arg(long, default_value = "auto", value_parser = backend_words())]
    pub backend: BackendChoice,
    /// What a flame graph or a folded file shows [default: all; with --event: event]
    #[arg(long, value_parser = view_words())]
    pub view: Option<View>,
    /// Write the whole profile as JSON to FILE besides
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Print nothing but errors
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print what is being done and why
    #[arg(short, long)]
    pub verbose: bool,
}

/// `gilscope toyvm`.
#[derive(Debug, clap::Args)]
pub struct ToyVmArgs {
    /// The program
    #[arg(value_name = "PROGRAM.toy")]
    pub program: PathBuf,
    /// Write what every thread really did to FILE
    #[arg(long, value_name = "FILE")]
    pub truth: Option<PathBuf>,
    /// How long a waiter waits before it asks the lock's owner to give way
    #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = duration::parse)]
    pub switch_interval: Duration,
    /// Say on standard output when the program is about to start, and wait for a line on standard input
    #[arg(long)]
    pub announce: bool,
}

impl Args {
    /// Reads `words`, the program's own name first.
    pub fn from_words(words: &[OsString]) -> Result<Self, clap::Error> {
        let mut args = Self::try_parse_from(words)?;
        if let Command::Run(run) = &mut args.command {
            run.separator = separator_before(run.words.len(), words);
        }
        Ok(args)
    }
}

/// Whether `--` stands before the last `trailing` words.
fn separator_before(trailing: usize, words: &[OsString]) -> Separator {
    let before = words.len().checked_sub(trailing + 1).and_then(|at| words.get(at));
    match before {
        Some(word) if trailing > 0 && word == "--" => Separator::Present,
        _ => Separator::Absent,
    }
}

fn pid(word: &str) -> Result<Pid, String> {
    word.parse().ok().and_then(Pid::from_raw).ok_or_else(|| "a process id is a whole number above 0".to_owned())
}

fn format_words() -> impl TypedValueParser<Value = Format> {
    let words = Format::ALL.map(|format| PossibleValue::new(format.name()).aliases(format.extensions()));
    PossibleValuesParser::new(words).map(|word| {
        let mut known = Format::ALL.into_iter();
        known.find(|format| format.name() == word || format.extensions().contains(&word.as_str())).expect(CHECKED)
    })
}

fn view_words() -> impl TypedValueParser<Value = View> {
    let words = View::ALL.map(|view| PossibleValue::new(view.name()).help(view.words()));
    PossibleValuesParser::new(words).map(|word| View::ALL.into_iter().find(|view| view.name() == word).expect(CHECKED))
}

fn backend_words() -> impl TypedValueParser<Value = BackendChoice> {
    let words = BackendChoice::ALL.map(|choice| PossibleValue::new(choice.name()).help(choice.words()));
    PossibleValuesParser::new(words)
        .map(|word| BackendChoice::ALL.into_iter().find(|choice| choice.name() == word).expect(CHECKED))
}

const CHECKED: &str = "the parser lets only listed words pass";
