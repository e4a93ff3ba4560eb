//! What the user wants counted: gilscope's own counters, and events of the kernel's perf subsystem.

use crate::{
    model::counts::{Counters, GoneEvent, Slot},
    perf::events::{CountedEvent, missing},
};

pub use crate::perf::events::EventError;

/// What is to be counted of each thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chosen {
    /// Of gilscope's own counters.
    pub own: Counters,
    /// Events, each at its place; at most [`Slot::COUNT`].
    pub events: &'static [CountedEvent],
    /// Events that were chosen, too, and cannot be counted here.
    pub gone: &'static [GoneEvent],
}

/// One event that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenEvent(CountedEvent);

impl ChosenEvent {
    /// The event of this name, whether or not this machine has it.
    pub fn named(name: &str) -> Result<Self, EventError> {
        CountedEvent::named(name).map(Self)
    }

    /// How it was named.
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

/// Names that an event can have, for people.
pub const KNOWN_EVENTS: &str = crate::perf::events::KNOWN;

impl Chosen {
    /// `own` and `events`, each once. They are chosen once for the whole life of this process.
    pub fn these(own: Counters, events: Vec<ChosenEvent>) -> Self {
        let mut each: Vec<CountedEvent> = Vec::new();
        for ChosenEvent(event) in events {
            if !each.iter().any(|earlier| earlier.name == event.name) {
                each.push(event);
            }
        }
        debug_assert!(each.len() <= Slot::COUNT, "the command line refuses more");
        Self { own, events: Vec::leak(each), gone: &[] }
    }

    /// The same once each event has been tried: only those that this machine and this user can count are left.
    #[must_use]
    pub(super) fn tried(self) -> Self {
        let (mut there, mut gone) = (Vec::new(), self.gone.to_vec());
        for event in self.events {
            match event.clone().tried() {
                Ok(event) => there.push(event),
                Err(why) => gone.push(GoneEvent { name: event.name.clone(), why: missing(&why) }),
            }
        }
        Self { events: Vec::leak(there), gone: Vec::leak(gone), ..self }
    }

    /// Everything that is wanted.
    pub(super) fn all(self) -> Counters {
        self.own.with(Counters::measured(self.events.len()))
    }
}
