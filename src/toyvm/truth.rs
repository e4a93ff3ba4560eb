//! The ground truth file: what really happened, told by the threads themselves and written after the last has ended.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::Serialize;

use crate::toyvm::{
    account::{LockAccount, ThreadAccount, account, in_order},
    clock,
    error::ToyError,
    witness::{Release, Step, Testimony, Witness},
};

/// Collects the testimonies of a run.
#[derive(Debug)]
pub struct Truth {
    path: PathBuf,
    file: File,
    testimonies: Mutex<Vec<Testimony>>,
}

/// Moments and facts of a run that no thread knows by itself.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// The program's path.
    pub program: String,
    /// The process.
    pub pid: u32,
    /// The address of the lock.
    pub lock_address: usize,
    /// The switch interval.
    pub switch_interval_ns: u64,
    /// When the program was ready to start.
    pub ready_ns: u64,
    /// When the first statement began, after whoever waited for the announcement had let it go.
    pub go_ns: u64,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    schema: &'static str,
    #[serde(flatten)]
    run: &'a Run,
    /// With the kernel's granularity of a clock tick (10 ms).
    process_start_ns: Option<u64>,
    start_ns: u64,
    end_ns: u64,
    window_ns: u64,
    threads: Vec<Thread<'a>>,
    locks: [Lock; 1],
    blame: Vec<Blame>,
    events: Vec<Event>,
}

#[derive(Debug, Serialize)]
struct Thread<'a> {
    tid: u32,
    name: &'a str,
    #[serde(flatten)]
    account: ThreadAccount,
}

#[derive(Debug, Serialize)]
struct Lock {
    address: usize,
    #[serde(flatten)]
    account: LockAccount,
}

#[derive(Debug, Serialize)]
struct Blame {
    waiter_tid: u32,
    holder_tid: u32,
    wait_ns: u64,
}

#[derive(Debug, Serialize)]
struct Event {
    at_ns: u64,
    tid: u32,
    step: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    forced: Option<bool>,
}

impl Truth {
    /// Makes the file at once, so that a path that cannot be written is known before the program runs.
    pub fn create(path: PathBuf) -> Result<Self, ToyError> {
        match File::create(&path) {
            Ok(file) => Ok(Self { path, file, testimonies: Mutex::new(Vec::new()) }),
            Err(source) => Err(ToyError::Truth { path, source }),
        }
    }

    /// Ends a thread's notes. The last thing that a thread does.
    pub fn hear(&self, witness: Witness) {
        let testimony = witness.finish();
        self.testimonies.lock().unwrap_or_else(PoisonError::into_inner).push(testimony);
    }

    /// Works out the figures and writes the file.
    pub fn write(self, run: &Run) -> Result<(), ToyError> {
        let mut testimonies = self.testimonies.into_inner().unwrap_or_else(PoisonError::into_inner);
        testimonies.sort_by_key(|testimony| testimony.notes.first().map(|note| note.at));
        let document = Document::new(run, &testimonies);
        write_json(self.file, &document).map_err(|source| ToyError::Truth { path: self.path, source })
    }
}

impl<'a> Document<'a> {
    fn new(run: &'a Run, testimonies: &'a [Testimony]) -> Self {
        let account = account(testimonies);
        let events: Vec<_> = in_order(testimonies)
            .into_iter()
            .map(|(at, thread, position)| {
                let testimony = &testimonies[thread];
                Event::new(at, testimony.tid, testimony.notes[position].step)
            })
            .collect();
        let start_ns = events.first().map_or(run.go_ns, |event| event.at_ns);
        let end_ns = events.last().map_or(run.go_ns, |event| event.at_ns);
        let threads = testimonies.iter().zip(account.threads);
        let blame = account.blame.into_iter();
        Self {
            schema: "gilscope-toyvm-truth/1",
            run,
            process_start_ns: process_start(Path::new("/proc/self/stat")),
            start_ns,
            end_ns,
            window_ns: end_ns - start_ns,
            threads: threads.map(|(t, account)| Thread { tid: t.tid, name: &t.name, account }).collect(),
            locks: [Lock { address: run.lock_address, account: account.lock }],
            blame: blame
                .map(|((waiter, holder), wait_ns)| Blame {
                    waiter_tid: testimonies[waiter].tid,
                    holder_tid: testimonies[holder].tid,
                    wait_ns,
                })
                .collect(),
            events,
        }
    }
}

impl Event {
    fn new(at_ns: u64, tid: u32, step: Step) -> Self {
        let (step, forced) = match step {
            Step::Start => ("start", None),
            Step::Want => ("want", None),
            Step::Acquired => ("acquired", None),
            Step::Released(release) => ("released", Some(release == Release::Forced)),
            Step::Yielded => ("yielded", None),
            Step::Exit => ("exit", None),
        };
        Self { at_ns, tid, step, forced }
    }
}

fn write_json(file: File, document: &Document<'_>) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    serde_json::to_writer(&mut out, document)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// When the process began, on the monotonic clock: the 22nd field of `stat`, of which the second may hold anything
/// between its parentheses.
fn process_start(stat: &Path) -> Option<u64> {
    let text = fs::read_to_string(stat).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    let ticks: u64 = fields.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let since_boot = ticks.checked_mul(1_000_000_000)? / clock::ticks_per_second();
    let suspended = clock::since_boot().saturating_sub(clock::monotonic());
    since_boot.checked_sub(suspended)
}
