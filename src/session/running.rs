//! How threads that run are sampled: by programs in the kernel where it lets us, and else from outside.

use std::{error::Error, num::NonZeroU32, rc::Rc};

use crate::{
    model::{machine::MachineSample, recorded::RecordedStack, time::Nanos},
    perf::{clock, sampling::Taken},
    session::{
        joiner::{Moment, SharedJoiner},
        namer::Namer,
        sampler::RunningThreads,
        stacks::{SharedStacks, keep},
    },
    source::{
        Source,
        bpf::{Beside, BpfSource, LoadedPrograms, Ticks},
        calls::SharedTranslator,
        scheduler::Scheduling,
    },
    stack::{Motion, reader::StackReader, resolver::Resolver},
    target::{discover::Target, memory::ProcessMemory},
};

/// How long after a native stack the script stack may be read to be joined with it: a thread that calls and returns within
/// that time gets no native frames, and one that does so to and fro may get those of a call before.
const NEAR: Nanos = Nanos::from_nanos(250_000);

/// How stacks are to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct StackReading<'a> {
    pub(super) rate: Option<NonZeroU32>,
    pub(super) stacks: &'a SharedStacks,
    /// What adds native frames, if they are wanted.
    pub(super) joiner: Option<&'a SharedJoiner>,
}

/// A source of scheduling that may sample as well.
#[derive(Debug)]
pub(super) struct Sampling {
    pub(super) source: Box<dyn Source>,
    pub(super) running: RunningThreads,
}

impl Sampling {
    /// The best way for a target whose lock events come from elsewhere.
    pub(super) fn of(
        (target, translator): (&Target, &SharedTranslator),
        (mut scheduler, programs): (Box<dyn Scheduling>, Option<LoadedPrograms>),
        reading: StackReading<'_>,
        notes: &mut Vec<String>,
    ) -> Self {
        let Some(programs) = programs else {
            let running = sample_near(&mut *scheduler, target, reading, notes);
            return Self { source: scheduler, running };
        };
        let mut source = BpfSource::beside(programs, (target.pid, scheduler), Rc::clone(translator));
        let running = read_moments(&mut source, target, reading, notes);
        Self { source: Box::new(source), running }
    }
}

/// Without programs in the kernel: native stacks through perf, and right after each the script stack from outside.
fn sample_near(
    scheduler: &mut dyn Scheduling,
    target: &Target,
    reading: StackReading<'_>,
    notes: &mut Vec<String>,
) -> RunningThreads {
    let StackReading { rate, stacks, joiner } = reading;
    // A target without memory has just ended.
    let memory = ProcessMemory::open(target.pid).ok();
    let reader = memory.and_then(|memory| StackReader::new(target, Box::new(memory)));
    let (Some(rate), Some(joiner), Some(mut reader)) = (rate, joiner.cloned(), reader) else {
        return RunningThreads::Ours;
    };
    let stacks = Rc::clone(stacks);
    let on_sample = Box::new(move |sample: &MachineSample| {
        let script = reader.read_script(sample.tid, Motion::Moving);
        let mut joiner = joiner.borrow_mut();
        let whole = if clock::now().saturating_since(sample.at) <= NEAR {
            joiner.join((&sample.state, Moment::Near), script)
        } else {
            joiner.leave_apart(script)
        };
        keep(whole, &mut stacks.borrow_mut())
    });
    match scheduler.sample(Nanos::period_of(rate), on_sample) {
        Ok(()) => {
            notes.push(format!(
                "native frames of running threads: script frames were read up to {NEAR} after them, since programs in the \
                 kernel, which read both at once, are not permitted"
            ));
            RunningThreads::OfSource
        }
        Err(why) => {
            notes.push(format!("no native frames of running threads: {}", causes(&why)));
            RunningThreads::Ours
        }
    }
}

/// Has programs in the kernel read stacks, and sample running threads if they can.
pub(super) fn read_moments(
    source: &mut BpfSource,
    target: &Target,
    reading: StackReading<'_>,
    notes: &mut Vec<String>,
) -> RunningThreads {
    let StackReading { rate, stacks, joiner } = reading;
    // A target without memory has just ended.
    let open = || ProcessMemory::open(target.pid).ok();
    let resolver = open().and_then(|memory| Resolver::new(target, Box::new(memory)));
    let (Some(rate), Some(resolver), Some(memory)) = (rate, resolver, open()) else { return RunningThreads::Ours };
    let mut namer = Namer::new(resolver, Rc::clone(stacks), joiner.cloned());
    let taken = if joiner.is_some() { Taken::MachineState } else { Taken::Nothing };
    let on_moment = Box::new(move |stack: &RecordedStack, beside: Beside<'_>| match beside {
        Beside::Nothing => namer.name(stack),
        Beside::Machine(state) => namer.name_sample(stack, state),
    });
    match source.read_stacks((target, &memory), Ticks { rate, taken }, on_moment) {
        Ok(true) => RunningThreads::OfSource,
        Ok(false) => RunningThreads::Ours,
        Err(why) => {
            notes.push(format!("running threads are sampled from outside: {}", causes(&why)));
            RunningThreads::Ours
        }
    }
}

/// An error with all that led to it.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let whole = std::iter::successors(Some(error), |error: &&dyn Error| (*error).source());
    whole.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
