//! Samples of the recording's event: how much it has counted of each thread, by class of states and stack.
//!
//! Invariant: whatever a sample stands for is in exactly one class, and the sum of all is that of the samples. What came after a
//! release that may turn out to have been forced is outside like the time since then, and moves with it when a wait is made of that.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use crate::{
    ledger::{Ledger, relation::Relation},
    model::{
        event::EventSample,
        ids::Tid,
        sampled_event::{EventRow, EventSums},
        stack::StackId,
        state::StateClass,
        time::MonoNanos,
    },
};

type Weights = FxHashMap<(StateClass, StackId), u64>;

/// What samples of one thread stand for, or of all that have ended.
#[derive(Debug, Clone, Default)]
pub(super) struct EventBook {
    weights: Weights,
    /// The part of class outside that came after the thread's last release.
    since_release: FxHashMap<StackId, u64>,
}

/// The same sums, kept without regard to classes and stacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct EventTotals {
    samples: u64,
    without_stack: u64,
    weight: u64,
}

impl Ledger {
    /// A sample from before the window counts for nothing.
    pub(super) fn on_event_sample(&mut self, (at, tid): (MonoNanos, Tid), sample: EventSample) {
        let EventSample { stack, weight } = sample;
        if at < self.options.start {
            return;
        }
        self.event_totals.samples += 1;
        self.event_totals.without_stack += u64::from(stack.is_none());
        self.event_totals.weight = self.event_totals.weight.saturating_add(weight);
        let stack = stack.unwrap_or(self.options.no_stack);
        match self.threads.get_mut(&tid) {
            Some(thread) => thread.events.add(stack, weight, thread.relation),
            None => self.events.add(stack, weight, Relation::Unknown),
        }
    }
}

impl EventBook {
    fn add(&mut self, stack: StackId, weight: u64, relation: Relation) {
        add(self.weights.entry((relation.class(), stack)).or_default(), weight);
        if relation == Relation::Outside {
            add(self.since_release.entry(stack).or_default(), weight);
        }
    }

    /// The thread has released a lock.
    pub(super) fn on_released(&mut self) {
        self.since_release.clear();
    }

    /// The last release was forced: what came since belongs to a wait.
    pub(super) fn on_forced(&mut self) {
        for (stack, weight) in std::mem::take(&mut self.since_release) {
            if let Some(outside) = self.weights.get_mut(&(StateClass::Outside, stack)) {
                *outside -= weight;
            }
            add(self.weights.entry((StateClass::Waiting, stack)).or_default(), weight);
        }
    }

    /// Takes over what `other` has.
    pub(super) fn absorb(&mut self, other: Self) {
        other.weights.into_iter().for_each(|(place, weight)| add(self.weights.entry(place).or_default(), weight));
    }

    /// All of it.
    pub(super) fn close(self, totals: EventTotals) -> EventSums {
        let rows = self.weights.into_iter().filter(|(_, weight)| *weight > 0);
        let mut rows: Vec<EventRow> = rows.map(|((class, stack), weight)| EventRow { class, stack, weight }).collect();
        rows.sort_by_key(|row| (Reverse(row.weight), row.class, row.stack));
        EventSums { samples: totals.samples, without_stack: totals.without_stack, rows }
    }
}

/// Sums stop at the largest number: only what nobody has counted can come near.
fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

impl EventTotals {
    /// What all samples stand for.
    pub(super) fn weight(self) -> u64 {
        self.weight
    }
}
