//! Names of events as `perf` has made them known, and what they stand for.
//!
//! Generic events of processors and the kernel, combinations of caches, raw codes (`r01c2`), events of any unit that sysfs
//! shows (`cpu/event=0x3c,umask=0/`) and tracepoints (`syscalls:sys_enter_futex`), each with `:u` or `:k` behind it. Sources:
//! perf-list(1), perf_event_open(2).

use std::{fs, io, path::Path};

use perf_event::events::{Cache, CacheId, CacheOp, CacheResult, Dynamic, Hardware, Raw, Software, Tracepoint};
use thiserror::Error;

use crate::{
    model::counts::Meaning,
    perf::events::{CountedEvent, CountedPlace, EventCode},
};

/// Where tracefs is mounted.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

const HARDWARE: [(&str, Hardware, Option<Meaning>); 12] = [
    ("cycles", Hardware::CPU_CYCLES, Some(Meaning::Cycles)),
    ("cpu-cycles", Hardware::CPU_CYCLES, Some(Meaning::Cycles)),
    ("instructions", Hardware::INSTRUCTIONS, Some(Meaning::Instructions)),
    ("cache-references", Hardware::CACHE_REFERENCES, Some(Meaning::CacheReferences)),
    ("cache-misses", Hardware::CACHE_MISSES, Some(Meaning::CacheMisses)),
    ("branches", Hardware::BRANCH_INSTRUCTIONS, Some(Meaning::Branches)),
    ("branch-instructions", Hardware::BRANCH_INSTRUCTIONS, Some(Meaning::Branches)),
    ("branch-misses", Hardware::BRANCH_MISSES, Some(Meaning::BranchMisses)),
    ("bus-cycles", Hardware::BUS_CYCLES, None),
    ("ref-cycles", Hardware::REF_CPU_CYCLES, None),
    ("stalled-cycles-frontend", Hardware::STALLED_CYCLES_FRONTEND, Some(Meaning::StalledFrontend)),
    ("stalled-cycles-backend", Hardware::STALLED_CYCLES_BACKEND, Some(Meaning::StalledBackend)),
];

const SOFTWARE: [(&str, Software); 3] = [
    ("cpu-clock", Software::CPU_CLOCK),
    ("alignment-faults", Software::ALIGNMENT_FAULTS),
    ("emulation-faults", Software::EMULATION_FAULTS),
];

/// Those that gilscope counts by itself.
const OWN: [(&str, Software); 9] = [
    ("task-clock", Software::TASK_CLOCK),
    ("page-faults", Software::PAGE_FAULTS),
    ("faults", Software::PAGE_FAULTS),
    ("minor-faults", Software::PAGE_FAULTS_MIN),
    ("major-faults", Software::PAGE_FAULTS_MAJ),
    ("context-switches", Software::CONTEXT_SWITCHES),
    ("cs", Software::CONTEXT_SWITCHES),
    ("cpu-migrations", Software::CPU_MIGRATIONS),
    ("migrations", Software::CPU_MIGRATIONS),
];

const CACHES: [(&str, CacheId); 7] = [
    ("L1-dcache", CacheId::L1D),
    ("L1-icache", CacheId::L1I),
    ("LLC", CacheId::LL),
    ("dTLB", CacheId::DTLB),
    ("iTLB", CacheId::ITLB),
    ("branch", CacheId::BPU),
    ("node", CacheId::NODE),
];

const OPERATIONS: [(&str, CacheOp, CacheResult); 6] = [
    ("-loads", CacheOp::READ, CacheResult::ACCESS),
    ("-load-misses", CacheOp::READ, CacheResult::MISS),
    ("-stores", CacheOp::WRITE, CacheResult::ACCESS),
    ("-store-misses", CacheOp::WRITE, CacheResult::MISS),
    ("-prefetches", CacheOp::PREFETCH, CacheResult::ACCESS),
    ("-prefetch-misses", CacheOp::PREFETCH, CacheResult::MISS),
];

/// Why a word names no event.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EventError {
    /// Nobody knows it.
    #[error("`{word}` is no counter")]
    Unknown {
        /// What was typed.
        word: String,
    },
    /// It is known, but not with these letters behind it.
    #[error(
        "`{letters}` behind an event's name is not understood: `:u` counts in the program alone, `:k` in the kernel"
    )]
    Modifier {
        /// What was typed.
        letters: String,
    },
    /// The kernel has no such tracepoint, or does not show it.
    #[error("{}", match why {
        TracepointGone::NoSuch => format!("this kernel has no tracepoint `{word}`"),
        TracepointGone::Hidden => format!("whether there is a tracepoint `{word}` only root can see, in tracefs"),
        TracepointGone::NotMounted =>
            format!("tracepoints such as `{word}` take tracefs: sudo mount -t tracefs tracefs /sys/kernel/tracing"),
    })]
    Tracepoint {
        /// What was typed.
        word: String,
        /// Why.
        why: TracepointGone,
    },
    /// The machine has no such unit, or it has no such event or field.
    #[error("`{word}`: {why}")]
    Unit {
        /// What was typed.
        word: String,
        /// Why.
        why: String,
    },
}

/// Why a tracepoint is not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TracepointGone {
    /// There is none of this name.
    NoSuch,
    /// We may not look.
    Hidden,
    /// The file system that shows them is not mounted.
    NotMounted,
}

/// The names that can be typed, as people are told.
pub const KNOWN: &str = "cycles, instructions, cache-references, cache-misses, branches, branch-misses, \
                         stalled-cycles-frontend, stalled-cycles-backend, and what else `perf list` shows, such as \
                         L1-dcache-load-misses, r01c2, cpu/event=0x3c/ or syscalls:sys_enter_futex";

