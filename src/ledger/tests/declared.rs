//! Locks that events tell of before anybody has declared them, and what declaring them says then.

use super::{apply, assert_sound, at, created_running, ledger, states};
use crate::{
    ledger::LockStart,
    model::{
        event::{LockStep, SeenRelation, Sighting, What},
        ids::LockId,
        time::Nanos,
    },
};

const OTHER: LockId = LockId::from_index(1);

/// ```text
/// 0       10      30      50
/// |unknown |held   |free  |       declared at 30, as whatever: the events of it are newer
/// ```
#[test]
fn what_events_have_told_of_a_lock_stays_when_it_is_declared() {
    for start in [LockStart::Free, LockStart::Unknown] {
        let mut ledger = ledger(0);
        created_running(&mut ledger, 0, 1);
        apply(&mut ledger, 10, 1, What::Lock(OTHER, LockStep::Acquired));
        apply(&mut ledger, 30, 1, What::Lock(OTHER, LockStep::Released));
        ledger.declare_lock(OTHER, "second", Some(1), start);
        let result = ledger.finish(at(50));
        assert_sound(&result);
        let lock = &result.locks[1];
        assert_eq!((lock.name.as_str(), lock.interpreter, lock.holds), ("second", Some(1), 1), "{start:?}");
        assert_eq!([lock.unknown, lock.held, lock.free].map(Nanos::as_nanos), [10, 20, 20], "{start:?}");
    }
}

#[test]
fn a_wait_for_a_lock_that_is_not_declared_begins_when_it_is_seen() {
    let mut ledger = ledger(0);
    let sighting = Sighting { relation: Some(SeenRelation::Waiting(OTHER)), cpu: None };
    apply(&mut ledger, 20, 1, What::Seen(sighting));
    apply(&mut ledger, 30, 2, What::Lock(OTHER, LockStep::Acquired));
    let result = ledger.finish(at(50));
    assert_sound(&result);
    assert_eq!(states(&result, 1), [("unknown", 10), ("wait_queued", 20)].into());
    assert_eq!(result.locks[1].wait_total.as_nanos(), 30);
}
