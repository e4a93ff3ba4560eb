//! From what was recorded to the profile: the ledger's numbers, the target's name, and notes on how they came about.

use crate::{
    ledger::Attribution,
    model::{
        counts::{Counter, Counters, GoneEvent, Slot},
        parking::Parking,
        profile::{Backend, Counted, LockProfile, Profile, ThreadProfile},
        quality::{Overhead, Quality, SchedulerRung},
        sampled_event::EventProfile,
        time::Nanos,
    },
    perf::{events::CountedEvent, fault_cost::fault_cost},
    session::{
        chosen::Chosen,
        detail::{self, Collections},
        engine::Recorded,
        event_choice::EventChoice,
        options::FrameDetail,
    },
    source::Tally,
    target::discover::Target,
};

/// Puts the profile together.
pub(super) fn profile(
    recorded: Recorded,
    target: &Target,
    ((backend, frames), chosen, event): ((Backend, FrameDetail), Chosen, Option<EventChoice>),
    (overhead, mut notes): (Overhead, Vec<String>),
) -> Profile {
    let Recorded {
        mut attribution,
        stacks,
        tally,
        remarks,
        late,
        tells_of_parks,
        counters: (counters, missing),
        counted_event,
        replaced,
        start,
    } = recorded;
    notes.extend(remarks);
    notes.extend(shortfalls(&attribution, late, replaced));
    notes.extend(uncounted(counters, missing));
    let summary = target.summary();
    let tells_of_parks = summary.free_threaded && tells_of_parks;
    if summary.free_threaded {
        notes.push(free_threaded(tells_of_parks.then_some(&attribution.parking)));
    }
    let (threads, untold) = without_untold(std::mem::take(&mut attribution.threads), counters);
    notes.extend(untold);
    let quality = quality(&attribution, tally, overhead, notes);
    completed(Profile {
        target: summary,
        start,
        window: attribution.window,
        backend,
        exact: backend.counts_events() && attribution.estimates.is_none(),
        counted: if backend.counts_events() { Counted::Everything } else { Counted::Nothing },
        native: frames == FrameDetail::ScriptAndNative,
        counters,
        measured: chosen.events.iter().map(CountedEvent::described).collect(),
        gone: gone(missing, chosen),
        event: event.map(|choice| {
            let (event, sums) = (choice.described(), attribution.events);
            EventProfile { event, sums, counted: counted_event }
        }),
        fault_cost: if counters.has(Counter::MinorFaults) { fault_cost() } else { None },
        locks: attribution.locks,
        threads,
        blame: attribution.blame,
        hold_sites: attribution.hold_sites,
        long_hold_threshold: attribution.long_hold_threshold,
        long_holds: attribution.long_holds,
        parking: tells_of_parks.then_some(attribution.parking),
        estimates: attribution.estimates,
        quality,
        stacks,
    })
}

/// With what the profile itself shows.
fn completed(mut profile: Profile) -> Profile {
    name_alike(&mut profile.locks);
    // The in-target probe does not look for it.
    let collections = if profile.backend == Backend::Preload { Collections::Unnoted } else { Collections::Noted };
    detail::complete(&mut profile, collections);
    profile
}

/// How far to trust it.
fn quality(attribution: &Attribution, tally: Tally, overhead: Overhead, notes: Vec<String>) -> Quality {
    Quality {
        lost_events: attribution.tally.lost,
        unmatched_events: attribution.tally.unmatched + tally.unmatched,
        unknown: attribution.unknown,
        stack_samples: attribution.tally.stack_samples,
        stack_failures: attribution.tally.stack_failures,
        overhead,
        probe_cost: tally.cost(),
        invariants_broken: attribution.invariants_broken.clone(),
        scheduler: SchedulerRung::None,
        notes,
    }
}

/// What did not come as it should have: `late` events, and the end of the program that was observed, after `replaced`.
fn shortfalls(attribution: &Attribution, late: u64, replaced: Option<Nanos>) -> impl Iterator<Item = String> {
    let late = (late > 0)
        .then(|| format!("{late} events arrived after later ones had been booked; they count as of their arrival"));
    let is_empty = attribution.estimates.as_ref().is_some_and(|estimates| estimates.total.is_empty());
    let few =
        is_empty.then(|| "too few windows for estimates: what is unknown stays unknown; record for longer".to_owned());
    let replaced = replaced.map(|after| {
        format!("after {after} the process executed another program: this is about the one before, and ends there")
    });
    [late, few, replaced].into_iter().flatten()
}

/// Of a thread that has run and of which the recording's events told nothing, what they would have counted is unknown.
fn without_untold(mut threads: Vec<ThreadProfile>, counters: Counters) -> (Vec<ThreadProfile>, Option<String>) {
    let events = counters.without(Counters::these(&Counter::OWN));
    let mut untold = 0_usize;
    for thread in threads.iter_mut().filter(|thread| !events.is_empty() && thread.is_untold()) {
        thread.counts.iter_mut().for_each(|counts| counts.miss(events));
        untold += 1;
    }
    let note = (untold > 0).then(|| {
        format!(
            "{untold} of the threads took no step with a lock while they ran: what the events counted of them is not known, and is not in \
             the sums"
        )
    });
    (threads, note)
}

/// Which of gilscope's own counters were to be had, and are not. Of events the profile tells by itself.
fn uncounted(counters: Counters, missing: Counters) -> Option<String> {
    let own = missing.iter().filter(|counter| !matches!(counter, Counter::Measured(_)));
    let names: Vec<&str> = own.map(|counter| counter.name(&[])).collect();
    (!names.is_empty()).then(|| match counters.is_empty() {
        true => "no counters: they take records of the scheduler's".to_owned(),
        false => format!("not counted: {}", names.join(", ")),
    })
}

/// The events that were to be counted, and are not, each with the reason.
fn gone(missing: Counters, chosen: Chosen) -> Vec<GoneEvent> {
    let unread = |slot: &Slot| missing.has(Counter::Measured(*slot));
    let unread = Slot::all().filter(unread).filter_map(|slot| chosen.events.get(slot.index()));
    let unread = unread.map(|event| GoneEvent {
        name: event.name.clone(),
        why: "this way of taking lock events does not read it with them, or not to the end".to_owned(),
    });
    chosen.gone.iter().cloned().chain(unread).collect()
}

/// What can be said of a build that mostly does without its lock.
fn free_threaded(parking: Option<&Parking>) -> String {
    let told = match parking {
        Some(_) => "has a section of its own, and",
        None => "is not told apart by this backend, and",
    };
    format!(
        "free-threaded build: its lock is used, and observed, only while something has enabled it; what threads wait for \
         otherwise (locks of objects, stops of the world) {told} counts as time blocked outside, at `kernel: futex`"
    )
}

/// A lock that was alone when it was found has company now.
fn name_alike(locks: &mut [LockProfile]) {
    if locks.len() < 2 {
        return;
    }
    for lock in locks.iter_mut().filter(|lock| lock.name == "GIL") {
        lock.name.extend(lock.interpreter.map(|id| format!(" of interpreter {id}")));
    }
}
