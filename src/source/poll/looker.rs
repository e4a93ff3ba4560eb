//! The thread that looks: at jittered moments it reads the locks' words and what `/proc` shows of each thread, and tells.
//!
//! It never stops a thread of the target. Who owns a lock is told by one reading of its words; what each thread does, by its own
//! system call a few microseconds later. What that makes of each is decided in `settling`.

mod settling;

use std::{collections::BTreeMap, fs, io, os::unix::fs::MetadataExt};

use rustc_hash::FxHashMap;

use crate::{
    model::{
        address::LiveAddress,
        event::SeenCpu,
        ids::{LockId, Tid},
        time::{MonoNanos, Nanos},
    },
    perf::clock,
    source::poll::{
        look::{Look, Owner},
        looker::settling::{Asked, Candidate, Place, Waited},
    },
    target::{
        discover::Target,
        glance::{Counters, Glance, ThreadFiles},
        lock::{LockReading, LockSeat, LockWords},
        memory::{Memory, MemoryError, ProcessMemory},
        process::{self, Pause},
        runtime::{Runtime, threads::Translation},
        waiters::WaiterCount,
    },
};

/// Threads looked at in one look, beside the owners; of more, each in turn.
const MOST_SEEN: usize = 128;
/// Threads whose files are kept open, three or four each way.
const MOST_OPEN: usize = 256;
/// Between two readings of a thread's counters.
const COUNTERS: Nanos = Nanos::from_millis(10);
/// Between two readings of the lists of threads and locks when nothing tells that they have changed.
const LISTS: Nanos = Nanos::from_millis(100);
/// The same for an owner that is not in the list.
const OWNER_SOUGHT: Nanos = Nanos::from_millis(2);
/// Between two readings of the threads' names.
const NAMES: Nanos = Nanos::from_millis(500);
/// The switch interval of a program that has set none.
const USUAL_INTERVAL: Nanos = Nanos::from_millis(5);

/// Looks at one target.
#[derive(Debug)]
pub(super) struct Looker {
    target: Target,
    memory: ProcessMemory,
    seats: Vec<LockSeat>,
    told_seats: usize,
    /// Who runs which thread state.
    states: FxHashMap<LiveAddress, Tid>,
    /// Whose numbers the target's own are.
    translation: Translation,
    threads: BTreeMap<Tid, Watched>,
    owners: Vec<Owner>,
    readings: Vec<Option<LockReading>>,
    counts: Vec<WaiterCount>,
    links: u64,
    listed: Option<MonoNanos>,
    named: Option<MonoNanos>,
    turn: usize,
    /// How long a waiter waits before it asks the owner to give way.
    interval: Nanos,
}

#[derive(Debug, Default)]
struct Watched {
    files: Option<ThreadFiles>,
    name: Box<str>,
    state: Option<LiveAddress>,
    /// How it was seen to wait at the last look.
    waits: Option<Waited>,
    /// Its counters when it first was awake and might want the lock back.
    pending: Option<Counters>,
    counted: Option<MonoNanos>,
    /// Whether it owned a lock at the last look.
    owns: bool,
    /// When it was last seen not to own a lock.
    not_owner: Option<MonoNanos>,
}

impl Looker {
    /// Looks at nothing yet; the locks known already keep their numbers.
    pub(super) fn new(target: Target, seats: Vec<LockSeat>) -> Result<Self, MemoryError> {
        let memory = ProcessMemory::open(target.pid)?;
        Ok(Self {
            translation: Translation::of(target.pid),
            target,
            memory,
            told_seats: seats.len(),
            seats,
            states: FxHashMap::default(),
            threads: BTreeMap::new(),
            owners: Vec::new(),
            readings: Vec::new(),
            counts: Vec::new(),
            links: 0,
            listed: None,
            named: None,
            turn: 0,
            interval: USUAL_INTERVAL,
        })
    }

