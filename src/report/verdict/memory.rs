//! A processor that stands still under the lock: it waits for memory, or for whatever else, while others wait for the lock.

use crate::{
    model::{
        counts::{ClassCounts, Counter, Meaning},
        profile::ThreadProfile,
        state::{State, StateClass},
        time::Nanos,
    },
    report::{
        ratios::{Known, Ratio},
        text::words::{figure, percent},
        verdict::{
            Finding,
            evidence::{Evidence, Place, shown},
        },
    },
};

/// At which a program hardly waits for memory; below it mostly does (B. Gregg, "CPU Utilization is Wrong", 2017).
const BUSY_IPC: f64 = 1.0;
/// That is crude, so that it takes a good deal less to be said.
const LOW_IPC: f64 = 0.7;
/// In a thousand instructions. One costs some 200 cycles (U. Drepper, "What Every Programmer Should Know About Memory", 2007, 3.3);
/// so many, even if every other one is hidden behind another, take as long as all those instructions at [`BUSY_IPC`].
const MANY_MISSES: f64 = 10.0;
/// The larger part.
const MOSTLY: f64 = 0.5;
/// What runs so much faster elsewhere is worth the comparison.
const FASTER: f64 = 1.5;

const MEMORY: &str = "touch less memory with the GIL in hand: smaller and denser data (arrays rather than many objects), one pass \
                      instead of several, pieces that fit the cache; or release the GIL around work on plain memory";
const BACKEND: &str =
    "`perf stat --topdown` and `perf record` tell what it is: dependent loads from nearer caches, divisions, stores";
const FRONTEND: &str =
    "less and denser code at a time; an interpreter built with profile-guided optimization; huge pages for code";

/// What the processor did inside.
struct Inside<'a> {
    counts: ClassCounts,
    known: Known<'a>,
    ipc: f64,
}

impl Inside<'_> {
    fn ratio(&self, ratio: Ratio) -> Option<f64> {
        ratio.of(self.counts.class(StateClass::Inside), self.known)
    }

    fn stalled(&self, side: Meaning) -> Option<f64> {
        self.known.ratio(self.counts.class(StateClass::Inside), side, Meaning::Cycles)
    }
}

/// Says so if it was mostly that which kept the lock.
pub(super) fn finding(evidence: &Evidence<'_>) -> Option<Finding> {
    let counts = evidence.profile.counts()?;
    // What the kernel does inside is but a part of it.
    let known = Known::of(evidence.profile, counts.missing()).of_the_program();
    let ipc = Ratio::Ipc.of(counts.class(StateClass::Inside), known)?;
    let inside = Inside { counts, known, ipc };
    let is_running = running_share(evidence) >= MOSTLY;
    is_running.then(|| memory_bound(evidence, &inside).or_else(|| stalled(evidence, &inside)))?
}

fn memory_bound(evidence: &Evidence<'_>, inside: &Inside<'_>) -> Option<Finding> {
    let misses = inside.ratio(Ratio::CacheMisses)?;
    if inside.ipc > LOW_IPC || misses < MANY_MISSES {
        return None;
    }
    let place = worst(evidence, inside.known.counter(Meaning::CacheMisses)?);
    let words = format!(
        "Holds run at IPC {} with {} cache misses per thousand instructions{}: memory-bound under the lock{}",
        figure(inside.ipc),
        figure(misses),
        whereabouts(place.as_ref()),
        elsewhere(evidence, inside),
    );
    let lost = inside.stalled(Meaning::StalledBackend).unwrap_or(1.0 - inside.ipc / BUSY_IPC);
    Some(told(evidence, inside, Finding::new("memory_bound_inside", words, MEMORY), (lost, place)))
}

