//! Whatever comes in, legal or not, the invariants hold.

use proptest::prelude::{prop_assert_eq, proptest};

use super::{LOCK, apply, at, ledger, stack};
use crate::model::{
    event::{LockStep, LostEvents, OffCpu, SampleCause, SeenCpu, SeenRelation, Sighting, StackSample, What},
    ids::LockId,
    time::Nanos,
};

proptest! {
    #[test]
    fn no_input_breaks_an_invariant(
        script in proptest::collection::vec((1_i32..5, 0_u8..17, 0_u64..40), 0..300),
    ) {
        let mut ledger = ledger(100);
        let mut now = 0;
        for (thread, choice, nanos) in script {
            now += nanos;
            apply(&mut ledger, now, thread, anything(choice, now));
        }
        let result = ledger.finish(at(now));
        prop_assert_eq!(&result.invariants_broken, &Vec::<String>::new());
    }
}

fn anything(choice: u8, now: u64) -> What {
    let tick = |cause| What::Stack(StackSample { until: at(now + 1), stack: Some(stack("work")), cause });
    match choice {
        0 => What::Lock(LOCK, LockStep::Want),
        1 => What::Lock(LOCK, LockStep::Acquired),
        2 => What::Lock(LOCK, LockStep::Released),
        3 => What::Lock(LockId::from_index(1), LockStep::Acquired),
        4 => What::SwitchedIn,
        5 => What::SwitchedOut(OffCpu::Blocked),
        6 => What::Created,
        7 => What::Exited,
        8 => What::LostLock(LostEvents { count: 1 }),
        9 => What::LostSwitch(LostEvents { count: 1 }),
        10 => What::Seen(Sighting { relation: Some(SeenRelation::Inside(LOCK)), cpu: Some(SeenCpu::Runnable) }),
        11 => What::RunDelay(Nanos::from_nanos(now / 3)),
        12 => tick(SampleCause::Tick),
        13 => tick(SampleCause::Contended),
        14 => tick(SampleCause::AtRelease),
        15 => tick(SampleCause::OwnerSampled),
        _ => tick(SampleCause::WaitBegan),
    }
}
