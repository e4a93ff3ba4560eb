//! Estimates with their intervals, as JSON.

use crate::{
    model::{
        estimate::{ClassEstimate, Estimate, Estimates, LockEstimate, Method, StateEstimate, ThreadEstimate},
        time::Nanos,
    },
    report::schema::{Named, estimates as schema},
};

/// The probability with which an interval contains the true amount.
const CONFIDENCE: f64 = 0.95;

pub(super) fn document(estimates: &Estimates) -> schema::Estimates {
    let (method, rate_hz) = match estimates.method {
        Method::Looks { rate } => ("looks", Some(rate)),
        Method::Windows => ("windows", None),
    };
    schema::Estimates {
        method,
        rate_hz,
        confidence: CONFIDENCE,
        parts: estimates.parts,
        observed_ns: estimates.observed.as_nanos(),
        total: classes(&estimates.total),
        threads: estimates.threads.iter().map(thread).collect(),
        locks: estimates.locks.iter().map(lock).collect(),
    }
}

fn thread(thread: &ThreadEstimate) -> schema::ThreadEstimate {
    let state = |part: &StateEstimate| (part.state.name(), time(part.time));
    schema::ThreadEstimate {
        tid: thread.tid.raw(),
        classes_ns: classes(&thread.classes),
        states_ns: Named(thread.states.iter().map(state).collect()),
    }
}

fn lock(lock: &LockEstimate) -> schema::LockEstimate {
    schema::LockEstimate {
        lock: lock.lock.index(),
        held_ns: lock.held.map(time),
        contended_ns: lock.contended.map(time),
        waited_ns: lock.waited.map(time),
        holds: lock.holds.map(count),
        waits: lock.waits.map(count),
    }
}

fn classes(parts: &[ClassEstimate]) -> Named<schema::Interval> {
    Named(parts.iter().map(|part| (part.class.name(), time(part.time))).collect())
}

fn time(of: Estimate<Nanos>) -> schema::Interval {
    schema::Interval { value: of.value.as_nanos(), low: of.low.as_nanos(), high: of.high.as_nanos() }
}

fn count(of: Estimate<u64>) -> schema::Interval {
    schema::Interval { value: of.value, low: of.low, high: of.high }
}
