//! The event that the user wants sampled, and what stands in for one that cannot be.

use std::io;

use crate::{
    model::{
        counts::GoneEvent,
        sampled_event::{Pace, SampledEvent},
    },
    perf::{
        event_clock::EventClock,
        events::{CountedEvent, missing},
        limits::most_samples,
    },
    session::chosen::EventError,
};

/// Stands in, as it does for `perf`.
const STAND_IN: &str = "task-clock";
/// Its pace where a period of the other event was wanted, which means nothing to it.
const USUAL: Pace = Pace::Frequency(EventChoice::USUAL_FREQUENCY);

/// An event that is to be sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventChoice {
    event: &'static CountedEvent,
    pace: Pace,
    instead_of: Option<&'static GoneEvent>,
}

impl EventChoice {
    /// Samples a second, of each thread while the event counts, if the user does not say.
    pub const USUAL_FREQUENCY: u32 = 999;

    /// The event of this name, whether or not this machine has it, at this pace. It is chosen once for the whole life of this
    /// process.
    pub fn named(name: &str, pace: Pace) -> Result<Self, EventError> {
        let event: &'static CountedEvent = Box::leak(Box::new(CountedEvent::sampled_named(name)?));
        Ok(Self { event, pace, instead_of: None })
    }

    /// How it was named.
    pub fn name(self) -> &'static str {
        &self.event.name
    }

    /// The same once it has been tried: it, or what stands in for it.
    #[must_use]
    pub(super) fn tried(self) -> Self {
        let pace = within(self.pace, most_samples());
        Self { pace, ..self }.or_stand_in()
    }

    fn or_stand_in(self) -> Self {
        match possible(self.event, self.pace) {
            Ok(event) => Self { event: Box::leak(Box::new(event)), ..self },
            Err(why) => {
                let gone: &'static GoneEvent = Box::leak(Box::new(GoneEvent { name: self.event.name.clone(), why }));
                let stand_in = CountedEvent::sampled_named(STAND_IN).expect("the kernel's own clock has a name");
                let pace = if let Pace::Frequency(_) = self.pace { self.pace } else { USUAL };
                // Where not even that can be sampled, whoever tries says why.
                let event = possible(&stand_in, pace).unwrap_or(stand_in);
                Self { event: Box::leak(Box::new(event)), pace, instead_of: Some(gone) }
            }
        }
    }

    /// Whether a sample is taken whenever the event has counted so much.
    pub(super) fn has_period(self) -> bool {
        matches!(self.pace, Pace::Period(_))
    }

    /// What is to be opened.
    pub(super) fn clock(self) -> EventClock {
        EventClock::new(self.event, self.pace)
    }

    /// What a profile says of it.
    pub(super) fn described(self) -> SampledEvent {
        let clock = self.clock();
        SampledEvent {
            name: self.event.name.clone(),
            unit: clock.unit(),
            pace: clock.pace(),
            instead_of: self.instead_of.cloned(),
        }
    }

    /// What the reader should know before all else.
    pub(super) fn note(self) -> Option<String> {
        let told = |gone: &GoneEvent| {
            format!("{} cannot be sampled: {}; {} is, in its place", gone.name, gone.why, self.event.name)
        };
        let raised = match (self.pace, self.clock().pace()) {
            (Pace::Period(wanted), Pace::Period(period)) if wanted != period => Some(format!(
                "the kernel's clocks tick every 10 µs at the most: a sample every {period} ns, not {wanted}"
            )),
            _ => None,
        };
        self.instead_of.map(told).or(raised)
    }
}

/// No more samples a second than the kernel takes of anybody.
fn within(pace: Pace, most: Option<u32>) -> Pace {
    match (pace, most) {
        (Pace::Frequency(wanted), Some(most)) => Pace::Frequency(wanted.min(most).max(1)),
        _ => pace,
    }
}

/// The event as it can be sampled here: in the program's own code alone where the kernel's may not be looked at, unless it happens
/// there alone.
fn possible(event: &CountedEvent, pace: Pace) -> Result<CountedEvent, String> {
    let tried = |event: CountedEvent| EventClock::new(&event, pace).is_possible().map(|()| event);
    let words = |why: io::Error| missing(&why);
    match tried(event.clone()) {
        Ok(event) => Ok(event),
        Err(why) => match event.in_program_alone(&why) {
            Some(narrowed) => tried(narrowed).map_err(words),
            None => Err(words(why)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{EventChoice, within};
    use crate::model::sampled_event::{EventUnit, Pace};

    #[test]
    fn what_the_kernel_counts_by_itself_is_sampled_as_it_was_named() {
        let choice = EventChoice::named("page-faults", Pace::Period(7)).unwrap();
        let event = choice.described();
        assert_eq!((event.name.as_str(), event.unit, event.pace), ("page-faults", EventUnit::Times, Pace::Period(7)));
        assert_eq!(choice.note(), None);
    }

    #[test]
    fn clocks_tick_no_faster_than_the_kernel_lets_them() {
        let choice = EventChoice::named("task-clock", Pace::Period(1)).unwrap();
        assert_eq!((choice.described().unit, choice.described().pace), (EventUnit::Nanos, Pace::Period(10_000)));
        assert!(choice.note().unwrap().contains("10 µs"));
    }

    #[test]
    fn more_samples_than_the_kernel_takes_are_not_asked_for() {
        assert_eq!(within(Pace::Frequency(5_000), Some(1_000)), Pace::Frequency(1_000));
        assert_eq!(within(Pace::Frequency(500), Some(1_000)), Pace::Frequency(500));
        assert_eq!(within(Pace::Period(5_000), Some(1_000)), Pace::Period(5_000));
    }

    /// No machine has this one; the period was meant for it.
    #[test]
    fn what_cannot_be_sampled_is_replaced_by_time_and_says_why() {
        let choice = EventChoice::named("rffffffffffff", Pace::Period(5)).unwrap().tried();
        let event = choice.described();
        assert_eq!((event.unit, event.pace), (EventUnit::Nanos, Pace::Frequency(EventChoice::USUAL_FREQUENCY)));
        assert_eq!(event.instead_of.unwrap().name, "rffffffffffff");
        assert!(choice.note().unwrap().contains("in its place"));
    }
}
