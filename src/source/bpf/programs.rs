//! The programs in the kernel, and what they are told: places, locks, foreign condition variables, the target.

use std::os::fd::AsRawFd;

use crate::{
    bpf::{
        btf::KernelTypes,
        error::BpfError,
        image::Image,
        kernel::{self, Home},
        loaded::{Link, Loaded, Moment, Place},
        map::Existing,
        ring::Ring,
    },
    model::{
        address::LiveAddress,
        ids::{Pid, Tid},
        machine::MachineSample,
        time::Nanos,
    },
    perf::{
        events::CountedEvent,
        sampling::{SamplingClock, Taken},
    },
    source::bpf::{
        config::{Config, Metered},
        counters::Counters,
        error::BpfSourceError,
        record::{cookie, park_cookie},
    },
    target::{
        lock::{InterpreterThread, LockSeat},
        memory::Memory,
        runtime::threads::{Numbering, numbering},
        site::{Register, Site, SleepSite},
    },
};

/// The object that `probes/bpf/build` makes.
#[cfg(target_arch = "x86_64")]
const OBJECT: &[u8] = include_bytes!("../../../probes/bpf/gilscope.bpf.o");
#[cfg(not(target_arch = "x86_64"))]
const OBJECT: &[u8] = &[];

const ON_CALL: &str = "on_call";
const ON_TICK: &str = "on_tick";
const ON_PARK: &str = "on_park";
const ON_METERED_CALL: &str = "on_metered_call";
const ON_SWITCH: &str = "on_switch";
const ON_EXIT: &str = "on_exit";
const ON_UNPARK: &str = "on_unpark";
const ON_EVENT: &str = "on_event";

/// What an address is to a lock, in the programs' numbering.
const COND: u32 = 0;
const SWITCH_COND: u32 = 1;
const WHOLE_LOCK: u32 = 2;
/// In what the programs keep of a thread: the lock that it wants.
const WANTS: std::ops::Range<usize> = 16..24;

/// Programs in the kernel. They run no longer than this exists.
#[derive(Debug)]
pub(super) struct Programs {
    // Before what they use.
    clocks: Vec<(Link, SamplingClock)>,
    links: Vec<Link>,
    /// Whether they run at none of their sites for now.
    has_left: bool,
    /// Those that stay whatever else is left out.
    sleeps: Vec<Link>,
    /// Where they run, and for whom; also while they do not.
    watched: Vec<(Vec<Site>, Pid)>,
    metering: Option<PerCpu>,
    loaded: Loaded,
    home: Home,
    /// Locks that the programs know.
    entered: usize,
}

/// Counters that are read at lock events.
#[derive(Debug)]
struct PerCpu {
    // Before the counters.
    links: Vec<Link>,
    counters: Counters,
    pid: Pid,
    metered: Metered,
}

impl PerCpu {
    fn enter(&self, config: Config) -> Config {
        config.metering(self.pid, self.metered)
    }
}

impl Programs {
    /// Loads them; they run nowhere yet.
    pub(super) fn load() -> Result<(Self, Ring), BpfSourceError> {
        if OBJECT.is_empty() {
            return Err(BpfError::NoObject.into());
        }
        Self::of(&Image::parse(OBJECT)?)
    }

    fn of(image: &Image) -> Result<(Self, Ring), BpfSourceError> {
        let home = kernel::check()?;
        let loaded = Loaded::load(image, &[ON_CALL, ON_TICK])?;
        let ring = Ring::map(loaded.map("events")?)?;
        let (clocks, links, sleeps, watched) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let programs =
            Self { clocks, links, has_left: false, sleeps, watched, metering: None, loaded, home, entered: 0 };
        programs.configure(Config::default())?;
        Ok((programs, ring))
    }

    /// Tells the programs what they have to know.
    fn configure(&self, config: Config) -> Result<(), BpfSourceError> {
        self.tell(self.metering.iter().fold(config, |config, metering| metering.enter(config)))
    }

    fn tell(&self, config: Config) -> Result<(), BpfSourceError> {
        let config = config.numbered_by(self.home).to_bytes();
        Ok(self.loaded.map("config")?.set(&[0; 4], &config, Existing::Replace)?)
    }

