//! Kernel uprobes, on a program that is launched or on one that is running.

use std::{cell::RefCell, rc::Rc};

use crate::{
    ledger::LockStart,
    model::{
        event::{Event, LostEvents, SeenCpu, What},
        ids::{LockId, Pid, Tid},
        profile::Backend,
        time::{MonoNanos, Nanos},
    },
    perf::clock,
    session::{
        error::SessionError,
        finder::LiveLocks,
        options::RecordOptions,
        recording::{Beginning, Recording, first_thread},
        stacks::{SharedStacks, WaitStacks},
    },
    source::{
        calls::{SharedTranslator, Translator},
        scheduler::Scope,
        uprobe::{UprobeOptions, UprobeSource, cost::measure_cost, sweep::Sweeper},
    },
    target::{discover::Target, libc::CondLibrary, memory::ProcessMemory, site::Site},
};

/// Uprobes armed on the libc that a launched program will most likely map.
#[derive(Debug)]
pub(super) struct UprobeWatch {
    source: UprobeSource,
    armed: CondLibrary,
    translator: SharedTranslator,
    child: Pid,
    started: MonoNanos,
    looks: u32,
}

/// Looks at the child after which it is looked at more rarely: it takes its time, or is no interpreter.
const EAGER_LOOKS: u32 = 200;

impl UprobeWatch {
    /// Arms the probes on the held child.
    pub(super) fn before_start(child: Pid) -> Result<Self, SessionError> {
        let armed = CondLibrary::of_self()?;
        let translator = Rc::new(RefCell::new(Translator::new(None)));
        let source = arm(child, Scope::BeforeExec, armed.sites.clone(), &translator)?;
        Ok(Self { source, armed, translator, child, started: clock::now(), looks: 0 })
    }

    /// The target, once the child has become an interpreter and has mapped its C library.
    pub(super) fn look(&mut self) -> Option<Target> {
        self.looks += 1;
        let due = self.looks < EAGER_LOOKS || self.looks.is_multiple_of(20);
        let target = due.then(|| Target::discover(self.child).ok()).flatten()?;
        // The dynamic linker may still be at work: whether it maps the libc that is armed cannot be told before.
        let linked = self.looks >= EAGER_LOOKS || CondLibrary::of_process(self.child).is_ok();
        linked.then_some(target)
    }

    pub(super) fn begin(mut self, target: Target, options: RecordOptions) -> Result<Recording, SessionError> {
        let (mut notes, mut lock_start) = (Vec::new(), LockStart::Free);
        let mut missed = None;
        if self.armed.is_mapped_by(target.pid) == Some(false) {
            let library = CondLibrary::of_process(target.pid)?;
            let armed_at = clock::now();
            self.source.add_sites(&library.sites)?;
            notes.push("the program maps another libc than gilscope: its first milliseconds are missing".to_owned());
            lock_start = LockStart::Unknown;
            missed = Some(missing_before(armed_at, target.pid.main_thread()));
        }
        self.translator.borrow_mut().find_with(Box::new(LiveLocks::of(&target)?));
        let first = first_thread(target.pid.main_thread(), self.started, SeenCpu::Asleep, lock_start);
        let beginning = Beginning {
            target,
            translator: self.translator,
            stacks: SharedStacks::default(),
            wait_stacks: WaitStacks::Read,
            sources: vec![Box::new(self.source)],
            backend: Backend::Uprobe,
            start: self.started,
            lock_start,
            notes,
        };
        let mut recording = Recording::begin(beginning, options)?;
        recording.engine().add([first].into_iter().chain(missed));
        Ok(recording)
    }
}

/// Lock events are missing until probes were armed on the libc that the program maps; how many is not known.
fn missing_before(armed: MonoNanos, tid: Tid) -> Event {
    Event { at: armed, tid, what: What::LostLock(LostEvents { count: 0 }) }
}

/// Arms uprobes on a running target, sees what each of its threads is doing, and begins to record.
pub(super) fn attach(target: Target, options: RecordOptions) -> Result<Recording, SessionError> {
    let memory = ProcessMemory::open(target.pid)?;
    let translator = Rc::new(RefCell::new(Translator::new(Some(Box::new(LiveLocks::of(&target)?)))));
    let source = arm(target.pid, Scope::Running, target.sites()?, &translator)?;
    translator.borrow_mut().find_with(Box::new(LiveLocks::of(&target)?));
    let ids = (0..).map(LockId::from_index);
    let seats: Vec<_> = ids.zip(translator.borrow().seats().iter().cloned()).collect();
    let seen = target.sightings(&memory, &seats);
    let free = seats.iter().filter(|(_, seat)| seat.read(&memory).is_ok_and(|words| !words.locked));
    let free: Vec<LockId> = free.map(|(id, _)| *id).collect();
    let start = clock::now();
    let beginning = Beginning {
        target,
        translator,
        stacks: SharedStacks::default(),
        wait_stacks: WaitStacks::Read,
        sources: vec![Box::new(source)],
        backend: Backend::Uprobe,
        start,
        lock_start: LockStart::Unknown,
        notes: Vec::new(),
    };
    let mut recording = Recording::begin(beginning, options)?;
    let engine = recording.engine();
    // Whatever happened since the probes were armed is newer than what was seen, and wins.
    engine.add(seen.into_iter().flat_map(|seen| {
        let named = What::Named(seen.name.into_boxed_str());
        [What::Seen(seen.sighting), named].map(|what| Event { at: start, tid: seen.tid, what })
    }));
    engine.catch_up(start.later_by(Nanos::from_nanos(1)));
    free.into_iter().for_each(|lock| engine.seed_free(lock));
    Ok(recording)
}

fn arm(pid: Pid, scope: Scope, sites: Vec<Site>, translator: &SharedTranslator) -> Result<UprobeSource, SessionError> {
    let sweeper = Sweeper::this_program();
    let (calls, steps) = (Rc::clone(translator), Rc::clone(translator));
    Ok(UprobeSource::arm(UprobeOptions {
        pid,
        scope,
        sites,
        on_call: Box::new(move |call, out| calls.borrow_mut().translate(call, out)),
        on_step: Box::new(move |step, out| steps.borrow_mut().report_step(step, out)),
        cost_per_event: measure_cost(&sweeper).ok(),
        sweeper,
    })?)
}
