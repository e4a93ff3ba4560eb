//! Names for recorded stacks: read from the target's memory as soon as a stack arrives, and again now and then, since code
//! objects die and their addresses are used again.

use rustc_hash::FxHashMap;

use crate::{
    model::{
        machine::MachineState,
        recorded::RecordedStack,
        stack::StackId,
        time::{MonoNanos, Nanos},
    },
    perf::clock,
    session::{
        joiner::{Moment, SharedJoiner},
        stacks::{SharedStacks, keep},
    },
    stack::resolver::Resolver,
};

/// Frames of the recorded stacks remembered at a time.
const REMEMBERED: usize = 1 << 19;
/// How long what was found out about a recorded stack is believed without looking again at its code objects.
const BELIEVED: Nanos = Nanos::from_millis(20);

/// Puts recorded stacks of one target into the table.
#[derive(Debug)]
pub(super) struct Namer {
    resolver: Resolver,
    stacks: SharedStacks,
    joiner: Option<SharedJoiner>,
    known: FxHashMap<RecordedStack, Known>,
    /// Frames of all that are known.
    remembered: usize,
}

#[derive(Debug)]
struct Known {
    /// `None` if it could not be believed.
    stack: Option<StackId>,
    until: MonoNanos,
}

impl Namer {
    pub(super) fn new(resolver: Resolver, stacks: SharedStacks, joiner: Option<SharedJoiner>) -> Self {
        Self { resolver, stacks, joiner, known: FxHashMap::default(), remembered: 0 }
    }

    /// The same as [`Namer::name`] for a sample, with native frames if they are wanted.
    pub(super) fn name_sample(&mut self, recorded: &RecordedStack, state: Option<&MachineState>) -> Option<StackId> {
        let Some(joiner) = &self.joiner else { return self.name(recorded) };
        let script = self.resolver.resolve_script(recorded);
        let whole = match state {
            Some(state) => joiner.borrow_mut().join((state, Moment::Same), script),
            None => joiner.borrow_mut().leave_apart(script),
        };
        keep(whole, &mut self.stacks.borrow_mut())
    }

    /// The place of `recorded`; `None` when it cannot be believed.
    pub(super) fn name(&mut self, recorded: &RecordedStack) -> Option<StackId> {
        let now = clock::now();
        if let Some(known) = self.known.get(recorded).filter(|known| now < known.until) {
            return known.stack;
        }
        let stack = keep(self.resolver.resolve(recorded), &mut self.stacks.borrow_mut());
        if self.remembered >= REMEMBERED {
            self.known.clear();
            self.remembered = 0;
        }
        let known = self.known.insert(recorded.clone(), Known { stack, until: now.later_by(BELIEVED) });
        self.remembered += if known.is_none() { recorded.frames.len() + 1 } else { 0 };
        stack
    }
}
