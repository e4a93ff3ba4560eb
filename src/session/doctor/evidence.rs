//! What a recording would have besides lock events: scheduling, stacks, machine code, counters, clocks; each tried.

use std::{cell::RefCell, rc::Rc};

use crate::{
    model::{
        diagnosis::{CounterFinding, Evidence},
        ids::Pid,
        time::Nanos,
    },
    perf::{
        events::{CountedEvent, missing},
        open::{CodeSampled, Subject, watch_self},
    },
    session::running::causes,
    source::{bpf::LoadedPrograms, calls::Translator, preload::ProbeClock, scheduling::Evidence as Scheduling},
    target::memory::ProcessMemory,
};

/// As often as stacks are usually sampled.
const PERIOD: Nanos = Nanos::from_millis(10);

const COUNTERS: [&str; 5] = ["cycles", "instructions", "cache-references", "cache-misses", "branch-misses"];

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
pub(super) fn counters() -> Vec<CounterFinding> {
    let gone = |name| match CountedEvent::named(name) {
        Ok(event) => event.tried().err().map(|why| missing(&why)),
        Err(why) => Some(why.to_string()),
    };
    COUNTERS.map(|name| CounterFinding { name, missing: gone(name) }).into()
}
