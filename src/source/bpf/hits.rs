//! From the records of the programs to events: what a hit says, and what is said where hits were lost.
//!
//! Invariant: hits are told in the order of their times, and only those of moments up to which everything has been read.

use crate::{
    bpf::ring::Reading,
    model::{
        address::LiveAddress,
        event::{Event, EventSample, LostEvents, ParkStep, SampleCause, StackSample, What},
        ids::Tid,
        recorded::{RecordedStack, Walk},
        stack::StackId,
        time::MonoNanos,
    },
    perf::stream::threads_of,
    source::{
        bpf::{
            Beside, BpfSource,
            record::{CallHit, Hit, HitKind},
        },
        calls::{Call, StepReport, Verdict},
        parking::ParkCall,
    },
    target::site::SiteMeaning,
};

/// How often a record that is being written is waited for; its writer may have lost its CPU.
const PATIENCE: usize = 20;

impl BpfSource {
    pub(super) fn read_ring(&mut self, now: MonoNanos) {
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
    pub(super) fn report_losses(&mut self, since: MonoNanos, out: &mut Vec<Event>) {
        let losses = self.programs.losses().unwrap_or(self.losses);
        let new = losses.saturating_sub(self.losses);
        if new == 0 {
            return;
        }
        self.losses = losses;
        self.tally.lost += new;
        let mut counts = std::iter::once(new).chain(std::iter::repeat(0));
        for tid in threads_of(self.pid).unwrap_or_default() {
            let lost = LostEvents { count: counts.next().unwrap_or(0) };
            out.push(Event { at: since, tid, what: What::LostLock(lost) });
        }
    }

    pub(super) fn deliver(&mut self, out: &mut Vec<Event>) {
        let mut taken = Vec::new();
        self.programs.take_machine_samples(&mut taken);
        self.machine.add(taken);
        self.pending.sort_by_key(|hit| hit.at);
        let ready = self.pending.partition_point(|hit| hit.at < self.read_until);
        let later = self.pending.split_off(ready);
        for hit in std::mem::replace(&mut self.pending, later) {
            let Hit { at, tid, what } = hit;
            match what {
                HitKind::Tick(stack) => self.deliver_tick((at, tid), &stack, out),
                HitKind::Holder(stack) => {
                    let stack = (self.on_stack)(&stack, Beside::Nothing);
                    out.push(stack_event((at, tid), stack, SampleCause::Contended));
                }
                HitKind::Owner(stack) => {
                    let stack = (self.on_stack)(&stack, Beside::Nothing);
                    out.push(stack_event((at, tid), stack, SampleCause::OwnerSampled));
                }
                HitKind::Event(stack, weight) => out.push(self.event_sample((at, tid), &stack, weight)),
                HitKind::Call(call) => self.deliver_call((at, tid), call, out),
                HitKind::Metered(readings) => {
                    self.metering.iter_mut().for_each(|metering| metering.on_record((at, tid), &readings, out));
                }
                HitKind::Park(park, stack) => self.deliver_park((at, tid), (park, stack), out),
            }
        }
        self.machine.forget_before(self.read_until);
        self.events.iter_mut().for_each(|(_, late)| late.forget());
    }

    fn deliver_tick(&mut self, (at, tid): (MonoNanos, Tid), stack: &RecordedStack, out: &mut Vec<Event>) {
        let unknown = stack.walk == Walk::UnknownThread;
        if unknown && self.newcomers.as_mut().is_some_and(|newcomers| newcomers.meet(tid, at)) {
            return;
        }
        let machine = self.machine.at_tick(tid, at);
        let stack = (self.on_stack)(stack, Beside::Machine(machine.as_ref()));
        out.push(stack_event((at, tid), stack, SampleCause::Tick));
    }

    /// Whatever becomes of its stack, what it stands for has happened. That of a thread which the programs do not know yet is read
    /// from outside.
    fn event_sample(&mut self, (at, tid): (MonoNanos, Tid), stack: &RecordedStack, weight: u64) -> Event {
        let unknown = stack.walk == Walk::UnknownThread;
        let new = unknown && self.newcomers.as_mut().is_some_and(|newcomers| newcomers.meet(tid, at));
        let late = self.events.as_mut().filter(|_| new);
        let stack = late.map_or_else(|| (self.on_stack)(stack, Beside::Nothing), |(_, late)| late.read(tid));
        Event { at, tid, what: What::EventSample(EventSample { stack, weight }) }
    }

    /// The stack of a wait counts from the moment it began, that of a hold up to the moment it ended.
    fn deliver_call(&mut self, (at, tid): (MonoNanos, Tid), hit: CallHit, out: &mut Vec<Event>) {
        self.tally.lock_events += 1;
        // What they say is of before.
        if let (Some(metering), Some(readings)) = (&mut self.metering, &hit.readings) {
            metering.on_record((at, tid), readings, out);
        }
        // A stack that cannot be believed is left out: there are other ways to get one.
        let stack = hit.stack.and_then(|read| Some((read.cause, (self.on_stack)(&read.stack, Beside::Nothing)?)));
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

    fn deliver_park(
        &mut self,
        (at, tid): (MonoNanos, Tid),
        (park, stack): (ParkCall, Option<RecordedStack>),
        out: &mut Vec<Event>,
    ) {
        self.tally.lock_events += 1;
        let Some(parks) = &mut self.parks else { return };
        let step = parks.read(park);
        let unknown = stack.as_ref().is_some_and(|stack| stack.walk == Walk::UnknownThread);
        if let Some(newcomers) = self.newcomers.as_mut().filter(|_| unknown) {
            newcomers.meet(tid, at);
        }
        // That of a thread whose state is not known yet says nothing.
        let stack = stack.filter(|_| !unknown);
        let stack = stack.map(|stack| ParkStep::Stack((self.on_stack)(&stack, Beside::Nothing)));
        let steps = [Some(step), stack].into_iter().flatten();
        out.extend(steps.map(|step| Event { at, tid, what: What::Park(step) }));
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
            SiteMeaning::Step(step) => translator.report_step(StepReport { at, tid, lock: argument, step }, out),
        }
    }
}

fn stack_event((at, tid): (MonoNanos, Tid), stack: Option<StackId>, cause: SampleCause) -> Event {
    Event { at, tid, what: What::Stack(StackSample { until: at, stack, cause }) }
}
