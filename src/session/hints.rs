//! What to type next when there is no profile.

use crate::{
    model::{ids::Pid, profile::Backend},
    perf::error::PerfError,
    session::{
        doctor::first_remedy,
        error::SessionError,
        ladder::{Fallen, Rung},
    },
    source::{bpf::error::BpfSourceError, uprobe::error::UprobeError},
};

/// Hints when no rung bears.
pub(super) fn nothing_works(pid: Option<Pid>, fallen: &[Fallen]) -> Vec<String> {
    let tried = |rung| fallen.iter().any(|fallen| fallen.rung == rung);
    let without = "without privileges: gilscope run SCRIPT, with the backend preload, which needs none";
    let without = (!tried(Rung::Preload)).then(|| without.to_owned());
    let rungs: Vec<Rung> = fallen.iter().map(|fallen| fallen.rung).collect();
    let remedy = first_remedy(&rungs, pid).map(|remedy| format!("try: {remedy}"));
    let remedy = remedy.or_else(|| fallen.iter().find_map(|fallen| own_remedy(&fallen.why)));
    [Some(doctor(pid)), remedy, without].into_iter().flatten().collect()
}

/// What to do about an error that is no matter of the place.
fn own_remedy(why: &SessionError) -> Option<String> {
    let perf = |why: &PerfError| why.remedy().map(|command| format!("try: {command}"));
    match why {
        SessionError::Unsuited => Some("leave --backend out, or say --backend poll".to_owned()),
        SessionError::Watchpoint(why) => why.remedy(),
        SessionError::Programs(BpfSourceError::Perf(why)) | SessionError::Scheduler(why) => perf(why),
        SessionError::Uprobe(UprobeError::Perf(why)) => perf(why),
        _ => None,
    }
}

/// Hints when a process may not be looked into.
pub(super) fn not_permitted(pid: Pid) -> Vec<String> {
    let remedy = first_remedy(&[Rung::Tracepoints], Some(pid));
    let remedy = remedy.unwrap_or_else(|| format!("sudo gilscope attach {pid}"));
    vec![doctor(Some(pid)), format!("become its user or root: {remedy}")]
}

/// Hints when there was no interpreter.
pub(super) fn no_interpreter(backend: Backend) -> Vec<String> {
    let needs = "gilscope needs a dynamically linked CPython 3.8 or later; --python names one for scripts";
    let follow =
        "uprobes and watchpoints watch the program itself and none that it starts; --backend preload finds those";
    let apart = "a program that a daemon starts (docker run), or that enters a chroot without /proc, does not get the probe: \
                 attach to it: gilscope attach PID";
    let brief = "a program that ends within milliseconds may be over before it can be looked at";
    let follow = if backend == Backend::Preload { apart } else { follow };
    [needs, follow, brief].into_iter().map(str::to_owned).collect()
}

fn doctor(pid: Option<Pid>) -> String {
    pid.map_or_else(|| "gilscope doctor".to_owned(), |pid| format!("gilscope doctor {pid}"))
}
