//! The locks' switch intervals, which no event tells: read from the target now and then, since programs set them as they go.

use crate::{
    model::{
        ids::LockId,
        profile::LockProfile,
        time::{MonoNanos, Nanos},
    },
    perf::clock,
    source::calls::SharedTranslator,
    target::memory::ProcessMemory,
};

/// Between two readings.
const PAUSE: Nanos = Nanos::from_millis(250);

/// What was read last.
#[derive(Debug)]
pub(super) struct SwitchIntervals {
    /// `None` when the target may not be read, or has just ended.
    memory: Option<ProcessMemory>,
    translator: SharedTranslator,
    known: Intervals,
    next: MonoNanos,
}

/// The interval of each lock, in order of discovery.
#[derive(Debug, Clone, Default)]
pub(super) struct Intervals(Vec<Option<Nanos>>);

impl SwitchIntervals {
    pub(super) fn of(memory: Option<ProcessMemory>, translator: SharedTranslator) -> Self {
        Self { memory, translator, known: Intervals::default(), next: MonoNanos::from_monotonic(0) }
    }

    /// Reads them if that is due. What has been read of a lock stays when it cannot be read any more.
    pub(super) fn look(&mut self) {
        let now = clock::now();
        let Some(memory) = self.memory.as_ref().filter(|_| now >= self.next) else { return };
        self.next = now.later_by(PAUSE);
        let translator = self.translator.borrow();
        self.known.0.resize(translator.seats().len(), None);
        for (index, (known, seat)) in self.known.0.iter_mut().zip(translator.seats()).enumerate() {
            // Any lock but the first may be gone, and its memory another's.
            if index == 0 || known.is_none() {
                *known = seat.switch_interval(memory).or(*known);
            }
        }
    }

    /// What is known by now.
    pub(super) fn known(&self) -> &Intervals {
        &self.known
    }
}

impl Intervals {
    /// Enters them.
    pub(super) fn enter(&self, locks: &mut [LockProfile]) {
        for (id, known) in (0..).map(LockId::from_index).zip(&self.0) {
            if let Some(lock) = locks.iter_mut().find(|lock| lock.id == id) {
                lock.switch_interval = *known;
            }
        }
    }
}
