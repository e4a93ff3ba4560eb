//! The event that was sampled, in JSON.

use crate::{
    model::{
        sampled_event::{EventProfile, EventUnit, Pace},
        stack::StackTable,
        state::StateClass,
    },
    report::{json::stack, schema},
};

pub(super) fn document<'a>(profile: &'a EventProfile, stacks: &'a StackTable) -> schema::Event<'a> {
    let EventProfile { event, sums, counted } = profile;
    let (period, frequency_hz) = match event.pace {
        Pace::Period(period) => (Some(period), None),
        Pace::Frequency(hertz) => (None, Some(hertz)),
    };
    schema::Event {
        name: &event.name,
        unit: match event.unit {
            EventUnit::Times => "count",
            EventUnit::Nanos => "ns",
        },
        period,
        frequency_hz,
        instead_of: event.instead_of.as_ref().map(|gone| gone.name.as_str()),
        why: event.instead_of.as_ref().map(|gone| gone.why.as_str()),
        samples: sums.samples,
        without_stack: sums.without_stack,
        sampled: sums.total(),
        counted: *counted,
        classes: schema::Named(StateClass::ALL.map(|class| (class.name(), sums.class(class))).to_vec()),
        stacks: sums
            .rows
            .iter()
            .map(|row| schema::EventStack {
                class: row.class.name(),
                sampled: row.weight,
                stack: stack(stacks, row.stack),
            })
            .collect(),
    }
}
