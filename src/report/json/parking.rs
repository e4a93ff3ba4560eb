//! Locks of objects and stops of the world, as JSON.

use crate::{
    model::{
        ids::Tid,
        parking::{ParkedMutex, Parking, Request, Stretches},
        stack::StackTable,
        time::Nanos,
    },
    report::{
        json::stack,
        schema::{Named, parking as schema},
    },
};

pub(super) fn document<'a>(parking: &Parking, stacks: &'a StackTable) -> schema::Parking<'a> {
    let stops = &parking.stops;
    schema::Parking {
        mutexes: parking.mutexes.iter().map(|part| mutex(part, stacks)).collect(),
        stop_the_world: schema::StopTheWorld {
            pauses: stretches(["pauses", "paused_ns"], stops.pauses),
            requesters: stops.requesters.iter().map(requester).collect(),
            suspended: stops.suspended.iter().map(|part| thread(["suspensions", "suspended_ns"], *part)).collect(),
        },
        elsewhere: parks(parking.elsewhere),
    }
}

fn mutex<'a>(mutex: &ParkedMutex, stacks: &'a StackTable) -> schema::ParkedMutex<'a> {
    let of_stack = |(id, part): &(Option<_>, _)| schema::ParkedStack {
        parks: parks(*part),
        stack: id.map(|id| stack(stacks, id)),
    };
    schema::ParkedMutex {
        address: mutex.address.map(|address| address.to_string()),
        parks: parks(mutex.parks),
        threads: mutex.threads.iter().map(|part| thread(["parks", "parked_ns"], *part)).collect(),
        stacks: mutex.stacks.iter().map(of_stack).collect(),
        unseen: parks(mutex.unseen),
    }
}

fn requester((tid, request): &(Option<Tid>, Request)) -> schema::Requester {
    schema::Requester {
        tid: tid.map(Tid::raw),
        pauses: stretches(["pauses", "paused_ns"], request.pauses),
        // Of a requester that is not known, it is not known.
        waited_ns: tid.map(|_| request.waited.as_nanos()),
    }
}

fn thread(names: [&'static str; 2], (tid, part): (Option<Tid>, Stretches)) -> schema::ParkedThread {
    schema::ParkedThread { tid: tid.map(Tid::raw), parks: stretches(names, part) }
}

fn parks(part: Stretches) -> Named<Option<u64>> {
    stretches(["parks", "parked_ns"], part)
}

/// The longest of none is unknown.
fn stretches([count, total]: [&'static str; 2], part: Stretches) -> Named<Option<u64>> {
    let longest = Some(part.longest).filter(|_| part.count > 0).map(Nanos::as_nanos);
    Named(vec![(count, Some(part.count)), (total, Some(part.total.as_nanos())), ("longest_ns", longest)])
}