/// Other reasons to stand still, where the processor counts such cycles.
fn stalled(evidence: &Evidence<'_>, inside: &Inside<'_>) -> Option<Finding> {
    let sides = [
        (Meaning::StalledBackend, "data or a unit that is busy", BACKEND),
        (Meaning::StalledFrontend, "instructions", FRONTEND),
    ];
    let side = |(side, want, remedy)| Some((inside.stalled(side)?, want, remedy));
    let (share, want, remedy) =
        sides.into_iter().filter_map(side).reduce(|first, second| if second.0 > first.0 { second } else { first })?;
    if share < MOSTLY || inside.ipc >= BUSY_IPC {
        return None;
    }
    let place = worst(evidence, inside.known.counter(Meaning::Cycles)?);
    let words = format!(
        "Holds run at IPC {}{}: for {} of the cycles inside the processor stands still for want of {want}{}",
        figure(inside.ipc),
        whereabouts(place.as_ref()),
        percent(share),
        elsewhere(evidence, inside),
    );
    Some(told(evidence, inside, Finding::new("stalled_inside", words, remedy), (share, place)))
}

/// With its figures. It says why and not where, so that it repeats no finding about the same function. While time was `lost` that the lock need not have been held for, whoever waited waited for that.
fn told(
    evidence: &Evidence<'_>,
    inside: &Inside<'_>,
    finding: Finding,
    (lost, place): (f64, Option<Place>),
) -> Finding {
    let (queued, running) = (evidence.states.get(State::WaitQueued), evidence.states.get(State::HeldRunning));
    let explained = queued.as_seconds() * running_share(evidence) * lost.clamp(0.0, 1.0);
    let at = place.as_ref().map(shown);
    finding
        .ratio("ipc", Some(inside.ipc))
        .ratio("outside_ipc", outside_ipc(evidence, inside.known))
        .ratio("cache_misses_per_1000_instructions", inside.ratio(Ratio::CacheMisses))
        .ratio("cache_miss_rate", inside.ratio(Ratio::CacheMissRate))
        .ratio("stalled_share", inside.ratio(Ratio::Stalled))
        .time("running_ns", running)
        .share("running_share", running, evidence.states.class(StateClass::Inside))
        .name("function", at.as_deref())
        .explaining(Nanos::from_nanos((explained * 1e9) as u64))
}

/// The part of held time in which the owner had a CPU.
fn running_share(evidence: &Evidence<'_>) -> f64 {
    evidence.states.get(State::HeldRunning).share_of(evidence.states.class(StateClass::Inside))
}

/// The function in whose holds most of that was counted, if it was the larger part.
fn worst(evidence: &Evidence<'_>, counter: Counter) -> Option<Place> {
    let functions = evidence.functions.iter().filter(|cost| !cost.function.starts_with('['));
    let worst = functions.max_by_key(|cost| cost.seen.counts.get(counter))?;
    let all = evidence.functions.iter().map(|cost| cost.seen.counts.get(counter)).sum::<u64>();
    let share = Nanos::from_nanos(worst.seen.counts.get(counter)).share_of(Nanos::from_nanos(all));
    (share >= MOSTLY).then(|| (worst.function.to_owned(), worst.file.to_owned()))
}

fn whereabouts(place: Option<&Place>) -> String {
    place.map(|place| format!(", mostly in {}", shown(place))).unwrap_or_default()
}

/// How much faster the same threads run without the lock, if they do.
fn elsewhere(evidence: &Evidence<'_>, inside: &Inside<'_>) -> String {
    match outside_ipc(evidence, inside.known) {
        Some(outside) if outside >= inside.ipc * FASTER => {
            format!("; outside it the same threads run at IPC {}", figure(outside))
        }
        _ => String::new(),
    }
}

fn outside_ipc(evidence: &Evidence<'_>, known: Known<'_>) -> Option<f64> {
    let owned = |thread: &&ThreadProfile| thread.class(StateClass::Inside) > Nanos::ZERO;
    let counts: Option<ClassCounts> = evidence.profile.threads.iter().filter(owned).map(|thread| thread.counts).sum();
    Ratio::Ipc.of(counts?.class(StateClass::Outside), known)
}
