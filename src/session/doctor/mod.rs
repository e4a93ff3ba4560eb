//! `gilscope doctor`: which rungs bear here, for whom, what shuts the others, and what opens them.
//!
//! Every rung is really tried, on the process in question or else on a program of our own, and ended again. Only why one does
//! not bear is worked out from what `/proc` says, and where that does not explain it, that is said.

mod doors;
mod evidence;
mod place;
mod process;
mod remedies;
mod toy;
mod trial;

use crate::{
    model::{
        diagnosis::{AutoChoice, Diagnosis, DoorFinding, Identity, Outcome, Patient, RungFinding},
        ids::Pid,
    },
    session::{
        doctor::{
            doors::{findings, looking_in, shut},
            place::{Capability, Place},
            process::{Descent, Subject},
        },
        error::SessionError,
        ladder::Rung,
        poll::waits_in_words,
        running::causes,
    },
    target::{
        discover::{DiscoverError, Target},
        memory::ProcessMemory,
    },
};

/// What stands in the way of a process, or of any.
struct Ward {
    place: Place,
    subject: Option<Subject>,
}

/// Examines the place, and the process if one is named.
pub fn examine(pid: Option<Pid>) -> Diagnosis {
    let ward = Ward { place: Place::here(), subject: pid.and_then(Subject::of) };
    let found = pid.map(|pid| (pid, Target::discover(pid)));
    let rungs: Vec<RungFinding> = Rung::ALL.into_iter().map(|rung| ward.tried(rung, found.as_ref())).collect();
    let us = Pid::from_raw(std::process::id().cast_signed()).expect("a process has a positive pid");
    let auto = [("attach", true), ("run", false)].map(|(command, running)| AutoChoice {
        command,
        rung: rungs.iter().find(|rung| rung.outcome.works() && (rung.attaches || !running)).map(|rung| rung.name),
    });
    Diagnosis {
        remarks: ward.remarks(pid).into_iter().chain(found.as_ref().and_then(waits)).collect(),
        evidence: evidence::gather(pid.unwrap_or(us)),
        counters: evidence::counters(),
        place: ward.place.facts(),
        patient: found
            .map(|(pid, found)| Patient { pid, identity: found.map(|t| identity(&t)).map_err(|why| causes(&why)) }),
        rungs,
        auto: auto.into(),
    }
}

/// The most likely remedy for what shuts the best rung.
pub(super) fn first_remedy(rungs: &[Rung], pid: Option<Pid>) -> Option<String> {
    let ward = Ward { place: Place::here(), subject: pid.and_then(Subject::of) };
    let findings = rungs.iter().flat_map(|rung| ward.doors(*rung).into_iter().take(1));
    findings.flat_map(|door| door.remedies).next()
}

/// What shuts a rung here, in words.
pub(super) fn doors(rung: Rung, pid: Option<Pid>) -> Vec<String> {
    let (place, subject) = (Place::here(), pid.and_then(Subject::of));
    shut(rung, &place, subject.as_ref()).iter().map(|door| door.words(&place)).collect()
}

impl Ward {
    fn tried(&self, rung: Rung, found: Option<&(Pid, Result<Target, DiscoverError>)>) -> RungFinding {
        let outcome = match found {
            Some((_, Ok(target))) if !rung.suits(target) => Err(SessionError::Unsuited),
            Some((_, Ok(target))) if rung.attaches() => trial::on_process(rung, target),
            Some((pid, Err(_))) if rung.attaches() => {
                Target::discover(*pid).map_err(SessionError::from).and_then(|target| trial::on_process(rung, &target))
            }
            _ => trial::on_toy(rung),
        };
        let outcome = match outcome {
            Ok(bears) => Outcome::Works { cost: bears.cost },
            Err(why) => self.shut(rung, &why),
        };
        let backend = rung.backend().name();
        RungFinding { name: rung.name(), words: rung.words(), backend, attaches: rung.attaches(), outcome }
    }

    fn shut(&self, rung: Rung, why: &SessionError) -> Outcome {
        if let SessionError::Unsuited = why {
            return Outcome::Shut { error: causes(why), doors: Vec::new(), permission: false };
        }
        Outcome::Shut { error: causes(why), doors: self.doors(rung), permission: why.is_refusal() }
    }

    fn doors(&self, rung: Rung) -> Vec<DoorFinding> {
        let doors = shut(rung, &self.place, self.subject.as_ref());
        findings(&doors, &self.place, self.subject.as_ref())
    }

    /// What is true of other processes than the one that was tried.
    fn remarks(&self, pid: Option<Pid>) -> Vec<String> {
        if pid.is_some() {
            return Vec::new();
        }
        let mut remarks =
            vec!["tried on a program of gilscope's own; gilscope doctor PID tries on a process".to_owned()];
        if !self.place.capabilities.has(Capability::SysPtrace) {
            remarks.push("processes of other users: not without CAP_SYS_PTRACE".to_owned());
        }
        let stranger =
            Subject::of(Pid::from_raw(std::process::id().cast_signed()).expect("a process has a positive pid"));
        if let Some(door) =
            stranger.and_then(|us| looking_in(&self.place, &Subject { descent: Descent::Strangers, ..us }))
        {
            remarks.push(format!("processes that gilscope has not started: {}", door.words(&self.place)));
        }
        remarks
    }
}

/// How waits for the lock of the process would be known.
fn waits((_, target): &(Pid, Result<Target, DiscoverError>)) -> Option<String> {
    target.as_ref().ok().and_then(waits_in_words)
}

fn identity(target: &Target) -> Identity {
    let summary = target.summary();
    let memory = ProcessMemory::open(target.pid).ok();
    let locks = memory.and_then(|memory| target.locks(&memory).ok()).unwrap_or_default();
    Identity {
        command: summary.command,
        runtime: summary.runtime,
        version: summary.runtime_version,
        free_threaded: summary.free_threaded,
        locks: locks.into_iter().map(|lock| lock.name).collect(),
    }
}
