//! What the clocks took along at ticks, until the stack of the same tick comes by.
//!
//! A tick's stack goes through one ring and its machine state through another. Both were made while the thread was
//! interrupted, so together they show one moment, though their times, depending on the kernel, differ by what the program at
//! the tick takes.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::model::{
    ids::Tid,
    machine::{MachineSample, MachineState},
    time::{MonoNanos, Nanos},
};

/// Between a stack's time and that of the state taken at the same tick, at the most; less than between any two ticks.
const SAME_TICK: Nanos = Nanos::from_nanos(45_000);

/// Machine states by thread, in order of time.
#[derive(Debug, Default)]
pub(super) struct MachineStates {
    waiting: FxHashMap<Tid, VecDeque<MachineSample>>,
}

impl MachineStates {
    /// Adds what has been found since the last call.
    pub(super) fn add(&mut self, mut samples: Vec<MachineSample>) {
        // A thread that changes its CPU is in the rings of two.
        samples.sort_by_key(|sample| sample.at);
        for sample in samples {
            self.waiting.entry(sample.tid).or_default().push_back(sample);
        }
    }

    /// The state of `tid` at the tick whose stack was complete at `at`; forgets the thread's earlier ones.
    pub(super) fn at_tick(&mut self, tid: Tid, at: MonoNanos) -> Option<MachineState> {
        let waiting = self.waiting.get_mut(&tid)?;
        while waiting.front().is_some_and(|sample| at.saturating_since(sample.at) > SAME_TICK) {
            waiting.pop_front();
        }
        let same = waiting.front().is_some_and(|sample| sample.at.saturating_since(at) <= SAME_TICK);
        same.then(|| waiting.pop_front()).flatten().map(|sample| sample.state)
    }

    /// Forgets what was found before `at`, the moment up to which all stacks have come by.
    pub(super) fn forget_before(&mut self, at: MonoNanos) {
        let at = at.earlier_by(SAME_TICK);
        self.waiting.retain(|_, waiting| {
            while waiting.front().is_some_and(|sample| sample.at < at) {
                waiting.pop_front();
            }
            !waiting.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::MachineStates;
    use crate::model::{
        ids::Tid,
        machine::{MachineSample, MachineState, Registers},
        time::MonoNanos,
    };

    fn sample(raw: i32, at: u64) -> MachineSample {
        let registers = Registers { instruction: at, stack: 0, frame: 0 };
        let state = MachineState { registers, stack: Box::new([]), kernel: None };
        MachineSample { at: MonoNanos::from_monotonic(at), tid: Tid::from_raw(raw).unwrap(), state }
    }

    #[test]
    fn a_stack_gets_the_state_that_follows_it_at_once_and_no_other() {
        let mut states = MachineStates::default();
        states.add(vec![sample(1, 1_995_000), sample(1, 1_000_900), sample(2, 1_000_950), sample(1, 9_000_000)]);
        let mut at = |raw, at| {
            let state = states.at_tick(Tid::from_raw(raw).unwrap(), MonoNanos::from_monotonic(at));
            state.map(|state| state.registers.instruction)
        };
        assert_eq!(at(1, 1_000_000), Some(1_000_900));
        assert_eq!(at(1, 1_500_000), None, "the next tick's is not this one's");
        assert_eq!(at(1, 2_000_000), Some(1_995_000));
        assert_eq!(at(2, 1_000_940), Some(1_000_950));
        assert_eq!(at(2, 1_000_940), None);
        states.forget_before(MonoNanos::from_monotonic(9_100_000));
        assert!(states.waiting.is_empty());
    }
}
