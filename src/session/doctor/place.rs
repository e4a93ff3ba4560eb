//! Where gilscope runs, as far as it decides what the kernel lets it do. Everything is read anew and nothing is inferred.

use std::{fs, io, path::Path};

use crate::{
    bpf,
    model::diagnosis::{Fact, Value},
    perf::{self, error::paranoid},
    source::uprobe::{error::UprobeError, tracefs::Tracefs},
};

/// Rights that matter here, with their numbers.
const CAPABILITIES: [(Capability, u32, &str); 6] = [
    (Capability::Bpf, 39, "CAP_BPF"),
    (Capability::PerfMon, 38, "CAP_PERFMON"),
    (Capability::SysPtrace, 19, "CAP_SYS_PTRACE"),
    (Capability::SysAdmin, 21, "CAP_SYS_ADMIN"),
    (Capability::DacReadSearch, 2, "CAP_DAC_READ_SEARCH"),
    (Capability::DacOverride, 1, "CAP_DAC_OVERRIDE"),
];

/// A right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Capability {
    Bpf,
    PerfMon,
    SysPtrace,
    SysAdmin,
    DacReadSearch,
    DacOverride,
}

/// The rights of a process, as the kernel prints them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Capabilities(pub(super) u64);

/// Whether a namespace is the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Namespace {
    First,
    Nested,
}

/// Who answers a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Answer {
    Kernel,
    /// A filter, with this error.
    Filter(i32),
}

/// What tracefs is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TracefsState {
    Usable,
    NotMounted,
    NoUprobes,
    Refused(String),
}

/// What keeps programs apart from the host, if anything does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Container {
    Docker,
    Podman,
    Kubernetes,
}

/// How far a locked-down kernel goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Lockdown {
    Off,
    Integrity,
    Confidentiality,
}

/// The place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) release: String,
    pub(super) gvisor: bool,
    pub(super) user: u32,
    pub(super) capabilities: Capabilities,
    pub(super) user_namespace: Namespace,
    pub(super) pid_namespace: Namespace,
    /// The line of `/proc/self/status`; `None` in kernels without filters.
    pub(super) seccomp: Option<i64>,
    pub(super) perf: Answer,
    pub(super) bpf: Answer,
    pub(super) paranoid: Option<i64>,
    pub(super) yama: Option<i64>,
    pub(super) unprivileged_bpf_disabled: Option<i64>,
    pub(super) lockdown: Option<Lockdown>,
    pub(super) tracefs: TracefsState,
    pub(super) container: Option<Container>,
}

impl Capabilities {
    pub(super) fn of_status(status: &str) -> Option<Self> {
        u64::from_str_radix(field(status, "CapEff")?, 16).ok().map(Self)
    }

    /// Whether this right is there; the greater ones include the lesser.
    pub(super) fn has(self, wanted: Capability) -> bool {
        let bit = |of: Capability| {
            CAPABILITIES.iter().any(|(capability, number, _)| *capability == of && self.0 >> number & 1 == 1)
        };
        let included = match wanted {
            Capability::Bpf | Capability::PerfMon => bit(Capability::SysAdmin),
            Capability::DacReadSearch => bit(Capability::DacOverride),
            _ => false,
        };
        bit(wanted) || included
    }

    pub(super) fn names(self) -> Vec<&'static str> {
        let here = CAPABILITIES.iter().filter(|(_, number, _)| self.0 >> number & 1 == 1);
        here.map(|(_, _, name)| *name).collect()
    }
}

