//! Tests of the whole ledger, by what they are about; here is what they have in common: one lock, short limits, and a
//! few words to write time lines with.

mod blame;
mod counts;
mod declared;
mod drawn;
mod events;
mod giving_way;
mod holds;
mod invariants;
mod lives;
mod naive;
mod naive_windows;
mod states;
mod steps;
mod untold;
mod windows;

use std::collections::BTreeMap;

use super::{Attribution, GivingWayLimits, Ledger, LedgerOptions, LockStart};
use crate::model::{
    event::{Event, LockStep, What},
    ids::{LockId, Tid},
    stack::{Frame, StackId, StackTable},
    time::{MonoNanos, Nanos},
};

const LOCK: LockId = LockId::from_index(0);
const LONGEST_GIVING_WAY: u64 = 60;
const LONGEST_STEP: u64 = 10;
const LONGEST_MUTEX_SLEEP: u64 = 30;
const GIVING_WAY: GivingWayLimits = GivingWayLimits {
    computing: Nanos::from_nanos(LONGEST_GIVING_WAY),
    step: Nanos::from_nanos(LONGEST_STEP),
    mutex_sleep: Nanos::from_nanos(LONGEST_MUTEX_SLEEP),
};

fn at(nanos: u64) -> MonoNanos {
    MonoNanos::from_monotonic(nanos)
}

fn tid(raw: i32) -> Tid {
    Tid::from_raw(raw).unwrap()
}

fn stack(name: &str) -> StackId {
    // Stacks of different depth get different ids without sharing a table between tests.
    let names = ["no stack", "work", "spin", "parse"];
    let mut table = StackTable::default();
    let ids = names.map(|name| table.intern(&[Frame::marker(name)]));
    ids[names.iter().position(|known| *known == name).unwrap()]
}

fn ledger(start: u64) -> Ledger {
    let no_stack = stack("no stack");
    let mut ledger = Ledger::new(LedgerOptions {
        start: at(start),
        long_hold: Nanos::from_nanos(50),
        giving_way: GIVING_WAY,
        no_stack,
    });
    ledger.declare_lock(LOCK, "GIL", Some(0), LockStart::Free);
    ledger
}

fn apply(ledger: &mut Ledger, when: u64, thread: i32, what: What) {
    ledger.apply(&Event { at: at(when), tid: tid(thread), what });
}

fn step(ledger: &mut Ledger, when: u64, thread: i32, step: LockStep) {
    apply(ledger, when, thread, What::Lock(LOCK, step));
}

fn created_running(ledger: &mut Ledger, when: u64, thread: i32) {
    apply(ledger, when, thread, What::Created);
    apply(ledger, when, thread, What::SwitchedIn);
}

fn states(attribution: &Attribution, thread: i32) -> BTreeMap<&'static str, u64> {
    let profile = attribution.threads.iter().find(|profile| profile.tid == tid(thread)).unwrap();
    let shown = profile.states.iter().filter(|(_, time)| *time > Nanos::ZERO);
    shown.map(|(state, time)| (state.name(), time.as_nanos())).collect()
}

fn assert_sound(attribution: &Attribution) {
    assert_eq!(attribution.invariants_broken, Vec::<String>::new());
}
