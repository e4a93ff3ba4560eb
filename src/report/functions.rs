//! Time by function: what each function of the program cost, by the frame that was executing.

use std::collections::BTreeMap;

use crate::{
    model::{
        profile::{HoldTally, Profile},
        stack::Frame,
        state::{State, StateClass, StateTimes},
        time::Nanos,
    },
    report::charge::{acting_frame, charges},
};

/// What one function cost while it was the executing one.
#[derive(Debug, Clone, Copy)]
pub(super) struct FunctionCost<'a> {
    /// The function's name.
    pub(super) function: &'a str,
    /// Where it is defined; empty when unknown.
    pub(super) file: &'a str,
    /// The time of all threads in it, by state.
    pub(super) states: StateTimes,
    /// How long others waited while a thread owned the lock in it.
    pub(super) inflicted: Nanos,
    /// The holds during which it was seen most often.
    pub(super) seen: HoldTally,
}

impl FunctionCost<'_> {
    /// Time in the three `held_*` states.
    pub(super) fn held(&self) -> Nanos {
        self.states.class(StateClass::Inside)
    }

    /// The part of `held` without a CPU.
    pub(super) fn held_off_cpu(&self) -> Nanos {
        self.states.get(State::HeldPreempted) + self.states.get(State::HeldBlocked)
    }

    /// Whether it owned the lock, as far as anybody saw.
    pub(super) fn owned(&self) -> bool {
        self.held() > Nanos::ZERO || self.inflicted > Nanos::ZERO || self.seen.holds > 0
    }

    /// Time in the two `wait_*` states.
    pub(super) fn waited(&self) -> Nanos {
        self.states.class(StateClass::Waiting)
    }
}

/// Every function with its cost; most inflicted and held time first.
pub(super) fn function_costs(profile: &Profile) -> Vec<FunctionCost<'_>> {
    let mut costs: BTreeMap<(&str, &str), FunctionCost<'_>> = BTreeMap::new();
    for charge in profile.threads.iter().flat_map(charges) {
        let cost = entry(&mut costs, acting_frame(&profile.stacks, charge.stack));
        cost.states.add(charge.state, charge.time);
    }
    for blame in &profile.blame {
        entry(&mut costs, acting_frame(&profile.stacks, Some(blame.stack))).inflicted += blame.wait;
    }
    for site in &profile.hold_sites {
        entry(&mut costs, acting_frame(&profile.stacks, Some(site.stack))).seen.absorb(site.tally);
    }
    let mut costs: Vec<_> = costs.into_values().collect();
    costs.sort_by_key(|cost| std::cmp::Reverse((cost.inflicted, cost.held(), cost.waited())));
    costs
}

fn entry<'a, 'b>(
    costs: &'b mut BTreeMap<(&'a str, &'a str), FunctionCost<'a>>,
    frame: &'a Frame,
) -> &'b mut FunctionCost<'a> {
    costs.entry((&frame.function, &frame.file)).or_insert(FunctionCost {
        function: &frame.function,
        file: &frame.file,
        states: StateTimes::default(),
        inflicted: Nanos::ZERO,
        seen: HoldTally::default(),
    })
}