    /// Whether they read counters.
    pub(super) fn meter(&self) -> bool {
        self.metering.is_some()
    }

    /// Reads `events` of every thread of `pid` at its lock events from now on, wherever it is watched later.
    pub(super) fn measure(&mut self, events: &[CountedEvent], pid: Pid) -> Result<(), BpfSourceError> {
        // A thread that gets a CPU is recognised by the kernel's own number.
        if !self.home.is_first() {
            return Err(BpfSourceError::NumberedElsewhere);
        }
        let types = KernelTypes::own().ok_or(BpfSourceError::NoTypes)?;
        let offset = |member| types.offset("task_struct", member).ok_or(BpfSourceError::NoTypes);
        let (task_pid, task_tgid) = (offset("pid")?, offset("tgid")?);
        self.loaded.load_more(&Image::parse(OBJECT)?, &[ON_METERED_CALL, ON_SWITCH, ON_EXIT])?;
        let counters = Counters::open(events, self.loaded.map("counters")?)?;
        let (count, leader) = (counters.count(), counters.leader());
        let metered = Metered { count, leader, task_pid, task_tgid };
        let mut metering = PerCpu { links: Vec::new(), counters, pid, metered };
        // They run as soon as they are linked.
        self.tell(metering.enter(Config::default()))?;
        for (program, place) in [(ON_SWITCH, c"sched_switch"), (ON_EXIT, c"sched_process_exit")] {
            metering.links.push(self.loaded.link_tracepoint(program, place)?);
        }
        self.metering = Some(metering);
        self.settle();
        Ok(())
    }

    /// A CPU whose counters have been lost, so that what they said since is wrong.
    pub(super) fn lost_cpu(&mut self) -> Option<u32> {
        self.metering.as_mut()?.counters.lost_cpu()
    }

    /// Has the threads that run now tell what their counters say.
    pub(super) fn settle(&self) {
        let cpus = self.metering.iter().flat_map(|metering| metering.counters.cpus());
        // A CPU that is offline has no thread.
        cpus.for_each(|cpu| drop(self.loaded.run_on(ON_SWITCH, *cpu)));
    }

    /// The thread has ended long ago: whoever gets its number begins anew.
    pub(super) fn forget_meter(&self, tid: Tid) -> Result<(), BpfSourceError> {
        Ok(self.loaded.map("meters")?.remove(&tid.raw().to_ne_bytes())?)
    }

    /// Runs at `sites` whenever `pid` comes by, from now on; if it runs at none of its sites, from its return to them.
    pub(super) fn watch(&mut self, sites: &[Site], pid: Pid) -> Result<(), BpfSourceError> {
        self.check_numbers(pid)?;
        if !self.has_left {
            let links = self.links_to(sites, pid)?;
            self.links.extend(links);
        }
        self.watched.push((sites.to_vec(), pid));
        Ok(())
    }

    /// Runs whenever a thread of `pid` goes to sleep at `sites`, and when it goes on; `config` tells whom it sleeps for, unless
    /// the programs know the target already.
    pub(super) fn watch_sleeps(
        &mut self,
        sites: &[SleepSite],
        (pid, config): (Pid, Config),
    ) -> Result<(), BpfSourceError> {
        self.check_numbers(pid)?;
        if !self.knows_target()? {
            self.configure(config.without_stacks())?;
        }
        let Some(first) = sites.first() else { return Ok(()) };
        // Only now: most targets need them not, and the kernel takes its time to check them.
        self.loaded.load_more(&Image::parse(OBJECT)?, &[ON_PARK, ON_UNPARK])?;
        let place = |site: &SleepSite| Place { offset: site.offset, cookie: park_cookie(site.function) };
        let places: Vec<Place> = sites.iter().map(place).collect();
        for program in [(ON_UNPARK, Moment::Return), (ON_PARK, Moment::Before)] {
            self.sleeps.push(self.loaded.link_uprobes(program, &first.file, &places, pid)?);
        }
        Ok(())
    }

    /// Whether they have been told how to read stacks.
    pub(super) fn knows_target(&self) -> Result<bool, BpfSourceError> {
        let config = self.loaded.map("config")?.get(&[0; 4])?.unwrap_or_default();
        Ok(config.first_chunk().is_some_and(|runtime| u64::from_ne_bytes(*runtime) != 0))
    }

