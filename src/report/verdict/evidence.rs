//! What all rules look at, worked out once.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::{
    model::{
        profile::{Blame, Profile, ThreadProfile},
        state::{State, StateClass, StateTimes},
        time::Nanos,
    },
    report::{
        charge::acting_frame,
        functions::{FunctionCost, function_costs},
        kinds::{KindCost, Kinds},
        names::ThreadNames,
        text::words::place,
        verdict::SWITCH_INTERVAL,
    },
};

/// Bytecode gives way one switch interval after it is asked; what makes others wait half as long again does not give way.
const KEEPS: f64 = 1.5;

/// A function by name and file.
pub(super) type Place = (String, String);

/// A profile with its sums.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    pub(super) profile: &'a Profile,
    pub(super) names: ThreadNames<'a>,
    /// All threads' time by state.
    pub(super) states: StateTimes,
    /// Most inflicted waiting first.
    pub(super) functions: Vec<FunctionCost<'a>>,
    pub(super) kinds: Kinds<'a>,
    pub(super) kind_costs: Vec<KindCost<'a>>,
}

impl<'a> Evidence<'a> {
    pub(super) fn of(profile: &'a Profile) -> Self {
        let mut states = StateTimes::default();
        for (state, time) in profile.threads.iter().flat_map(|thread| thread.states.iter()) {
            states.add(state, time);
        }
        let kinds = Kinds::of(profile);
        let (functions, kind_costs) = (function_costs(profile), kinds.costs());
        Self { profile, names: ThreadNames::of(profile), states, functions, kinds, kind_costs }
    }

    /// How long waiters of the most wanted lock wait before they ask its owner to give way.
    pub(super) fn switch_interval(&self) -> Nanos {
        let most_wanted = self.profile.locks.iter().max_by_key(|lock| lock.wait_total);
        most_wanted.and_then(|lock| lock.switch_interval).unwrap_or(SWITCH_INTERVAL)
    }

    /// Whether the function did not give way when asked to: it had a CPU that long, and did not merely wait for one.
    pub(super) fn is_kept_in(&self, cost: &FunctionCost<'_>) -> bool {
        let on_cpu = cost.states.get(State::HeldRunning).share_of(cost.held());
        let least = self.switch_interval().as_seconds() * KEEPS;
        contended_hold(cost).is_some_and(|each| each.as_seconds() * on_cpu >= least)
    }

    /// All waiting of all threads.
    pub(super) fn waited(&self) -> Nanos {
        self.states.class(StateClass::Waiting)
    }

    /// All waiting that is charged to an owner.
    pub(super) fn blamed(&self) -> Nanos {
        self.profile.blame.iter().map(|blame| blame.wait).sum()
    }

    /// All time of all threads but that in which they slept by their own wish, or nothing is known.
    pub(super) fn busy(&self) -> Nanos {
        let idle = self.states.get(State::OutsideBlocked) + self.states.get(State::Unknown);
        self.states.total().saturating_sub(idle)
    }

    /// Whether owners of the lock do not give way in this function when asked to.
    pub(super) fn keeps_lock(&self, place: &Place) -> bool {
        let is_it = |cost: &&FunctionCost<'_>| cost.function == place.0 && cost.file == place.1;
        self.functions.iter().find(is_it).is_some_and(|cost| self.is_kept_in(cost))
    }

    /// The function in which most of the waiting of these entries was inflicted.
    pub(super) fn worst_place(&self, entries: impl Iterator<Item = &'a Blame>) -> Option<Place> {
        let mut places: BTreeMap<Place, Nanos> = BTreeMap::new();
        for blame in entries {
            let frame = acting_frame(&self.profile.stacks, Some(blame.stack));
            *places.entry((frame.function.clone(), frame.file.clone())).or_default() += blame.wait;
        }
        places.into_iter().max_by_key(|(place, wait)| (*wait, Reverse(place.clone()))).map(|(place, _)| place)
    }
}

/// Waiting of one thread.
pub(super) fn waited(thread: &ThreadProfile) -> Nanos {
    thread.states.class(StateClass::Waiting)
}

/// `total` divided by `count`; zero when there is none.
pub(super) fn mean(total: Nanos, count: u64) -> Nanos {
    Nanos::from_nanos(total.as_nanos().checked_div(count).unwrap_or_default())
}

/// How long others wait during one hold that the function was seen in; `None` when it was seen in none.
pub(super) fn contended_hold(cost: &FunctionCost<'_>) -> Option<Nanos> {
    (cost.seen.holds > 0).then(|| mean(cost.seen.contended, cost.seen.holds))
}

/// `function (file.py)`.
pub(super) fn shown(named: &Place) -> String {
    place(&named.0, &named.1)
}
