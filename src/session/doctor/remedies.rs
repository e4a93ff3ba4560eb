//! What opens a door: commands, capabilities, settings, container flags; the one most likely to be at hand first.

use crate::{
    session::doctor::{
        doors::Door,
        place::{Container, Place},
        process::Subject,
    },
    target::process::user_name,
};

const ALL_CAPABILITIES: &str = "BPF PERFMON SYS_PTRACE";

/// What is to be opened, door by door.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way<'a> {
    /// The process that it leads to.
    pub(super) subject: Option<&'a Subject>,
    /// The rights that are missing for all its doors together.
    pub(super) lacking: &'a [&'static str],
}

/// Each of these opens the door by itself.
pub(super) fn remedies(door: &Door, place: &Place, way: Way<'_>) -> Vec<String> {
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    match door {
        Door::GVisor => words(&["docker run --runtime=runc … (another runtime than runsc)"]),
        Door::OldKernel => words(&["Linux 6.10 or later; until then, the rungs below"]),
        Door::BpfFiltered(_) | Door::PerfFiltered(_) => unfiltered(place),
        Door::UserNamespace(_) => words(&["run gilscope on the host, as root: sudo gilscope attach PID"]),
        Door::Rights(_) => privileged(place, way),
        Door::Paranoid(_) => {
            let mut list = words(&["sudo sysctl kernel.perf_event_paranoid=2"]);
            list.extend(privileged(place, way));
            list
        }
        Door::Confidential => words(&["boot with lockdown=integrity on the kernel's command line"]),
        Door::TracefsNotMounted => mounted(place),
        Door::NoUprobes => words(&["a kernel with CONFIG_UPROBE_EVENTS=y"]),
        Door::TracefsRefused(_) => vec![sudo(way.subject)],
        Door::OtherUser(user, _) => other_user(place, *user, way),
        Door::NotDumpable(_) | Door::MoreRights => privileged(place, way),
        Door::Yama(1) => {
            let mut list = words(&["sudo sysctl kernel.yama.ptrace_scope=0"]);
            list.extend(privileged(place, way));
            list.push("gilscope run SCRIPT, which starts the program itself".to_owned());
            list
        }
        Door::Yama(2) => privileged(place, way),
        Door::Yama(_) => words(&["only another setting of kernel.yama.ptrace_scope at the next boot"]),
    }
}

fn sudo(subject: Option<&Subject>) -> String {
    subject.map_or_else(|| "sudo gilscope …".to_owned(), |subject| format!("sudo gilscope attach {}", subject.pid))
}

/// How to get rights.
fn privileged(place: &Place, way: Way<'_>) -> Vec<String> {
    let bare = || way.lacking.iter().map(|name| name.trim_start_matches("CAP_")).collect::<Vec<_>>();
    match place.container {
        Some(Container::Kubernetes) => {
            vec![format!("securityContext: {{capabilities: {{add: [{}]}}}} for the container", bare().join(", "))]
        }
        Some(_) => {
            let flags: Vec<String> = bare().iter().map(|name| format!("--cap-add={name}")).collect();
            vec![format!("{} run {} …", runtime(place), flags.join(" "))]
        }
        None => {
            let list: Vec<String> = way.lacking.iter().map(|name| name.to_lowercase()).collect();
            vec![sudo(way.subject), format!("sudo setcap {}+ep \"$(command -v gilscope)\"", list.join(","))]
        }
    }
}

/// How to get rid of a filter.
fn unfiltered(place: &Place) -> Vec<String> {
    match place.container {
        Some(Container::Kubernetes) => vec![
            "securityContext: {seccompProfile: {type: Unconfined}} for the container".to_owned(),
            format!("securityContext: {{capabilities: {{add: [{}]}}}}", ALL_CAPABILITIES.replace(' ', ", ")),
        ],
        Some(Container::Docker | Container::Podman) => vec![
            format!("{0} run --cap-add=PERFMON --cap-add=BPF --cap-add=SYS_PTRACE …", runtime(place)),
            format!("{} run --security-opt seccomp=unconfined …", runtime(place)),
        ],
        None => vec![
            "docker run --cap-add=PERFMON --cap-add=BPF --cap-add=SYS_PTRACE … (or --security-opt seccomp=unconfined)"
                .to_owned(),
            "SystemCallFilter=@default perf_event_open bpf, for a service of systemd".to_owned(),
        ],
    }
}

fn mounted(place: &Place) -> Vec<String> {
    let mount = "sudo mount -t tracefs tracefs /sys/kernel/tracing".to_owned();
    match place.container {
        Some(Container::Kubernetes) => vec!["a hostPath volume of /sys/kernel/tracing, mounted there".to_owned()],
        Some(_) => vec![format!("{} run -v /sys/kernel/tracing:/sys/kernel/tracing …", runtime(place))],
        None => vec![mount],
    }
}

fn other_user(place: &Place, user: u32, way: Way<'_>) -> Vec<String> {
    let mut list = privileged(place, way);
    if let (None, Some(subject)) = (place.container, way.subject)
        && user != 0
    {
        list.push(format!("sudo -u {} gilscope attach {}", user_name(user), subject.pid));
    }
    list
}

const fn runtime(place: &Place) -> &'static str {
    match place.container {
        Some(Container::Podman) => "podman",
        _ => "docker",
    }
}
