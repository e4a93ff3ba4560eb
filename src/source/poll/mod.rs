//! The source `poll`: a thread of ours looks at the locks' words and at what `/proc` shows of each thread, about a thousand
//! times a second.
//!
//! It needs the right to read the target's memory and nothing else, and it is statistical: what lies between two looks was not
//! seen. Its times are estimates, and it cannot count holds or waits.

mod look;
mod looker;
mod retell;
mod timetable;

use std::{
    cell::RefCell,
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
    estimate::book::LookBook,
    model::{
        event::Event,
        ids::Tid,
        time::{MonoNanos, Nanos},
    },
    perf::{clock, pace},
    source::{
        Source, Tally,
        calls::SharedTranslator,
        poll::{look::Look, looker::Looker, retell::Retelling, timetable::Timetable},
    },
    target::{discover::Target, memory::MemoryError},
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
    book: SharedBook,
    translator: SharedTranslator,
    main: Tid,
    first: MonoNanos,
    ended: bool,
}

#[derive(Debug, Default)]
struct Control {
    stop: AtomicBool,
    /// CPU time spent looking, in nanoseconds.
    spent: AtomicU64,
}

impl PollSource {
    /// Looks once, to see that it can be done, and goes on looking from a thread of its own.
    pub fn start(target: &Target, translator: SharedTranslator, period: Nanos) -> Result<Self, PollError> {
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
        Ok(Self {
            looks,
            looking: Some(looking),
            control,
            retelling: Retelling::default(),
            book: SharedBook::default(),
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

    fn tell(&mut self, out: &mut Vec<Event>) {
        loop {
            match self.looks.try_recv() {
                Ok(look) => {
                    look.seats.iter().for_each(|seat| self.translator.borrow_mut().enter(seat.clone()));
                    self.retelling.take(look, self.main, &mut self.book.borrow_mut(), out);
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
}

impl Source for PollSource {
    fn drain(&mut self, now: MonoNanos, out: &mut Vec<Event>) -> MonoNanos {
        self.tell(out);
        // When the process has ended there will be no other look.
        if self.ended { now } else { self.retelling.told_until().unwrap_or(MonoNanos::from_monotonic(0)) }
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        self.control.stop.store(true, Ordering::Relaxed);
        if let Some(looking) = self.looking.take() {
            // It has nothing left to say, however it ended.
            let _ = looking.join();
        }
        self.tell(out);
        self.retelling.finish(self.main, &mut self.book.borrow_mut(), out);
        self.book.borrow_mut().note_cost(Nanos::from_nanos(self.control.spent.load(Ordering::Relaxed)));
    }

    fn tally(&self) -> Tally {
        Tally::default()
    }
}
