//! What a recording would have besides lock events: scheduling, stacks, machine code, counters, clocks; each tried.

use std::{cell::RefCell, io, rc::Rc};

use perf_event::{Builder, events::Hardware};

use crate::{
    model::{
        diagnosis::{CounterFinding, Evidence},
        ids::Pid,
        time::Nanos,
    },
    perf::open::{CodeSampled, Subject, watch_self},
    session::{doctor::place::Place, running::causes},
    source::{bpf::LoadedPrograms, calls::Translator, preload::ProbeClock, scheduling::Evidence as Scheduling},
    target::memory::ProcessMemory,
};

/// As often as stacks are usually sampled.
const PERIOD: Nanos = Nanos::from_millis(10);

const COUNTERS: [(&str, Hardware); 5] = [
    ("cycles", Hardware::CPU_CYCLES),
    ("instructions", Hardware::INSTRUCTIONS),
    ("cache-references", Hardware::CACHE_REFERENCES),
    ("cache-misses", Hardware::CACHE_MISSES),
    ("branch-misses", Hardware::BRANCH_MISSES),
];

/// Everything but counters, for recordings of `pid`.
pub(super) fn gather(pid: Pid) -> Vec<Evidence> {
    vec![scheduler(pid), stacks(pid), native(), clock()]
}

fn scheduler(pid: Pid) -> Evidence {
    let locks = Rc::new(RefCell::new(Translator::new(None)));
    let found = Scheduling::open(pid, &locks);
    let words = found.note().unwrap_or_else(|| "every context switch, from perf_event_open".to_owned());
    Evidence { key: "scheduler", name: "scheduling", source: found.rung().name(), words }
}

fn stacks(pid: Pid) -> Evidence {
    let (source, words) = match LoadedPrograms::load() {
        Ok(_) => ("kernel", "read by programs in the kernel, at the very moment".to_owned()),
        Err(why) => match ProcessMemory::open(pid) {
            Ok(_) => ("outside", format!("read from outside, some of them torn and discarded: {}", causes(&why))),
            Err(why) => ("none", causes(&why)),
        },
    };
    Evidence { key: "stacks", name: "stacks", source, words }
}

fn native() -> Evidence {
    let open = |code| watch_self(Subject::MachineState { period: PERIOD, code });
    let (source, words) = match (open(CodeSampled::ProgramAndKernel), open(CodeSampled::Program)) {
        (Ok(_), _) => ("program_and_kernel", "of running threads, also while the kernel works for them".to_owned()),
        (_, Ok(_)) => ("program", "of running threads, but not while the kernel works for them".to_owned()),
        (_, Err(why)) => ("none", format!("perf_event_open: {why}")),
    };
    Evidence { key: "native_frames", name: "native frames", source, words }
}

fn clock() -> Evidence {
    let (source, words) = match ProbeClock::choose() {
        ProbeClock::TimeStampCounter => ("tsc", "the processor's counter, which the kernel trusts"),
        ProbeClock::Monotonic => {
            ("monotonic", "CLOCK_MONOTONIC, since the kernel does not trust the processor's counter")
        }
    };
    Evidence { key: "clock", name: "clock of preload", source, words: words.to_owned() }
}

/// Which hardware counters there are.
pub(super) fn counters(place: &Place) -> Vec<CounterFinding> {
    let missing = |event| Builder::new(event).observe_self().any_cpu().build().err().map(|why| meaning(&why, place));
    COUNTERS.map(|(name, event)| CounterFinding { name, missing: missing(event) }).into()
}

/// What the kernel's answer means for a counter.
fn meaning(error: &io::Error, place: &Place) -> String {
    let virtual_machine = std::fs::read_to_string("/proc/cpuinfo")
        .is_ok_and(|text| text.lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor")));
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::EOPNOTSUPP | libc::ENODEV) if virtual_machine => {
            "the virtual machine has none (its host would have to give it a PMU)".to_owned()
        }
        Some(libc::ENOENT | libc::EOPNOTSUPP | libc::ENODEV) => {
            "this processor, or this kernel, does not offer it".to_owned()
        }
        Some(libc::EACCES | libc::EPERM) => match place.paranoid {
            Some(level @ 3..) => format!("kernel.perf_event_paranoid is {level}"),
            _ => format!("refused: {error}"),
        },
        Some(libc::EBUSY) => "somebody else has taken it".to_owned(),
        _ => error.to_string(),
    }
}
