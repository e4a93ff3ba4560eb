//! Free-threaded builds: the locks of objects at which threads were parked, and stops of the world.

use crate::{
    model::{
        parking::{ParkedMutex, Parking, Stretches},
        profile::Profile,
        time::Nanos,
    },
    report::{
        charge::acting_frame,
        names::{ThreadNames, clean},
        text::{
            table::{Lean, omitted, titled},
            words::count,
        },
    },
};

/// Rows of each table.
const MOST: usize = 8;

const MUTEX_COLUMNS: [(&str, Lean); 7] = [
    ("lock", Lean::Left),
    ("parked", Lean::Right),
    ("parks", Lean::Right),
    ("longest", Lean::Right),
    ("threads", Lean::Right),
    ("the longest\nparked", Lean::Left),
    ("mostly in", Lean::Left),
];

const STOP_COLUMNS: [(&str, Lean); 5] = [
    ("requested by", Lean::Left),
    ("pauses", Lean::Right),
    ("paused", Lean::Right),
    ("longest", Lean::Right),
    ("waited until\nall stood", Lean::Right),
];

const SUSPENDED_COLUMNS: [(&str, Lean); 4] =
    [("suspended", Lean::Left), ("times", Lean::Right), ("for", Lean::Right), ("longest", Lean::Right)];

/// The section; empty when it was not observed.
pub(super) fn section(profile: &Profile, names: &ThreadNames<'_>, width: u16) -> String {
    let Some(parking) = &profile.parking else { return String::new() };
    let parts = [mutexes(parking, (profile, names), width), stops(parking, names, width)];
    let elsewhere = match parking.elsewhere {
        Stretches { count: 0, .. } => None,
        other => Some(format!(
            "Parked for the end of threads and the like: {} times, {} together.",
            count(other.count),
            other.total
        )),
    };
    parts.into_iter().chain(elsewhere).collect::<Vec<_>>().join("\n\n")
}

fn mutexes(parking: &Parking, (profile, names): (&Profile, &ThreadNames<'_>), width: u16) -> String {
    if parking.mutexes.is_empty() {
        return "No thread was parked at the lock of an object.".to_owned();
    }
    let mut all = Stretches::default();
    parking.mutexes.iter().for_each(|mutex| all.absorb(mutex.parks));
    let heading = format!(
        "Contended locks of objects and of the interpreter: threads were parked {} times, {} together",
        count(all.count),
        all.total
    );
    let row = |mutex: &ParkedMutex| {
        let [time, times, longest] = amounts(mutex.parks);
        let thread = mutex.threads.first().map_or_else(String::new, |(tid, _)| names.short(*tid, 12, " "));
        let place = mutex.stacks.first().map_or_else(
            || "not read".to_owned(),
            |(stack, _)| clean(&acting_frame(&profile.stacks, *stack).to_string()),
        );
        let lock = mutex.address.map_or_else(|| "others".to_owned(), |address| address.to_string());
        vec![lock, time, times, longest, mutex.threads.len().to_string(), thread, place]
    };
    let rows = parking.mutexes.iter().take(MOST).map(row).collect();
    titled(&heading, &MUTEX_COLUMNS, rows, width) + &omitted(parking.mutexes.len(), MOST, "lock")
}

fn stops(parking: &Parking, names: &ThreadNames<'_>, width: u16) -> String {
    let stops = &parking.stops;
    if stops.pauses.count == 0 {
        return "The world was never stopped while a thread ran.".to_owned();
    }
    let heading = format!(
        "Stops of the world: {}, {} together, the longest {}",
        count(stops.pauses.count),
        stops.pauses.total,
        stops.pauses.longest
    );
    let requester = |tid| match tid {
        Some(tid) => names.label(tid),
        None => "unknown (nobody had to be waited for)".to_owned(),
    };
    let requests = stops.requesters.iter().take(MOST).map(|(tid, request)| {
        let [time, times, longest] = amounts(request.pauses);
        let waited = if request.waited == Nanos::ZERO { "–".to_owned() } else { request.waited.to_string() };
        vec![requester(*tid), times, time, longest, waited]
    });
    let first =
        titled(&heading, &STOP_COLUMNS, requests.collect(), width) + &omitted(stops.requesters.len(), MOST, "thread");
    if stops.suspended.is_empty() {
        return first;
    }
    let suspended = stops.suspended.iter().take(MOST).map(|(tid, suspended)| {
        let [time, times, longest] = amounts(*suspended);
        vec![names.label(*tid), times, time, longest]
    });
    let second = titled("Threads that were stopped", &SUSPENDED_COLUMNS, suspended.collect(), width)
        + &omitted(stops.suspended.len(), MOST, "thread");
    format!("{first}\n\n{second}")
}

/// How long, how often, and the longest.
fn amounts(stretches: Stretches) -> [String; 3] {
    [stretches.total.to_string(), count(stretches.count), stretches.longest.to_string()]
}