impl Place {
    /// This process's.
    pub(super) fn here() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        let pid_namespace = if bpf::kernel::in_pid_namespace() { Namespace::Nested } else { Namespace::First };
        Self {
            release,
            gvisor: is_gvisor(&fs::read_to_string("/proc/version").unwrap_or_default()),
            user: field(&status, "Uid").and_then(|_| effective_user(&status)).unwrap_or(u32::MAX),
            capabilities: Capabilities::of_status(&status).unwrap_or_default(),
            user_namespace: user_namespace(&fs::read_to_string("/proc/self/uid_map").unwrap_or_default()),
            pid_namespace,
            seccomp: field(&status, "Seccomp").and_then(|mode| mode.parse().ok()),
            perf: answer(perf::filtered::reaches_kernel()),
            bpf: answer(bpf::kernel::reaches_kernel()),
            paranoid: paranoid(),
            yama: setting("/proc/sys/kernel/yama/ptrace_scope"),
            unprivileged_bpf_disabled: setting("/proc/sys/kernel/unprivileged_bpf_disabled"),
            lockdown: fs::read_to_string("/sys/kernel/security/lockdown").ok().and_then(|text| lockdown(&text)),
            tracefs: tracefs(),
            container: container(pid_namespace),
        }
    }

    /// Whether a right counts for things outside this process's own namespaces.
    pub(super) fn has(&self, wanted: Capability) -> bool {
        self.user_namespace == Namespace::First && self.capabilities.has(wanted)
    }

    /// For people and for programs.
    pub(super) fn facts(&self) -> Vec<Fact> {
        let fact = |key, name, value| Fact { key, name, value };
        let number = |value: Option<i64>| value.map_or(Value::Absent, Value::Number);
        let namespace =
            |namespace| Value::Text(if namespace == Namespace::First { "the first" } else { "its own" }.to_owned());
        let text = |text: &str| Value::Text(text.to_owned());
        let kernel = if self.gvisor { format!("{} (gVisor)", self.release) } else { self.release.clone() };
        vec![
            fact("kernel", "kernel", Value::Text(kernel)),
            fact("user", "user", Value::Text(crate::target::process::user_name(self.user))),
            fact("capabilities", "capabilities", Value::List(self.capabilities.names())),
            fact("user_namespace", "user namespace", namespace(self.user_namespace)),
            fact("pid_namespace", "pid namespace", namespace(self.pid_namespace)),
            fact("container", "container", self.container.map_or(Value::Absent, |found| text(found.name()))),
            fact("perf_event_paranoid", "kernel.perf_event_paranoid", number(self.paranoid)),
            fact("yama_ptrace_scope", "kernel.yama.ptrace_scope", number(self.yama)),
            fact(
                "unprivileged_bpf_disabled",
                "kernel.unprivileged_bpf_disabled",
                number(self.unprivileged_bpf_disabled),
            ),
            fact("seccomp", "system call filter", self.seccomp.map_or(Value::Unknown, seccomp_words)),
            fact("perf_event_open", "perf_event_open", Value::Text(self.perf.words())),
            fact("bpf", "bpf", Value::Text(self.bpf.words())),
            fact("lockdown", "lockdown", self.lockdown.map_or(Value::Unknown, |mode| text(mode.name()))),
            fact("tracefs", "tracefs", Value::Text(self.tracefs.words())),
        ]
    }
}

impl Answer {
    fn words(self) -> String {
        match self {
            Self::Kernel => "reaches the kernel".to_owned(),
            Self::Filter(libc::ENOSYS) => "not there".to_owned(),
            Self::Filter(errno) => {
                format!("refused before it reaches the kernel ({})", io::Error::from_raw_os_error(errno))
            }
        }
    }
}

impl Container {
    const fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Kubernetes => "kubernetes",
        }
    }
}

impl Lockdown {
    const fn name(self) -> &'static str {
        match self {
            Self::Off => "none",
            Self::Integrity => "integrity",
            Self::Confidentiality => "confidentiality",
        }
    }
}

impl TracefsState {
    fn words(&self) -> String {
        match self {
            Self::Usable => "usable".to_owned(),
            Self::NotMounted => "not mounted".to_owned(),
            Self::NoUprobes => "without uprobes".to_owned(),
            Self::Refused(path) => format!("{path} refused"),
        }
    }
}

fn seccomp_words(mode: i64) -> Value {
    match mode {
        0 => Value::Text("none".to_owned()),
        1 => Value::Text("strict".to_owned()),
        2 => Value::Text("in place".to_owned()),
        _ => Value::Unknown,
    }
}

