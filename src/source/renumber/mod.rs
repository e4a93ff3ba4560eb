//! Lock events of a target that numbers its threads in a pid namespace of its own, under the numbers that we know them by.
//!
//! The probe inside the target can only tell its own numbers; the scheduler tells ours. Lock events wait here until the
//! births and deaths before them are known, then get the number of the thread that had theirs at that moment. Invariant: no
//! event is dropped, and none is given to a thread that did not live then; who cannot be told keeps a number of no thread.

mod lives;

use std::{cell::RefCell, io, os::fd::RawFd, rc::Rc};

use rustc_hash::FxHashMap;

use crate::{
    model::{
        event::{Event, What},
        ids::{Pid, Tid},
        time::{MonoNanos, Nanos},
    },
    source::{Pausing, Source, Tally, renumber::lives::Lives},
    target::{process::Status, runtime::threads::inner_ids},
};

/// Numbers above all that the kernel gives: `PID_MAX_LIMIT` is 2²².
const NOBODYS: i32 = 1 << 30;
/// How long after its last event a thread that could not be told from others counts as ended; it was over long before.
const FADES: Nanos = Nanos::from_millis(20);

/// Inner numbers by ours, for whoever shows them.
pub type SharedNumbers = Rc<RefCell<FxHashMap<Tid, i32>>>;

/// Two sources as one: lock events with inner numbers, scheduling with ours.
#[derive(Debug)]
pub struct Renumbered {
    pid: Pid,
    locks: Box<dyn Source>,
    scheduling: Option<Box<dyn Source>>,
    lives: Lives,
    /// Lock events, newer than the watermark.
    held: Vec<Event>,
    /// Threads that could not be told from others, by the number they got, with their last event.
    strangers: Vec<(Tid, MonoNanos)>,
    /// Told of every thread that has taken a step.
    told: SharedNumbers,
}

impl Renumbered {
    /// `locks` tells inner numbers of the threads of `pid`, `scheduling` ours; `told` gets which belong together.
    pub fn new(pid: Pid, locks: Box<dyn Source>, scheduling: Option<Box<dyn Source>>, told: SharedNumbers) -> Self {
        let mut lives = Lives::default();
        let start = MonoNanos::from_monotonic(0);
        let mut there: Vec<_> = inner_ids(pid).into_iter().collect();
        there.sort_unstable();
        there.into_iter().for_each(|(inner, outer)| lives.was_there(outer, inner, start));
        Self { pid, locks, scheduling, lives, held: Vec::new(), strangers: Vec::new(), told }
    }

    /// Follows births and deaths, and asks the kernel for the inner numbers of those that are still alive.
    fn learn(&mut self, events: &[Event]) {
        for event in events {
            match event.what {
                What::Created => self.lives.on_born(event.tid, event.at),
                What::Exited => self.lives.on_ended(event.tid, event.at),
                _ => {}
            }
        }
        for outer in self.lives.nameless() {
            // One that has ended meanwhile is told by its place among the others.
            if let Ok(status) = Status::of_thread(self.pid, outer) {
                self.lives.on_named(outer, status.inner_id);
            }
        }
    }

    fn deliver(&mut self, watermark: MonoNanos, out: &mut Vec<Event>) {
        self.held.sort_by_key(|event| event.at);
        let ready = self.held.partition_point(|event| event.at < watermark);
        let later = self.held.split_off(ready);
        let mut looked = false;
        for mut event in std::mem::replace(&mut self.held, later) {
            let inner = event.tid.raw();
            let mut outer = self.lives.bearer(inner, event.at);
            if outer.is_none() && !std::mem::replace(&mut looked, true) {
                // Births are not told, or were lost.
                inner_ids(self.pid).into_iter().for_each(|(inner, outer)| self.lives.was_there(outer, inner, event.at));
                outer = self.lives.bearer(inner, event.at);
            }
            event.tid = outer.unwrap_or_else(|| self.stranger(&event, out));
            self.told.borrow_mut().insert(event.tid, inner);
            out.push(event);
        }
        self.fade(watermark, out);
        self.lives.forget_before(watermark);
    }

    fn stranger(&mut self, event: &Event, out: &mut Vec<Event>) -> Tid {
        let tid = Tid::from_raw(NOBODYS | event.tid.raw()).unwrap_or(event.tid);
        if let Some((_, last)) = self.strangers.iter_mut().find(|(known, _)| *known == tid) {
            *last = event.at;
        } else {
            self.strangers.push((tid, event.at));
            out.push(Event { at: event.at, tid, what: What::Created });
        }
        tid
    }

    fn fade(&mut self, watermark: MonoNanos, out: &mut Vec<Event>) {
        self.strangers.retain(|(tid, last)| {
            let over = watermark.saturating_since(*last) > FADES;
            if over {
                let at = last.later_by(FADES);
                out.push(Event { at, tid: *tid, what: What::Exited });
            }
            !over
        });
    }
}

impl Source for Renumbered {
    fn drain(&mut self, now: MonoNanos, out: &mut Vec<Event>) -> MonoNanos {
        let first = out.len();
        let known = self.scheduling.as_mut().map_or(now, |scheduling| scheduling.drain(now, out));
        self.learn(&out[first..]);
        let watermark = self.locks.drain(now, &mut self.held).min(known);
        self.deliver(watermark, out);
        watermark
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        let first = out.len();
        self.locks.finish(&mut self.held);
        if let Some(scheduling) = &mut self.scheduling {
            scheduling.finish(out);
        }
        let events = out[first..].to_vec();
        self.learn(&events);
        self.deliver(MonoNanos::from_monotonic(u64::MAX), out);
    }

    fn beside(&self) -> Option<&dyn Source> {
        self.scheduling.as_deref()
    }

    fn beside_mut(&mut self) -> Option<&mut dyn Source> {
        self.scheduling.as_mut().map(|scheduling| &mut **scheduling as &mut dyn Source)
    }

    fn alarms(&self) -> Vec<RawFd> {
        let scheduling = self.scheduling.iter().flat_map(|scheduling| scheduling.alarms());
        self.locks.alarms().into_iter().chain(scheduling).collect()
    }

    fn pause(&mut self) -> Pausing {
        self.locks.pause()
    }

    fn resume(&mut self, waited: &[Tid]) -> io::Result<()> {
        self.locks.resume(waited)
    }

    fn tells_of_parks(&self) -> bool {
        self.locks.tells_of_parks()
    }

    fn remarks(&self) -> Vec<String> {
        let scheduling = self.scheduling.iter().flat_map(|scheduling| scheduling.remarks());
        self.locks.remarks().into_iter().chain(scheduling).collect()
    }

    fn tally(&self) -> Tally {
        let scheduling = self.scheduling.as_ref().map(|scheduling| scheduling.tally());
        scheduling.into_iter().fold(self.locks.tally(), Tally::with)
    }
}