    /// Looks once; an error when the process has ended.
    pub(super) fn look(&mut self) -> io::Result<Look> {
        let gone = self.refresh()?;
        let names = self.names();
        let at = clock::now();
        let owners = self.read_owners()?;
        let before = std::mem::replace(&mut self.owners, owners);
        let seen: Vec<Candidate> = self.due(&before).into_iter().filter_map(|tid| self.see(tid, at)).collect();
        let newcomers = self.newcomers();
        let seen = self.settle(seen, &newcomers);
        let seats = self.seats[self.told_seats..].to_vec();
        self.told_seats = self.seats.len();
        Ok(Look { at, owners: self.owners.clone(), seen, gone, names, seats })
    }

    /// The threads that have ended since the last look.
    fn refresh(&mut self) -> io::Result<Vec<Tid>> {
        let links = fs::metadata(format!("/proc/{}/task", self.target.pid))?.nlink();
        let now = clock::now();
        let fresh = self.listed.is_some_and(|listed| now.saturating_since(listed) < LISTS);
        if links == self.links && fresh {
            return Ok(Vec::new());
        }
        (self.links, self.listed) = (links, Some(now));
        let tids = process::threads(self.target.pid)?;
        // A list that is read while threads end may lack others, too.
        let pid = self.target.pid;
        let ended = |tid: &Tid| tids.binary_search(tid).is_err() && !process::exists(pid, *tid);
        let gone: Vec<Tid> = self.threads.keys().copied().filter(ended).collect();
        gone.iter().for_each(|tid| drop(self.threads.remove(tid)));
        for tid in tids {
            self.threads.entry(tid).or_default();
        }
        self.list_locks();
        self.interval =
            self.seats.first().and_then(|seat| seat.switch_interval(&self.memory)).unwrap_or(USUAL_INTERVAL);
        self.list_states();
        Ok(gone)
    }

    fn list_locks(&mut self) {
        for seat in self.target.locks(&self.memory).unwrap_or_default() {
            if !self.seats.iter().any(|known| known.address == seat.address) {
                self.seats.push(seat);
            }
        }
    }

    fn list_states(&mut self) {
        if let Runtime::PyPy(_) = self.target.runtime {
            self.translation = Translation::of(self.target.pid);
            return;
        }
        let Ok(threads) = self.target.threads(&self.memory) else { return };
        self.states.clear();
        for thread in threads {
            self.states.insert(thread.state, thread.tid);
            if let Some(watched) = self.threads.get_mut(&thread.tid) {
                watched.state = Some(thread.state);
            }
        }
    }

    fn names(&mut self) -> Vec<(Tid, Box<str>)> {
        let now = clock::now();
        let all = self.named.is_none_or(|named| now.saturating_since(named) >= NAMES);
        if all {
            self.named = Some(now);
        }
        let mut names = Vec::new();
        for (tid, watched) in self.threads.iter_mut().filter(|(_, watched)| all || watched.name.is_empty()) {
            let name = process::thread_name(self.target.pid, *tid).unwrap_or_default().into_boxed_str();
            if name != watched.name {
                names.push((*tid, name.clone()));
                watched.name = name;
            }
        }
        names
    }

    /// An error when not even the first lock can be read: the process has ended, or runs another program.
    fn read_owners(&mut self) -> io::Result<Vec<Owner>> {
        self.readings = self.seats.iter().map(|seat| seat.read_whole(&self.memory).ok()).collect();
        let words = |reading: &Option<LockReading>| self.owner(reading.map(|reading| reading.words));
        let owners: Vec<Owner> = self.readings.iter().map(words).collect();
        let sought = self.listed.is_none_or(|listed| clock::now().saturating_since(listed) >= OWNER_SOUGHT);
        if owners.contains(&Owner::Unknown) && sought {
            // A thread that has come just now; the list is read anew at the next look.
            self.listed = None;
        }
        if self.readings.first().is_some_and(Option::is_none) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(owners)
    }

    fn owner(&self, words: Option<LockWords>) -> Owner {
        match words {
            None => Owner::Unknown,
            Some(words) if !words.locked => Owner::Nobody,
            Some(words) => self.holder(words.last_holder).map_or(Owner::Unknown, Owner::Thread),
        }
    }

    /// The thread that a lock's word names. A descriptor of PyPy's is asked at each look: libc uses it again for the next thread.
    fn holder(&self, word: LiveAddress) -> Option<Tid> {
        let Runtime::PyPy(pypy) = &self.target.runtime else { return self.states.get(&word).copied() };
        let tid = self.translation.outer(pypy.inner_tid(&self.memory, word)?)?;
        self.threads.contains_key(&tid).then_some(tid)
    }

