//! Every relation × every step: where it leads, and whether it is legal.

use super::{LOCK, assert_sound, at, created_running, ledger, step, tid};
use crate::{
    ledger::{Ledger, lock::Owner, relation::Relation},
    model::event::LockStep,
};

/// Each relation of a thread × each owner of the lock × each step: where it leads, and whether it is legal.
#[test]
fn every_relation_meets_every_step() {
    use LockStep::{Acquired, Released, Want, Yielded};
    let relations = ["unknown", "outside", "waiting", "inside"];
    let owners = ["free", "unknown", "other"];
    for relation in relations {
        for owner in owners {
            for taken in [Want, Acquired, Released, Yielded] {
                if relation == "inside" && owner != "free" {
                    continue; // being inside makes the thread itself the owner
                }
                let mut ledger = prepared(relation, owner);
                let before = ledger.tally.unmatched;
                step(&mut ledger, 20, 1, taken);
                let illegal = ledger.tally.unmatched - before;
                let after = name(&ledger.threads[&tid(1)].relation);
                let (expected, expected_illegal) = expectation(relation, owner, taken);
                let case = format!("{relation}, owner {owner}, {taken:?}");
                assert_eq!((after, illegal), (expected, expected_illegal), "{case}");
                assert_sound(&ledger.finish(at(30)));
            }
        }
    }
}

fn prepared(relation: &str, owner: &str) -> Ledger {
    let mut ledger = ledger(0);
    created_running(&mut ledger, 0, 1);
    created_running(&mut ledger, 0, 2);
    match relation {
        "unknown" => ledger.threads.get_mut(&tid(1)).unwrap().relation = Relation::Unknown,
        "waiting" => step(&mut ledger, 5, 1, LockStep::Want),
        "inside" => step(&mut ledger, 5, 1, LockStep::Acquired),
        _ => {}
    }
    match owner {
        "other" => step(&mut ledger, 10, 2, LockStep::Acquired),
        "unknown" => {
            ledger.charge_lock(LOCK);
            ledger.locks[0].owner = Owner::Unknown;
        }
        _ => {}
    }
    ledger
}

fn expectation(relation: &str, owner: &str, taken: LockStep) -> (&'static str, u64) {
    match (taken, relation) {
        (LockStep::Want, "inside") => ("waiting", 1),
        (LockStep::Want, _) => ("waiting", 0),
        (LockStep::Yielded, "inside") => ("outside", 1),
        (LockStep::Yielded, "unknown") => ("unknown", 0),
        (LockStep::Yielded, "outside") => ("outside", 0),
        (LockStep::Yielded, _) => ("waiting", 0),
        (LockStep::Acquired, "inside") => ("inside", 1),
        (LockStep::Acquired, _) => ("inside", u64::from(owner == "other")),
        (LockStep::Released, "inside") => ("outside", 0),
        (LockStep::Released, "unknown") => ("outside", u64::from(owner != "unknown")),
        (LockStep::Released, "waiting") => ("waiting", 1),
        (LockStep::Released, _) => ("outside", 1),
    }
}

fn name(relation: &Relation) -> &'static str {
    match relation {
        Relation::Unknown => "unknown",
        Relation::Outside => "outside",
        Relation::Waiting(_) => "waiting",
        Relation::Inside(_) => "inside",
    }
}