pub(super) fn parse(word: &str) -> Result<CountedEvent, EventError> {
    let unknown = || EventError::Unknown { word: word.to_owned() };
    if word.contains('/') {
        let (unit, rest) = word.split_once('/').ok_or_else(unknown)?;
        let (terms, letters) = rest.rsplit_once('/').ok_or_else(unknown)?;
        let code = of_unit(unit, terms).map_err(|why| EventError::Unit { word: word.to_owned(), why })?;
        return Ok(event(word, code, None, place(letters)?));
    }
    if let Some((code, meaning)) = generic(word) {
        return Ok(event(word, code, meaning, CountedPlace::Everywhere));
    }
    match word.split_once(':') {
        Some((name, letters)) => match generic(name) {
            Some((code, meaning)) => Ok(event(word, code, meaning, place(letters)?)),
            None => Ok(event(word, tracepoint(word)?, None, CountedPlace::Everywhere)),
        },
        None => Err(unknown()),
    }
}

/// An event that gilscope counts by itself; `None` for other names.
pub(super) fn parse_own(word: &str) -> Option<Result<CountedEvent, EventError>> {
    let (name, letters) = word.split_once(':').unwrap_or((word, ""));
    let (_, code) = OWN.into_iter().find(|(known, _)| *known == name)?;
    Some(place(letters).map(|place| event(word, EventCode::of(code), None, place)))
}

fn event(word: &str, code: EventCode, meaning: Option<Meaning>, place: CountedPlace) -> CountedEvent {
    CountedEvent { name: word.to_owned(), meaning, code, place }
}

/// An event that every kernel knows by this name, or a raw code.
fn generic(name: &str) -> Option<(EventCode, Option<Meaning>)> {
    let hardware = HARDWARE.into_iter().find(|(known, ..)| *known == name);
    if let Some((_, event, meaning)) = hardware {
        return Some((EventCode::of(event), meaning));
    }
    if let Some((_, event)) = SOFTWARE.into_iter().find(|(known, _)| *known == name) {
        return Some((EventCode::of(event), None));
    }
    cache(name).or_else(|| raw(name)).map(|code| (code, None))
}

fn cache(name: &str) -> Option<EventCode> {
    let (prefix, which) = CACHES.into_iter().find(|(prefix, _)| name.starts_with(prefix))?;
    let (_, operation, result) = OPERATIONS.into_iter().find(|(suffix, ..)| &name[prefix.len()..] == *suffix)?;
    Some(EventCode::of(Cache { which, operation, result }))
}

fn raw(name: &str) -> Option<EventCode> {
    let digits = name.strip_prefix('r').filter(|digits| !digits.is_empty())?;
    u64::from_str_radix(digits, 16).ok().map(|config| EventCode::of(Raw::new(config)))
}

fn place(letters: &str) -> Result<CountedPlace, EventError> {
    match letters.trim_start_matches(':') {
        "" | "uk" | "ku" => Ok(CountedPlace::Everywhere),
        "u" => Ok(CountedPlace::Program),
        "k" => Ok(CountedPlace::Kernel),
        other => Err(EventError::Modifier { letters: other.to_owned() }),
    }
}

/// An event of a unit that sysfs shows: `field=value`, `field`, or the name of an event, separated by commas.
fn of_unit(unit: &str, terms: &str) -> Result<EventCode, String> {
    let told = |why: io::Error| match why.kind() {
        io::ErrorKind::NotFound => format!("this machine has no unit `{unit}` in /sys/bus/event_source/devices"),
        _ => why.to_string(),
    };
    let mut builder = Dynamic::builder(unit).map_err(told)?;
    for term in terms.split(',').filter(|term| !term.is_empty()) {
        match term.split_once('=') {
            Some((field, value)) => {
                let value = number(value).ok_or_else(|| format!("`{value}` is no number"))?;
                builder.field(field, value).map_err(|why| why.to_string())?;
            }
            None => named_term(&mut builder, unit, term)?,
        }
    }
    // Fields that are not named are 0, as perf has it.
    let rest: Vec<String> = builder.params().map(str::to_owned).collect();
    for field in rest {
        builder.field(&field, 0).map_err(|why| why.to_string())?;
    }
    builder.build().map(EventCode::of).map_err(|why| why.to_string())
}

/// A field that is on, or an event that the unit gives a name.
fn named_term(builder: &mut perf_event::events::DynamicBuilder, unit: &str, term: &str) -> Result<(), String> {
    let events = Path::new("/sys/bus/event_source/devices").join(unit).join("events").join(term);
    if events.exists() {
        return builder.event(term).map(drop).map_err(|why| why.to_string());
    }
    builder.field(term, 1).map(drop).map_err(|why| why.to_string())
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn tracepoint(word: &str) -> Result<EventCode, EventError> {
    let gone = |why| EventError::Tracepoint { word: word.to_owned(), why };
    let (system, name) = word.split_once(':').ok_or_else(|| gone(TracepointGone::NoSuch))?;
    let is_plain =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_plain(system) || !is_plain(name) {
        return Err(EventError::Unknown { word: word.to_owned() });
    }
    let mut answer = TracepointGone::NotMounted;
    for root in TRACEFS.map(Path::new) {
        let events = root.join("events");
        match fs::read_to_string(events.join(system).join(name).join("id")) {
            Ok(id) => {
                let id = id.trim().parse().map_err(|_| gone(TracepointGone::NoSuch))?;
                return Ok(EventCode::of(Tracepoint::with_id(id)));
            }
            Err(why) if why.kind() == io::ErrorKind::PermissionDenied => answer = TracepointGone::Hidden,
            Err(_) if events.exists() => answer = TracepointGone::NoSuch,
            Err(_) => {}
        }
    }
    Err(gone(answer))
}