    /// The threads to look at now: the owners, those that were, and others in turn.
    fn due(&mut self, before: &[Owner]) -> Vec<Tid> {
        let mut due: Vec<Tid> = self.owners.iter().chain(before).filter_map(|owner| owner.thread()).collect();
        let start = if self.threads.len() > MOST_SEEN { self.turn % self.threads.len() } else { 0 };
        self.turn = start + MOST_SEEN;
        due.extend(self.threads.keys().cycle().skip(start).take(self.threads.len().min(MOST_SEEN)));
        due.sort_unstable();
        due.dedup();
        due.retain(|tid| self.threads.contains_key(tid));
        due
    }

    fn see(&mut self, tid: Tid, at: MonoNanos) -> Option<Candidate> {
        let crowded = self.threads.len() > MOST_OPEN;
        let watched = self.threads.get_mut(&tid)?;
        let files = match watched.files.take() {
            Some(files) => files,
            None => ThreadFiles::open(self.target.pid, tid).ok()?,
        };
        let glance = files.glance().ok()?;
        let (counted, waited, pending) = (watched.counted, watched.waits, watched.pending);
        let place = self.place(tid, glance);
        let is_due = counted.is_none_or(|counted| at.saturating_since(counted) >= COUNTERS);
        let may_wait = matches!(place, Place::Waiting(_) | Place::AtMutex | Place::Awake) || waited.is_some();
        let may_wait = may_wait || pending.is_some();
        let counters = if may_wait || is_due { files.counters() } else { None };
        let watched = self.threads.get_mut(&tid)?;
        if counters.is_some() {
            watched.counted = Some(at);
        }
        watched.files = (!crowded).then_some(files);
        // Who holds the lock for less is not asked to give way.
        let for_long = watched.not_owner.is_some_and(|then| at.saturating_since(then) >= self.interval);
        let asked = if !for_long {
            Asked::No
        } else if watched.owns {
            Asked::Perhaps
        } else {
            Asked::Unseen
        };
        watched.owns = matches!(place, Place::Inside(_));
        if !watched.owns {
            watched.not_owner = Some(at);
        }
        Some(Candidate { tid, place, cpu: glance.cpu, counters, waited, pending, asked })
    }

    /// What the moment tells.
    fn place(&self, tid: Tid, glance: Glance) -> Place {
        if let Some(index) = self.owners.iter().position(|owner| *owner == Owner::Thread(tid)) {
            return Place::Inside(lock_id(index));
        }
        if let Some(Pause::Futex(word)) = glance.pause {
            if let Some(index) = self.seats.iter().position(|seat| seat.is_waited_for_at(word)) {
                return Place::Waiting(lock_id(index));
            }
            if self.seats.iter().any(|seat| seat.has_mutex_at(word)) {
                return Place::AtMutex;
            }
        }
        if let ([_], Some(true)) = (self.seats.as_slice(), self.wants(tid)) {
            return Place::Waiting(lock_id(0));
        }
        if self.owners.contains(&Owner::Unknown) || glance.pause.is_none() {
            return Place::Unknown;
        }
        if glance.cpu == SeenCpu::Runnable { Place::Awake } else { Place::Elsewhere }
    }

    /// What the thread itself says (from CPython 3.15 on).
    fn wants(&self, tid: Tid) -> Option<bool> {
        let Runtime::CPython(python) = &self.target.runtime else { return None };
        let offset = python.layout.thread.wants_lock?;
        let state = self.threads.get(&tid)?.state?;
        self.memory.read_u32(state.plus(offset)).ok().map(|word| word != 0)
    }

    /// Who has acquired a lock while we looked.
    fn newcomers(&self) -> Vec<Tid> {
        let now = self.seats.iter().map(|seat| self.owner(seat.read(&self.memory).ok()));
        now.filter(|owner| !self.owners.contains(owner)).filter_map(Owner::thread).collect()
    }
}

fn lock_id(index: usize) -> LockId {
    LockId::from_index(u32::try_from(index).expect("locks are bounded by the target's list"))
}
