//! What shuts a rung, found by looking at the doors in the order in which the kernel comes by them, never from an error alone:
//! the same `EPERM` comes from filters, from missing rights and from security modules.

use crate::{
    bpf,
    model::diagnosis::DoorFinding,
    session::{
        doctor::{
            place::{Answer, Capability, Lockdown, Place, TracefsState},
            process::{Descent, Subject},
            remedies::{Way, remedies},
        },
        ladder::Rung,
    },
    target::process::user_name,
};

/// Something that has to be open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Door {
    /// The kernel is not Linux.
    GVisor,
    /// The kernel is too old for programs at uprobes.
    OldKernel,
    /// A filter refuses `bpf`.
    BpfFiltered(i32),
    /// A filter refuses `perf_event_open`, or the kernel has none.
    PerfFiltered(i32),
    /// Rights that are there count only in here.
    UserNamespace(Vec<&'static str>),
    /// Rights are missing.
    Rights(Vec<&'static str>),
    /// Only privileged processes may use `perf_event_open`.
    Paranoid(i64),
    /// The kernel does not let itself be looked at.
    Confidential,
    TracefsNotMounted,
    NoUprobes,
    TracefsRefused(String),
    /// The process belongs to somebody else, and these rights are missing.
    OtherUser(u32, Vec<&'static str>),
    /// It does not let itself be looked into without these rights.
    NotDumpable(Vec<&'static str>),
    /// It has rights that we have not.
    MoreRights,
    /// Only descendants may be looked into.
    Yama(i64),
}

/// The doors in the way of this rung that are shut.
pub(super) fn shut(rung: Rung, place: &Place, subject: Option<&Subject>) -> Vec<Door> {
    let mut doors = Vec::new();
    if place.gvisor && !matches!(rung, Rung::Preload | Rung::Looks) {
        return vec![Door::GVisor];
    }
    match rung {
        // The program is a child of ours, whose memory is read all the same.
        Rung::Preload => doors.extend(yama(place, Descent::Ours)),
        Rung::Programs => programs(place, &mut doors),
        Rung::Tracepoints => tracepoints(place, &mut doors),
        Rung::Watchpoints => perf(place, &mut doors),
        Rung::Looks => {}
    }
    if rung != Rung::Preload {
        doors.extend(subject.into_iter().flat_map(|subject| looking_in(place, subject)));
    }
    doors
}

fn programs(place: &Place, doors: &mut Vec<Door>) {
    if bpf::kernel::version(&place.release).is_none_or(|version| version < bpf::kernel::OLDEST) {
        doors.push(Door::OldKernel);
    }
    if let Answer::Filter(errno) = place.bpf {
        doors.push(Door::BpfFiltered(errno));
    }
    doors.extend(rights(place, &[(Capability::Bpf, "CAP_BPF"), (Capability::PerfMon, "CAP_PERFMON")]));
    if place.lockdown == Some(Lockdown::Confidentiality) {
        doors.push(Door::Confidential);
    }
    perf(place, doors);
}

fn tracepoints(place: &Place, doors: &mut Vec<Door>) {
    match &place.tracefs {
        TracefsState::Usable => {}
        TracefsState::NotMounted => doors.push(Door::TracefsNotMounted),
        TracefsState::NoUprobes => doors.push(Door::NoUprobes),
        TracefsState::Refused(_) if place.lockdown == Some(Lockdown::Confidentiality) => doors.push(Door::Confidential),
        TracefsState::Refused(path) => doors.push(Door::TracefsRefused(path.clone())),
    }
    perf(place, doors);
}

/// What shuts `perf_event_open` for threads that may be looked into.
pub(super) fn perf(place: &Place, doors: &mut Vec<Door>) {
    if let Answer::Filter(errno) = place.perf {
        doors.push(Door::PerfFiltered(errno));
    } else if let Some(level @ 3..) = place.paranoid
        && !place.has(Capability::PerfMon)
    {
        doors.push(Door::Paranoid(level));
    }
}

/// The rights of `wanted` that do not count.
fn rights(place: &Place, wanted: &[(Capability, &'static str)]) -> Option<Door> {
    let missing = wanted.iter().filter(|(capability, _)| !place.has(*capability));
    let names: Vec<&str> = missing.clone().map(|(_, name)| *name).collect();
    let nominal = missing.clone().all(|(capability, _)| place.capabilities.has(*capability));
    match (names.is_empty(), nominal) {
        (true, _) => None,
        (false, true) => Some(Door::UserNamespace(names)),
        (false, false) => Some(Door::Rights(names)),
    }
}

/// What shuts the memory of a process.
pub(super) fn looking_in(place: &Place, subject: &Subject) -> Option<Door> {
    let missing = missing_for_strangers(place);
    if subject.users.iter().any(|user| *user != place.user) {
        let door = (!missing.is_empty()).then(|| Door::OtherUser(subject.users[0], missing));
        return door.or_else(|| yama(place, subject.descent));
    }
    if !subject.dumpable && !missing.is_empty() {
        return Some(Door::NotDumpable(missing));
    }
    if subject.capabilities.0 & !place.capabilities.0 != 0 && !place.capabilities.has(Capability::SysPtrace) {
        return Some(Door::MoreRights);
    }
    yama(place, subject.descent)
}

/// What is missing for processes of others: the right to look into them, and the one to open files of theirs in `/proc`.
fn missing_for_strangers(place: &Place) -> Vec<&'static str> {
    let needed = [(Capability::SysPtrace, "CAP_SYS_PTRACE"), (Capability::DacReadSearch, "CAP_DAC_READ_SEARCH")];
    needed.into_iter().filter(|(right, _)| !place.capabilities.has(*right)).map(|(_, name)| name).collect()
}

/// What the security module of that name shuts for processes that the kernel itself would let be looked into.
fn yama(place: &Place, descent: Descent) -> Option<Door> {
    let lowest = match (place.capabilities.has(Capability::SysPtrace), descent) {
        (true, _) => 3,
        (false, Descent::Ours) => 2,
        (false, Descent::Strangers) => 1,
    };
    place.yama.filter(|scope| *scope >= lowest).map(Door::Yama)
}

/// What is found about doors that stand in one way.
pub(super) fn findings(doors: &[Door], place: &Place, subject: Option<&Subject>) -> Vec<DoorFinding> {
    let mut lacking: Vec<&str> = doors.iter().flat_map(Door::lacking).copied().collect();
    lacking.dedup();
    let finding = |door: &Door| DoorFinding {
        key: door.key(),
        words: door.words(place),
        remedies: remedies(door, place, Way { subject, lacking: &lacking }),
    };
    doors.iter().map(finding).collect()
}

impl Door {
    /// The rights that would open it.
    fn lacking(&self) -> &[&'static str] {
        match self {
            Self::Rights(names) | Self::OtherUser(_, names) | Self::NotDumpable(names) => names,
            Self::MoreRights | Self::Yama(1..=2) => &["CAP_SYS_PTRACE"],
            Self::Paranoid(_) => &["CAP_PERFMON"],
            _ => &[],
        }
    }

    const fn key(&self) -> &'static str {
        match self {
            Self::GVisor => "gvisor",
            Self::OldKernel => "old_kernel",
            Self::BpfFiltered(_) => "bpf_filtered",
            Self::PerfFiltered(_) => "perf_filtered",
            Self::UserNamespace(_) => "user_namespace",
            Self::Rights(_) => "capabilities",
            Self::Paranoid(_) => "perf_event_paranoid",
            Self::Confidential => "lockdown",
            Self::TracefsNotMounted => "tracefs_not_mounted",
            Self::NoUprobes => "no_uprobe_events",
            Self::TracefsRefused(_) => "tracefs_refused",
            Self::OtherUser(..) => "other_user",
            Self::NotDumpable(_) => "not_dumpable",
            Self::MoreRights => "more_capabilities",
            Self::Yama(_) => "yama",
        }
    }

    pub(super) fn words(&self, place: &Place) -> String {
        match self {
            Self::GVisor => "the kernel is gVisor, which has neither uprobes nor perf events".to_owned(),
            Self::OldKernel => {
                let (major, minor) = bpf::kernel::OLDEST;
                format!(
                    "programs on the probes of one process need Linux {major}.{minor}, and this is {}",
                    place.release
                )
            }
            Self::BpfFiltered(errno) => filtered("bpf", *errno, place),
            Self::PerfFiltered(errno) => filtered("perf_event_open", *errno, place),
            Self::UserNamespace(names) => format!("{} count only inside this user namespace", names.join(" and ")),
            Self::Rights(names) => format!("{} missing", listed(names)),
            Self::Paranoid(level) => {
                format!("kernel.perf_event_paranoid is {level}: without CAP_PERFMON nobody may use perf_event_open")
            }
            Self::Confidential => "the kernel is locked down to confidentiality".to_owned(),
            Self::TracefsNotMounted => "tracefs is not mounted".to_owned(),
            Self::NoUprobes => "the kernel was built without CONFIG_UPROBE_EVENTS".to_owned(),
            Self::TracefsRefused(path) => format!("{path} may not be written by this user"),
            Self::OtherUser(user, names) => {
                format!("the process belongs to {}, and {} missing", user_name(*user), listed(names))
            }
            Self::NotDumpable(names) => format!(
                "the process is not dumpable (PR_SET_DUMPABLE, or it has changed its user), and {} missing",
                listed(names)
            ),
            Self::MoreRights => "the process has capabilities that gilscope has not".to_owned(),
            Self::Yama(1) => {
                "kernel.yama.ptrace_scope is 1: only processes that gilscope has started may be looked into".to_owned()
            }
            Self::Yama(2) => "kernel.yama.ptrace_scope is 2: only CAP_SYS_PTRACE may look into processes".to_owned(),
            Self::Yama(scope) => format!("kernel.yama.ptrace_scope is {scope}: nobody may look into processes"),
        }
    }
}

/// With a verb.
fn listed(names: &[&str]) -> String {
    format!("{} {}", names.join(" and "), if names.len() == 1 { "is" } else { "are" })
}

fn filtered(call: &str, errno: i32, place: &Place) -> String {
    match (errno, place.seccomp) {
        (libc::ENOSYS, Some(0)) => format!("this kernel has no {call}"),
        (_, Some(2)) => format!("a system call filter (seccomp) refuses {call}"),
        _ => format!("{call} is refused before the kernel looks at it, by what cannot be told"),
    }
}

#[cfg(test)]
mod tests;