/// The words behind `name:` in a status file.
pub(super) fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The effective user id.
fn effective_user(status: &str) -> Option<u32> {
    field(status, "Uid")?.split_whitespace().nth(1)?.parse().ok()
}

fn setting(path: &str) -> Option<i64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn answer(reached: io::Result<()>) -> Answer {
    reached.map_or_else(|error| Answer::Filter(error.raw_os_error().unwrap_or_default()), |()| Answer::Kernel)
}

/// The first user namespace maps every id to itself.
fn user_namespace(map: &str) -> Namespace {
    let words: Vec<&str> = map.split_whitespace().collect();
    if words == ["0", "0", "4294967295"] { Namespace::First } else { Namespace::Nested }
}

/// gVisor's kernel says the same of itself everywhere: a release that Linux had in 2016, and a build time of that January.
fn is_gvisor(version: &str) -> bool {
    version.contains("gVisor")
        || version.contains("Linux version 4.4.0") && version.contains("Jan 10 15:06:54 PST 2016")
}

/// The mode in brackets.
fn lockdown(text: &str) -> Option<Lockdown> {
    match text.split_once('[')?.1.split_once(']')?.0 {
        "none" => Some(Lockdown::Off),
        "integrity" => Some(Lockdown::Integrity),
        "confidentiality" => Some(Lockdown::Confidentiality),
        _ => None,
    }
}

fn tracefs() -> TracefsState {
    match Tracefs::find() {
        Ok(_) => TracefsState::Usable,
        Err(UprobeError::NoUprobeEvents { .. }) => TracefsState::NoUprobes,
        Err(UprobeError::TracefsRefused { path, .. }) => TracefsState::Refused(path.display().to_string()),
        Err(_) => TracefsState::NotMounted,
    }
}

/// Files alone do not tell: a virtual machine may have been made from a container's image.
fn container(pids: Namespace) -> Option<Container> {
    let there = |path| Path::new(path).exists();
    if pids == Namespace::First {
        None
    } else if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        Some(Container::Kubernetes)
    } else if there("/run/.containerenv") {
        Some(Container::Podman)
    } else {
        there("/.dockerenv").then_some(Container::Docker)
    }
}

#[cfg(test)]
mod tests {
    use super::{Capabilities, Capability, Lockdown, Namespace, is_gvisor, lockdown, user_namespace};

    #[test]
    fn rights_are_read_from_a_status() {
        let none = Capabilities::of_status("Name:\tx\nCapEff:\t0000000000000000\n").unwrap();
        assert!(!none.has(Capability::Bpf) && none.names().is_empty());
        let two = Capabilities::of_status("CapEff:\t000000c000000000\n").unwrap();
        assert_eq!(two.names(), ["CAP_BPF", "CAP_PERFMON"]);
        assert!(two.has(Capability::Bpf) && two.has(Capability::PerfMon) && !two.has(Capability::SysPtrace));
        let admin = Capabilities::of_status("CapEff:\t0000000000200000\n").unwrap();
        assert!(admin.has(Capability::Bpf) && admin.has(Capability::PerfMon) && !admin.has(Capability::SysPtrace));
        assert_eq!(Capabilities::of_status("CapEff:\tnonsense\n"), None);
    }

    #[test]
    fn what_the_kernel_prints_is_understood() {
        assert_eq!(lockdown("none [integrity] confidentiality\n"), Some(Lockdown::Integrity));
        assert_eq!(lockdown("[none] integrity confidentiality\n"), Some(Lockdown::Off));
        assert_eq!(lockdown("nonsense"), None);
        assert_eq!(user_namespace("         0          0 4294967295\n"), Namespace::First);
        assert_eq!(user_namespace("         0       1000          1\n"), Namespace::Nested);
        assert_eq!(user_namespace(""), Namespace::Nested);
        assert!(is_gvisor("Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016"));
        assert!(!is_gvisor("Linux version 4.4.0-210-generic (buildd@lgw01) #242-Ubuntu SMP"));
    }
}
