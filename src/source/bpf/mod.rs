//! Lock events and stacks through programs that run in the kernel, at uprobes and at the ticks of a clock.
//!
//! One link serves all threads, those to come included, and costs nothing when it ends. What a libc call means for a lock is
//! decided by the shared translator, as with every source; the programs only leave out what it calls foreign, and read
//! the stacks of threads that begin to wait, that release a contended lock, or that a tick finds running. Invariant: when
//! the source is gone, so is everything it has put into the kernel, whatever ended it.

mod config;
pub mod cost;
pub mod error;
mod programs;
mod record;

use std::{fmt, num::NonZeroU32};

use crate::{
    bpf::ring::{Reading, Ring},
    model::{
        address::LiveAddress,
        event::{Event, LostEvents, SampleCause, StackSample, What},
        ids::{Pid, Tid},
        recorded::RecordedStack,
        time::{MonoNanos, Nanos},
    },
    perf::{limits::online_cpus, stream::threads_of},
    source::{
        OnStack, Source, Tally,
        bpf::{
            config::Config,
            error::BpfSourceError,
            programs::Programs,
            record::{CallHit, Decoder, Hit, HitKind},
        },
        calls::{Call, SharedTranslator, StepReport, Verdict},
        scheduler::{SchedulerSource, Scope},
    },
    target::{
        discover::Target,
        memory::Memory,
        site::{Site, SiteMeaning},
    },
};

/// How often a record that is being written is waited for; its writer may have lost its CPU.
const PATIENCE: usize = 20;

/// Lock events, stacks and scheduling of one process.
pub struct BpfSource {
    programs: Programs,
    ring: Ring,
    scheduler: SchedulerSource,
    pid: Pid,
    translator: SharedTranslator,
    on_stack: OnStack,
    decoder: Decoder,
    /// Read, but newer than the watermark.
    pending: Vec<Hit>,
    /// Everything earlier has been read.
    read_until: MonoNanos,
    losses: u64,
    tally: Tally,
}

impl BpfSource {
    /// Puts the programs on `sites` of the process. Until the target is known they read no stacks.
    pub fn arm(pid: Pid, scope: Scope, sites: &[Site], translator: SharedTranslator) -> Result<Self, BpfSourceError> {
        let (mut programs, mut ring) = Programs::load()?;
        let cost_per_event = cost::measure(&programs, &mut ring);
        programs.watch(sites, pid)?;
        Ok(Self {
            programs,
            ring,
            scheduler: SchedulerSource::open(pid, scope)?,
            pid,
            translator,
            on_stack: Box::new(|_| None),
            decoder: Decoder::default(),
            pending: Vec::new(),
            read_until: MonoNanos::from_monotonic(0),
            losses: 0,
            tally: Tally { cost_per_event, ..Tally::default() },
        })
    }

    /// Puts the programs on more places, such as the libc of the program that the target has meanwhile executed.
    pub fn add_sites(&mut self, sites: &[Site]) -> Result<(), BpfSourceError> {
        self.programs.watch(sites, self.pid)
    }

    /// From now on reads stacks and tells `on_stack`, and samples running threads `rate` times a second. Says whether
    /// the target's stacks can be read at all.
    pub fn read_stacks(
        &mut self,
        (target, memory): (&Target, &dyn Memory),
        rate: NonZeroU32,
        on_stack: OnStack,
    ) -> Result<bool, BpfSourceError> {
        let Some(config) = Config::of(target) else { return Ok(false) };
        self.on_stack = on_stack;
        self.programs.know_target(config, &target.threads(memory)?, memory)?;
        self.programs.enter_locks(self.translator.borrow().seats())?;
        let period = Nanos::from_nanos(1_000_000_000 / u64::from(rate.get()));
        self.programs.start_clocks(&online_cpus()?, period)?;
        Ok(true)
    }

    fn read_ring(&mut self, now: MonoNanos) {
        for _ in 0..PATIENCE {
            let (decoder, pending) = (&mut self.decoder, &mut self.pending);
            if self.ring.read(|bytes| pending.extend(decoder.decode(bytes))) == Reading::Complete {
                // A record's time is taken after its place in the ring: those to come are later than this reading.
                self.read_until = self.read_until.max(now);
                return;
            }
            std::thread::yield_now();
        }
    }