    /// Runs there no more. A thread that comes by pays nothing.
    pub(super) fn leave_sites(&mut self) {
        self.links.clear();
        self.has_left = true;
    }

    /// Runs there again. What the programs know of waits is out of date: `waited` are those that waited.
    pub(super) fn return_to_sites(&mut self, waited: &[Tid]) -> Result<(), BpfSourceError> {
        if !std::mem::replace(&mut self.has_left, false) {
            return Ok(());
        }
        self.forget_waits(waited)?;
        let watched = self.watched.iter().map(|(sites, pid)| self.links_to(sites, *pid));
        let links = watched.collect::<Result<Vec<_>, _>>()?;
        self.links.extend(links.into_iter().flatten());
        Ok(())
    }

    fn forget_waits(&self, waited: &[Tid]) -> Result<(), BpfSourceError> {
        let (books, threads) = (self.loaded.map("books")?, self.loaded.map("threads")?);
        let blank = vec![0; usize::try_from(books.definition().value).expect("a value fits the address space")];
        for lock in 0..self.entered {
            let number = u32::try_from(lock).expect("there are few locks");
            books.set(&number.to_ne_bytes(), &blank, Existing::Replace)?;
        }
        for tid in waited {
            let key = tid.raw().to_ne_bytes();
            let Some(mut thread) = threads.get(&key)? else { continue };
            thread[WANTS].fill(0);
            threads.set(&key, &thread, Existing::Replace)?;
        }
        Ok(())
    }

    /// Refuses a process that numbers its threads neither as the kernel does nor as we do.
    pub(super) fn check_numbers(&self, pid: Pid) -> Result<(), BpfSourceError> {
        let told = self.home.is_first() || numbering(pid) == Numbering::Shared;
        if told { Ok(()) } else { Err(BpfSourceError::Nested) }
    }

    /// Has the programs run at `sites` whenever `pid` comes by, for as long as what is returned exists.
    pub(super) fn links_to(&self, sites: &[Site], pid: Pid) -> Result<Vec<Link>, BpfSourceError> {
        if sites.iter().any(|site| site.argument != Register::FIRST_ARGUMENT) {
            return Err(BpfSourceError::Register);
        }
        let program = if self.metering.is_some() { ON_METERED_CALL } else { ON_CALL };
        let mut links = Vec::new();
        for same_file in sites.chunk_by(|one, other| one.file == other.file) {
            let place = |site: &Site| Place { offset: site.offset, cookie: cookie(site.meaning) };
            let places: Vec<Place> = same_file.iter().map(place).collect();
            links.push(self.loaded.link_uprobes((program, Moment::Before), &same_file[0].file, &places, pid)?);
        }
        Ok(links)
    }

    /// From now on reads stacks, too.
    pub(super) fn know_target(
        &self,
        config: Config,
        threads: &[InterpreterThread],
        memory: &dyn Memory,
    ) -> Result<(), BpfSourceError> {
        // What they have learned at lock events is newer.
        self.know_threads(&config, (threads, Existing::Keep), memory)?;
        self.configure(config)
    }

    /// Tells the programs which thread has which state.
    pub(super) fn know_threads(
        &self,
        config: &Config,
        (threads, existing): (&[InterpreterThread], Existing),
        memory: &dyn Memory,
    ) -> Result<(), BpfSourceError> {
        let map = self.loaded.map("threads")?;
        let size = usize::try_from(map.definition().value).expect("a value fits the address space");
        for InterpreterThread { state, tid } in threads {
            // A thread that ended meanwhile has no stack to be read.
            let Ok(owner) = memory.read_u64(state.plus(config.owner_word)) else { continue };
            let mut value = vec![0; size];
            value[..8].copy_from_slice(&state.raw().to_ne_bytes());
            value[8..16].copy_from_slice(&owner.to_ne_bytes());
            map.set(&tid.raw().to_ne_bytes(), &value, existing)?;
        }
        Ok(())
    }

