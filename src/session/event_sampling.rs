//! Begins to sample the event that the user wants, with whichever source can.

use std::{cell::RefCell, rc::Rc};

use crate::{
    model::ids::Tid,
    session::{
        event_choice::EventChoice,
        running::causes,
        stacks::{SharedStacks, keep},
    },
    source::{
        Source,
        sampling::{EventRefused, OnEvent},
    },
    stack::{Motion, reader::StackReader},
    target::{discover::Target, memory::ProcessMemory},
};

/// The event, if one of `sources` samples it from now on; else a note says why none does.
pub(super) fn begin(
    choice: EventChoice,
    sources: &mut [Box<dyn Source>],
    (target, stacks): (&Target, &SharedStacks),
    notes: &mut Vec<String>,
) -> Option<EventChoice> {
    let on_event = on_event(target, stacks);
    notes.extend(choice.note());
    let mut refused = EventRefused::NotHere;
    for source in sources {
        match source.sample_event(choice.clock(), Rc::clone(&on_event)) {
            Ok(()) => return Some(choice),
            Err(EventRefused::NotHere) => {}
            Err(why) => refused = why,
        }
    }
    notes.push(format!("{} is not sampled: {}", choice.name(), causes(&refused)));
    None
}

fn on_event(target: &Target, stacks: &SharedStacks) -> OnEvent {
    // A target without memory has just ended.
    let memory = ProcessMemory::open(target.pid).ok();
    let mut reader = memory.and_then(|memory| StackReader::new(target, Box::new(memory)));
    let stacks = Rc::clone(stacks);
    Rc::new(RefCell::new(move |tid: Tid| {
        let read = reader.as_mut()?.read(tid, Motion::Moving);
        keep(read, &mut stacks.borrow_mut())
    }))
}