    /// Losses are dated back to the last moment up to which everything had been delivered.
    fn report_losses(&mut self, since: MonoNanos, out: &mut Vec<Event>) {
        let losses = self.programs.losses().unwrap_or(self.losses);
        let new = losses.saturating_sub(self.losses);
        if new == 0 {
            return;
        }
        self.losses = losses;
        let mut counts = std::iter::once(new).chain(std::iter::repeat(0));
        for tid in threads_of(self.pid).unwrap_or_default() {
            let lost = LostEvents { count: counts.next().unwrap_or(0) };
            out.push(Event { at: since, tid, what: What::LostLock(lost) });
        }
    }

    fn deliver(&mut self, out: &mut Vec<Event>) {
        self.pending.sort_by_key(|hit| hit.at);
        let ready = self.pending.partition_point(|hit| hit.at < self.read_until);
        let later = self.pending.split_off(ready);
        for hit in std::mem::replace(&mut self.pending, later) {
            let Hit { at, tid, what } = hit;
            match what {
                HitKind::Tick(stack) => self.deliver_stack((at, tid), &stack, SampleCause::Tick, out),
                HitKind::Holder(stack) => self.deliver_stack((at, tid), &stack, SampleCause::Contended, out),
                HitKind::Call(call) => self.deliver_call((at, tid), call, out),
            }
        }
    }

    fn deliver_stack(
        &mut self,
        (at, tid): (MonoNanos, Tid),
        stack: &RecordedStack,
        cause: SampleCause,
        out: &mut Vec<Event>,
    ) {
        let stack = (self.on_stack)(stack);
        out.push(Event { at, tid, what: What::Stack(StackSample { until: at, stack, cause }) });
    }

    /// The stack of a wait counts from the moment it began, that of a hold up to the moment it ended.
    fn deliver_call(&mut self, (at, tid): (MonoNanos, Tid), hit: CallHit, out: &mut Vec<Event>) {
        self.tally.lock_events += 1;
        // A stack that cannot be believed is left out: there are other ways to get one.
        let stack = hit.stack.and_then(|read| Some((read.cause, (self.on_stack)(&read.stack)?)));
        let sample = |wanted| {
            let stack = stack.filter(|(cause, _)| *cause == wanted);
            stack.map(|(cause, stack)| StackSample { until: at, stack: Some(stack), cause })
        };
        let event = |sample| Event { at, tid, what: What::Stack(sample) };
        out.extend(sample(SampleCause::AtRelease).map(event));
        let verdict = self.translate((at, tid), hit.meaning, hit.argument, out);
        out.extend(sample(SampleCause::WaitBegan).map(event));
        if verdict == Verdict::Foreign {
            // If the kernel will not remember it, it is reported again, and is as foreign then.
            let _refused = self.programs.ignore(hit.argument);
        }
    }

    fn translate(
        &self,
        (at, tid): (MonoNanos, Tid),
        meaning: SiteMeaning,
        argument: LiveAddress,
        out: &mut Vec<Event>,
    ) -> Verdict {
        let mut translator = self.translator.borrow_mut();
        match meaning {
            SiteMeaning::Libc(function) => translator.translate(Call { at, tid, function, cond: argument }, out),
            SiteMeaning::Usdt(step) => translator.report_step(StepReport { at, tid, lock: argument, step }, out),
        }
    }
}

impl Source for BpfSource {
    fn drain(&mut self, now: MonoNanos, out: &mut Vec<Event>) -> MonoNanos {
        let before = self.read_until;
        self.read_ring(now);
        self.report_losses(before, out);
        self.deliver(out);
        let first = out.len();
        let watermark = self.scheduler.drain(now, out);
        for ended in out[first..].iter().filter(|event| event.what == What::Exited) {
            // One that cannot be removed is overwritten when its number is used again.
            let _refused = self.programs.forget(ended.tid);
        }
        let _refused = self.programs.enter_locks(self.translator.borrow().seats());
        watermark.min(self.read_until)
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        self.programs.stop();
        self.tally.cost_of_stacks = self.programs.spent().ok();
        let before = self.read_until;
        self.read_ring(MonoNanos::from_monotonic(u64::MAX));
        self.report_losses(before, out);
        self.deliver(out);
        self.scheduler.finish(out);
    }

    fn tally(&self) -> Tally {
        let unmatched = self.decoder.malformed() + self.scheduler.tally().unmatched;
        Tally { unmatched, ..self.tally }
    }
}

impl fmt::Debug for BpfSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BpfSource")
            .field("programs", &self.programs)
            .field("tally", &self.tally)
            .finish_non_exhaustive()
    }
}
