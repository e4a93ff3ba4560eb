//! The source `poll`: a thread of ours looks at the locks' words and at what `/proc` shows of each thread, about a thousand
//! times a second.
//!
//! It needs the right to read the target's memory and nothing else, and it is statistical: what lies between two looks was not
//! seen. Its times are estimates, and it cannot count holds or waits. Of PyPy's lock it can take the waits exactly beside that.

mod course;
mod look;
mod looker;
mod retell;
mod timetable;
pub mod waits;

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, TryRecvError, channel},
    },
    thread::{self, JoinHandle},
};

use crate::{
    estimate::book::{LookBook, Waits},
    model::{
        event::{Event, What},
        ids::{Pid, Tid},
        time::{MonoNanos, Nanos},
    },
    perf::{clock, pace},
    source::{
        Source, Tally,
        calls::SharedTranslator,
        poll::{
            course::Course, look::Look, looker::Looker, retell::Retelling, timetable::Timetable, waits::ExactWaits,
        },
    },
    target::{discover::Target, memory::MemoryError, process},
};

/// Looks a second: a thread of the usual kind waits for a switch interval of 5 ms, and a look at ten threads takes 20 µs.
pub const RATE: u32 = 1_000;

/// Why nothing can be looked at.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// The target's memory cannot be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The first look failed.
    #[error("cannot look at the threads of the process")]
    Look(#[source] io::Error),
    /// No thread could be started.
    #[error("cannot start a thread to look from")]
    Thread(#[source] io::Error),
}

/// What the looks of a recording have seen, shared with who puts the profile together.
pub type SharedBook = Rc<RefCell<LookBook>>;

/// Looks as a source of events.
#[derive(Debug)]
pub struct PollSource {
    looks: Receiver<Look>,
    looking: Option<JoinHandle<()>>,
    control: Arc<Control>,
    retelling: Retelling,
    beside: Option<Beside>,
    book: SharedBook,
    translator: SharedTranslator,
    main: Tid,
    first: MonoNanos,
    ended: bool,
}

/// Waits that are taken exactly, and what they and the looks come to together.
#[derive(Debug)]
struct Beside {
    waits: ExactWaits,
    course: Course,
    /// Looks that steps before them may still come for.
    looks: VecDeque<Look>,
    pid: Pid,
}

#[derive(Debug, Default)]
struct Control {
    stop: AtomicBool,
    /// CPU time spent looking, in nanoseconds.
    spent: AtomicU64,
}

impl PollSource {
    /// Looks once, to see that it can be done, and goes on looking from a thread of its own. `waits` are taken exactly.
    pub fn start(
        target: &Target,
        translator: SharedTranslator,
        period: Nanos,
        waits: Option<ExactWaits>,
    ) -> Result<Self, PollError> {
        let mut looker = Looker::new(target.clone(), translator.borrow().seats().to_vec())?;
        let first = looker.look().map_err(PollError::Look)?;
        let at = first.at;
        let (tell, looks) = channel();
        let control = Arc::new(Control::default());
        let shared = Arc::clone(&control);
        let mut last = Some(first);
        let go_on = move || {
            pace::be_prompt();
            let mut timetable = Timetable::new(period);
            let mut spent = clock::cpu_of_thread().unwrap_or_default();
            while let Some(look) = last.take() {
                // Nobody listens any more: the recording is over.
                if tell.send(look).is_err() || shared.stop.load(Ordering::Relaxed) {
                    return;
                }
                let now = clock::cpu_of_thread().unwrap_or_default();
                shared.spent.store(now.as_nanos(), Ordering::Relaxed);
                thread::sleep(timetable.until_next(now.saturating_sub(spent)));
                spent = now;
                last = looker.look().ok();
            }
        };
        let looking =
            thread::Builder::new().name("gilscope-poll".to_owned()).spawn(go_on).map_err(PollError::Thread)?;
        let known_from = if waits.is_some() { Waits::Events } else { Waits::Looks };
        let beside = |waits| Beside { waits, course: Course::default(), looks: VecDeque::new(), pid: target.pid };
        Ok(Self {
            looks,
            looking: Some(looking),
            control,
            retelling: Retelling::default(),
            beside: waits.map(beside),
            book: Rc::new(RefCell::new(LookBook::with(known_from))),
            translator,
            main: target.pid.main_thread(),
            first: at,
            ended: false,
        })
    }

    /// When the first look was taken: nothing is known of the time before.
    pub fn first_look(&self) -> MonoNanos {
        self.first
    }

    /// What the looks see, also after the source has ended.
    pub fn book(&self) -> SharedBook {
        Rc::clone(&self.book)
    }

    /// Takes the looks that have come.
    fn tell(&mut self, out: &mut Vec<Event>) {
        loop {
            match self.looks.try_recv() {
                Ok(look) => {
                    look.seats.iter().for_each(|seat| self.translator.borrow_mut().enter(seat.clone()));
                    match &mut self.beside {
                        Some(beside) => beside.looks.push_back(look),
                        None => self.retelling.take(look, self.main, &mut self.book.borrow_mut(), out),
                    }
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.retelling.finish(self.main, &mut self.book.borrow_mut(), out);
                    self.ended = true;
                    return;
                }
            }
        }
    }

    /// Tells the looks for which all steps before them have arrived.
    fn tell_beside(&mut self, out: &mut Vec<Event>) {
        let Some(Beside { waits, course, looks, pid }) = &mut self.beside else { return };
        while looks.front().is_some_and(|look| look.at <= waits.complete_until()) {
            let Some(mut look) = looks.pop_front() else { return };
            course.tell(&waits.until(look.at), &mut look, |tid| process::exists(*pid, tid), out);
            self.retelling.take_told(&look, self.main, &mut self.book.borrow_mut(), out);
        }
    }
}

impl Beside {
    fn drain(&mut self, now: MonoNanos, out: &mut Vec<Event>) {
        let before = out.len();
        self.waits.drain(now, out);
        self.note_losses(&out[before..]);
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        let before = out.len();
        self.waits.finish(out);
        self.note_losses(&out[before..]);
    }

    fn note_losses(&mut self, events: &[Event]) {
        let lost = events.iter().filter(|event| matches!(event.what, What::LostLock(_)));
        lost.for_each(|event| self.course.lose(event.tid));
    }
}

impl Source for PollSource {
    fn drain(&mut self, now: MonoNanos, out: &mut Vec<Event>) -> MonoNanos {
        self.tell(out);
        if let Some(beside) = &mut self.beside {
            beside.drain(now, out);
        }
        self.tell_beside(out);
        // When the process has ended there will be no other look.
        // But steps may still be told that were taken before.
        if self.ended && self.beside.is_none() {
            now
        } else {
            self.retelling.told_until().unwrap_or(MonoNanos::from_monotonic(0))
        }
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        self.control.stop.store(true, Ordering::Relaxed);
        if let Some(looking) = self.looking.take() {
            // It has nothing left to say, however it ended.
            let _ = looking.join();
        }
        self.tell(out);
        if let Some(beside) = &mut self.beside {
            beside.finish(out);
        }
        self.tell_beside(out);
        if let Some(Beside { waits, course, .. }) = &mut self.beside {
            course.finish(&waits.until(MonoNanos::from_monotonic(u64::MAX)), out);
        }
        self.retelling.finish(self.main, &mut self.book.borrow_mut(), out);
        self.book.borrow_mut().note_cost(Nanos::from_nanos(self.control.spent.load(Ordering::Relaxed)));
    }

    fn tally(&self) -> Tally {
        self.beside.as_ref().map_or_else(Tally::default, |beside| beside.waits.tally())
    }
}