    /// Samples whatever thread of the target runs on `cpus`, every `period` on average.
    pub(super) fn start_clocks(&mut self, cpus: &[u32], period: Nanos, taken: Taken) -> Result<(), BpfSourceError> {
        // The program tosses a coin at every tick.
        let half = Nanos::from_nanos(period.as_nanos() / 2);
        let start = |cpu: u32| {
            let clock = SamplingClock::start((cpu, cpus.len()), half, taken);
            let clock = clock.map_err(|source| BpfError::Clock { cpu, source })?;
            Ok((self.loaded.link_event(ON_TICK, &clock, cpu)?, clock))
        };
        // All of them or none: the threads of a CPU without a clock would not be sampled.
        self.clocks = cpus.iter().copied().map(start).collect::<Result<_, BpfError>>()?;
        Ok(())
    }

    /// Loads the program that runs at the samples of an event.
    pub(super) fn load_event(&mut self) -> Result<(), BpfSourceError> {
        Ok(self.loaded.load_more(&Image::parse(OBJECT)?, &[ON_EVENT])?)
    }

    /// Runs it at those of `event`.
    pub(super) fn link_event(&self, event: &impl AsRawFd) -> Result<Link, BpfSourceError> {
        Ok(self.loaded.link_event(ON_EVENT, event, 0)?)
    }

    /// Appends what the clocks have taken along.
    pub(super) fn take_machine_samples(&mut self, out: &mut Vec<MachineSample>) {
        self.clocks.iter_mut().for_each(|(_, clock)| clock.take(out));
    }

    /// Tells the programs of the locks that are new.
    pub(super) fn enter_locks(&mut self, seats: &[LockSeat]) -> Result<(), BpfSourceError> {
        if let (0, Some(first)) = (self.entered, seats.first()) {
            let words = [first.address, first.cond(), first.switch_cond()];
            let words: Vec<u8> = words.iter().flat_map(|word| word.raw().to_ne_bytes()).collect();
            self.loaded.map("first")?.set(&[0; 4], &words, Existing::Replace)?;
        }
        let (roles, foreign) = (self.loaded.map("roles")?, self.loaded.map("foreign")?);
        for (number, seat) in (0_u32..).zip(seats).skip(self.entered) {
            let parts = [(seat.cond(), COND), (seat.switch_cond(), SWITCH_COND), (seat.address, WHOLE_LOCK)];
            for (address, part) in parts {
                let key = address.raw().to_ne_bytes();
                let mut role = seat.address.raw().to_ne_bytes().to_vec();
                role.extend([number, part].iter().flat_map(|word| word.to_ne_bytes()));
                roles.set(&key, &role, Existing::Replace)?;
                foreign.remove(&key)?;
            }
        }
        self.entered = seats.len();
        Ok(())
    }

    /// Takes the condition variable at this address for that of a lock, until the first one is entered.
    pub(super) fn pretend_lock(&self, cond: u64) -> Result<(), BpfSourceError> {
        let words: Vec<u8> = [cond, cond, 0].iter().flat_map(|word: &u64| word.to_ne_bytes()).collect();
        Ok(self.loaded.map("first")?.set(&[0; 4], &words, Existing::Replace)?)
    }

    /// Calls on this condition variable are not reported any more.
    pub(super) fn ignore(&self, cond: LiveAddress) -> Result<(), BpfSourceError> {
        Ok(self.loaded.map("foreign")?.set(&cond.raw().to_ne_bytes(), &[0; 8], Existing::Replace)?)
    }

    /// The thread has ended: its number may be given to another.
    pub(super) fn forget(&self, tid: Tid) -> Result<(), BpfSourceError> {
        self.loaded.map("asleep")?.remove(&tid.raw().to_ne_bytes())?;
        Ok(self.loaded.map("threads")?.remove(&tid.raw().to_ne_bytes())?)
    }

    /// Ends everything that runs; what the clocks have taken along by then is appended.
    pub(super) fn stop(&mut self, out: &mut Vec<MachineSample>) {
        for (link, mut clock) in self.clocks.drain(..) {
            drop(link);
            clock.take(out);
        }
        self.links.clear();
        self.sleeps.clear();
    }
}

mod sums;
#[cfg(test)]
mod tests;
