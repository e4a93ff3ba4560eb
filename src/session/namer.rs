//! Names for the stacks that the in-target probe notes: read from the target's memory as soon as a stack arrives, and
//! again now and then, since code objects die and their addresses are used again.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::{
    model::stack::StackId,
    session::stacks::{SharedStacks, keep},
    source::{calls::SharedTranslator, preload::NameStacks},
    stack::reader::StackReader,
    target::{lock::LockSeat, trail::Trail},
};

/// Names are believed that long.
const BELIEVED: Duration = Duration::from_millis(50);
/// Stacks remembered at the most.
const REMEMBERED: usize = 1 << 14;

/// Gives names to stacks of one target.
pub(super) struct Namer {
    reader: StackReader,
    stacks: SharedStacks,
    translator: SharedTranslator,
    named: FxHashMap<Trail, (Option<StackId>, Instant)>,
}

impl Namer {
    pub(super) fn new(reader: StackReader, stacks: SharedStacks, translator: SharedTranslator) -> Self {
        Self { reader, stacks, translator, named: FxHashMap::default() }
    }
}

impl NameStacks for Namer {
    fn name(&mut self, trail: &Trail) -> Option<StackId> {
        let now = Instant::now();
        let known = self.named.get(trail).filter(|(_, when)| now.duration_since(*when) < BELIEVED);
        if let Some((stack, _)) = known {
            return *stack;
        }
        let stack = keep(self.reader.name(trail), &mut self.stacks.borrow_mut());
        if self.named.len() >= REMEMBERED {
            self.named.clear();
        }
        self.named.insert(trail.clone(), (stack, now));
        stack
    }

    fn locks_after(&self, known: usize) -> Vec<LockSeat> {
        self.translator.borrow().seats().get(known..).unwrap_or_default().to_vec()
    }
}
