//! An event of every thread of the target, at each sample of which a program in the kernel reads the thread's stack.
//!
//! Each thread that is there gets an event of its own, and new threads inherit that of whoever creates them, program included. A
//! thread born between the opening of an event and its link would inherit one without: so when threads have come meanwhile,
//! all is done again.

use std::io;

use perf_event::Counter;
use rustc_hash::FxHashSet;

use crate::{
    bpf::loaded::Link,
    model::ids::{Pid, Tid},
    perf::{event_clock::EventClock, limits::allow_more_files, open::Manner, stream::threads_of},
    source::{bpf::programs::Programs, sampling::EventRefused},
};

/// How often all is done again; threads that come as fast as that are short-lived, and what is left out is theirs alone.
const ATTEMPTS: usize = 8;

/// The events of all threads. They end with this.
#[derive(Debug)]
pub(super) struct ThreadEvents {
    pid: Pid,
    clock: EventClock,
    manner: Manner,
    /// Links before what they are made to.
    events: Vec<(Link, Counter)>,
    /// What events that are closed have counted; `None`: one of them could not be asked.
    counted: Option<u64>,
}

impl ThreadEvents {
    /// Begins to sample.
    pub(super) fn begin(programs: &mut Programs, pid: Pid, clock: EventClock) -> Result<Self, EventRefused> {
        programs.load_event().map_err(Box::new).map_err(EventRefused::Programs)?;
        let mut this = Self { pid, clock, manner: Manner::best(), events: Vec::new(), counted: Some(0) };
        this.open_all(programs)?;
        Ok(this)
    }

    /// Samples so many times more rarely than at first.
    pub(super) fn slow(&mut self, programs: &Programs, times: u32) -> Result<(), EventRefused> {
        let at_first = self.clock;
        self.clock = at_first.slowed(times);
        let opened = self.open_all(programs);
        self.clock = at_first;
        opened
    }

    /// What the event has counted once it is sampled no more; `None` when that is not known.
    pub(super) fn counted(&self) -> Option<u64> {
        self.counted.filter(|_| self.events.is_empty())
    }

    /// Samples no more.
    pub(super) fn stop(&mut self) {
        self.events.iter_mut().for_each(|(_, event)| drop(event.disable()));
        let counts = self.events.iter_mut().map(|(_, event)| event.read());
        let more = counts.sum::<io::Result<u64>>().ok();
        self.counted = self.counted.zip(more).map(|(before, more)| before + more);
        self.events.clear();
    }

    fn open_all(&mut self, programs: &Programs) -> Result<(), EventRefused> {
        let pid = self.pid;
        let list = || threads_of(pid).map(FxHashSet::from_iter).map_err(EventRefused::Perf);
        let mut listed: FxHashSet<Tid> = list()?;
        for _ in 0..ATTEMPTS {
            self.stop();
            // An event and a link each.
            allow_more_files(2 * listed.len()).map_err(EventRefused::Perf)?;
            let events: Vec<_> = listed.iter().map(|tid| self.open(programs, *tid)).collect::<Result<_, _>>()?;
            self.events = events.into_iter().flatten().collect();
            let now = list()?;
            if now.is_subset(&listed) {
                break;
            }
            listed = now;
        }
        Ok(())
    }

    /// `None` for a thread that has ended.
    fn open(&self, programs: &Programs, tid: Tid) -> Result<Option<(Link, Counter)>, EventRefused> {
        let mut event = match self.clock.open_on(tid, self.manner) {
            Err(gone) if gone.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            opened => opened.map_err(EventRefused::Event)?,
        };
        let link = programs.link_event(&event).map_err(Box::new).map_err(EventRefused::Programs)?;
        event.enable().map_err(EventRefused::Event)?;
        Ok(Some((link, event)))
    }
}
