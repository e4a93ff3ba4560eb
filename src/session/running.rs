//! How threads that run are sampled: by programs in the kernel where it lets us, and else from outside.

use std::{error::Error, num::NonZeroU32, rc::Rc};

use crate::{
    model::{
        machine::{MachineSample, MachineState},
        recorded::RecordedStack,
        time::Nanos,
    },
    perf::{clock, sampling::Taken},
    session::{
        error::SessionError,
        joiner::{Moment, SharedJoiner},
        namer::Namer,
        sampler::RunningThreads,
        stacks::{SharedStacks, keep},
    },
    source::{
        Source,
        bpf::{BpfSource, Ticks},
        calls::SharedTranslator,
        scheduler::SchedulerSource,
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
        scheduler: SchedulerSource,
        reading: StackReading<'_>,
        notes: &mut Vec<String>,
    ) -> Result<Self, SessionError> {
        if reading.rate.is_none() {
            return Ok(Self { source: Box::new(scheduler), running: RunningThreads::Ours });
        }
        match BpfSource::beside((target.pid, scheduler), Rc::clone(translator)) {
            Ok(mut source) => {
                let running = read_moments(&mut source, target, reading, notes)?;
                Ok(Self { source: Box::new(source), running })
            }
            Err((mut scheduler, _)) => {
                let running = sample_near(&mut scheduler, target, reading, notes)?;
                Ok(Self { source: Box::new(scheduler), running })
            }
        }
    }
}

/// Without programs in the kernel: native stacks through perf, and right after each the script stack from outside.
fn sample_near(
    scheduler: &mut SchedulerSource,
    target: &Target,
    reading: StackReading<'_>,
    notes: &mut Vec<String>,
) -> Result<RunningThreads, SessionError> {
    let StackReading { rate, stacks, joiner } = reading;
    let reader = StackReader::new(target, Box::new(ProcessMemory::open(target.pid)?));
    let (Some(rate), Some(joiner), Some(mut reader)) = (rate, joiner.cloned(), reader) else {
        return Ok(RunningThreads::Ours);
    };
    let stacks = Rc::clone(stacks);
    let on_sample = Box::new(move |sample: &MachineSample| {
        let script = reader.read_script(sample.tid, Motion::Moving);
        let mut joiner = joiner.borrow_mut();
        let whole = if clock::now().saturating_since(sample.at) <= NEAR {
            joiner.join((&sample.state, Moment::Near), script)
        } else {
            joiner.leave_apart();
            script.map(|script| script.into_iter().map(|script| script.frame).collect())
        };
        keep(whole, &mut stacks.borrow_mut())
    });
    let period = Nanos::from_nanos(1_000_000_000 / u64::from(rate.get()));
    match scheduler.sample(period, on_sample) {
        Ok(()) => {
            notes.push(format!(
                "native frames of running threads: script frames were read up to {NEAR} after them, since programs in the \
                 kernel, which read both at once, are not permitted"
            ));
            Ok(RunningThreads::OfSource)
        }
        Err(why) => {
            notes.push(format!("no native frames of running threads: {}", causes(&why)));
            Ok(RunningThreads::Ours)
        }
    }
}

/// Has programs in the kernel read stacks, and sample running threads if they can.
pub(super) fn read_moments(
    source: &mut BpfSource,
    target: &Target,
    reading: StackReading<'_>,
    notes: &mut Vec<String>,
) -> Result<RunningThreads, SessionError> {
    let StackReading { rate, stacks, joiner } = reading;
    let resolver = Resolver::new(target, Box::new(ProcessMemory::open(target.pid)?));
    let Some((rate, resolver)) = rate.zip(resolver) else { return Ok(RunningThreads::Ours) };
    let mut namer = Namer::new(resolver, Rc::clone(stacks), joiner.cloned());
    let taken = if joiner.is_some() { Taken::MachineState } else { Taken::Nothing };
    let memory = ProcessMemory::open(target.pid)?;
    let on_moment =
        Box::new(move |stack: &RecordedStack, state: Option<&MachineState>| namer.name_moment(stack, state));
    Ok(match source.read_stacks((target, &memory), Ticks { rate, taken }, on_moment) {
        Ok(true) => RunningThreads::OfSource,
        Ok(false) => RunningThreads::Ours,
        Err(why) => {
            notes.push(format!("running threads are sampled from outside: {}", causes(&why)));
            RunningThreads::Ours
        }
    })
}

/// An error with all that led to it.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let whole = std::iter::successors(Some(error), |error: &&dyn Error| (*error).source());
    whole.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
