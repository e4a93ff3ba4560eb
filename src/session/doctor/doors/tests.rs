//! Which doors are shut in places that this machine is not.

use super::{Door, findings, shut};
use crate::{
    model::ids::Pid,
    session::{
        doctor::{
            place::{Answer, Capabilities, Container, Lockdown, Namespace, Place, TracefsState},
            process::{Descent, Subject},
        },
        ladder::Rung,
    },
};

const ALL: Capabilities = Capabilities(0x1ff_ffff_ffff);
const BPF_AND_PERFMON: Capabilities = Capabilities(1 << 39 | 1 << 38);

/// Root on a host of today.
fn open() -> Place {
    Place {
        release: "6.12.0-1-amd64".to_owned(),
        gvisor: false,
        user: 0,
        capabilities: ALL,
        user_namespace: Namespace::First,
        pid_namespace: Namespace::First,
        seccomp: Some(0),
        perf: Answer::Kernel,
        bpf: Answer::Kernel,
        paranoid: Some(2),
        yama: Some(1),
        unprivileged_bpf_disabled: Some(2),
        lockdown: Some(Lockdown::Off),
        tracefs: TracefsState::Usable,
        container: None,
    }
}

/// Somebody without rights on the same host.
fn plain() -> Place {
    let tracefs = TracefsState::Refused("/sys/kernel/tracing/uprobe_events".to_owned());
    Place { user: 1000, capabilities: Capabilities(0), tracefs, ..open() }
}

/// A process of that somebody's.
fn own() -> Subject {
    let pid = Pid::from_raw(4242).unwrap();
    Subject { pid, users: vec![1000; 3], capabilities: Capabilities(0), dumpable: true, descent: Descent::Strangers }
}

fn last(place: &Place, subject: &Subject) -> Option<Door> {
    shut(Rung::Tracepoints, place, Some(subject)).pop()
}

#[test]
fn nothing_is_shut_for_root() {
    for rung in Rung::ALL {
        assert_eq!(shut(rung, &open(), Some(&own())), [], "{rung:?}");
    }
    assert_eq!(shut(Rung::Preload, &plain(), Some(&own())), []);
}

#[test]
fn programs_need_a_kernel_a_place_and_rights_in_this_order() {
    let old = Place { release: "6.9.3".to_owned(), ..plain() };
    let names = vec!["CAP_BPF", "CAP_PERFMON"];
    let expected = [Door::OldKernel, Door::Rights(names.clone()), Door::Yama(1)];
    assert_eq!(shut(Rung::Programs, &old, Some(&own())), expected);
    let with_rights = Place { capabilities: BPF_AND_PERFMON, yama: Some(0), ..plain() };
    assert_eq!(shut(Rung::Programs, &with_rights, Some(&own())), []);
    let nominal = Place { user_namespace: Namespace::Nested, ..open() };
    assert_eq!(shut(Rung::Programs, &nominal, None), [Door::UserNamespace(names)]);
}

#[test]
fn a_filter_is_told_from_missing_rights() {
    let filtered = Place {
        seccomp: Some(2),
        perf: Answer::Filter(libc::EPERM),
        bpf: Answer::Filter(libc::EPERM),
        paranoid: Some(4),
        ..open()
    };
    let expected = [Door::BpfFiltered(libc::EPERM), Door::PerfFiltered(libc::EPERM)];
    assert_eq!(shut(Rung::Programs, &filtered, None), expected);
    let words = |place: &Place| findings(&shut(Rung::Tracepoints, place, None), place, None)[0].words.clone();
    assert_eq!(words(&filtered), "a system call filter (seccomp) refuses perf_event_open");
    let absent = Place { seccomp: Some(0), perf: Answer::Filter(libc::ENOSYS), ..open() };
    assert_eq!(words(&absent), "this kernel has no perf_event_open");
    let mysterious = Place { seccomp: Some(0), ..filtered };
    assert!(words(&mysterious).ends_with("by what cannot be told"));
}

#[test]
fn levels_that_debian_knows_shut_perf_for_all_without_the_right() {
    for level in [3, 4] {
        let place = Place { paranoid: Some(level), tracefs: TracefsState::Usable, yama: None, ..plain() };
        let doors = shut(Rung::Tracepoints, &place, Some(&own()));
        assert_eq!(doors, [Door::Paranoid(level)]);
        assert_eq!(findings(&doors, &place, None)[0].remedies[0], "sudo sysctl kernel.perf_event_paranoid=2");
        let able = Place { capabilities: BPF_AND_PERFMON, ..place };
        assert_eq!(shut(Rung::Tracepoints, &able, Some(&own())), []);
    }
}

#[test]
fn a_process_is_shut_by_the_first_of_owner_dumpability_rights_and_yama() {
    let both = vec!["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"];
    let stranger = Subject { users: vec![0, 1000, 1000], dumpable: false, ..own() };
    assert_eq!(last(&plain(), &stranger), Some(Door::OtherUser(0, both.clone())));
    assert_eq!(last(&plain(), &Subject { dumpable: false, ..own() }), Some(Door::NotDumpable(both)));
    assert_eq!(last(&plain(), &Subject { capabilities: BPF_AND_PERFMON, ..own() }), Some(Door::MoreRights));
    assert_eq!(last(&plain(), &own()), Some(Door::Yama(1)));
    let ptrace_alone = Place { capabilities: Capabilities(1 << 19), ..plain() };
    assert_eq!(
        last(&ptrace_alone, &stranger),
        Some(Door::OtherUser(0, vec!["CAP_DAC_READ_SEARCH"])),
        "files of root's"
    );
    let child = Subject { descent: Descent::Ours, ..own() };
    let tracefs = Some(Door::TracefsRefused("/sys/kernel/tracing/uprobe_events".to_owned()));
    assert_eq!(last(&plain(), &child), tracefs, "a descendant may be looked into");
    for scope in [2, 3] {
        assert_eq!(last(&Place { yama: Some(scope), ..plain() }, &child), Some(Door::Yama(scope)));
    }
    assert_eq!(last(&Place { yama: Some(2), ..open() }, &own()), None);
    assert_eq!(last(&Place { yama: Some(3), ..open() }, &own()), Some(Door::Yama(3)), "not even root");
    let preload = |yama| shut(Rung::Preload, &Place { yama: Some(yama), ..plain() }, None);
    assert_eq!((preload(1), preload(2)), (vec![], vec![Door::Yama(2)]), "a launched program's memory is read, too");
}

#[test]
fn a_locked_down_kernel_and_another_kernel_are_named() {
    let refused = TracefsState::Refused("/sys/kernel/tracing/uprobe_events".to_owned());
    let locked = Place { lockdown: Some(Lockdown::Confidentiality), tracefs: refused, ..open() };
    assert_eq!(shut(Rung::Tracepoints, &locked, None), [Door::Confidential]);
    assert_eq!(shut(Rung::Programs, &locked, None), [Door::Confidential]);
    let gvisor = Place { gvisor: true, ..open() };
    assert_eq!(shut(Rung::Programs, &gvisor, None), [Door::GVisor]);
    let bare = Place { tracefs: TracefsState::NotMounted, ..open() };
    let found = findings(&shut(Rung::Tracepoints, &bare, None), &bare, None);
    assert_eq!(found[0].remedies, ["sudo mount -t tracefs tracefs /sys/kernel/tracing"]);
}

#[test]
fn what_opens_a_door_fits_the_container_and_names_all_rights_at_once() {
    let first = |container, place: Place| {
        let place = Place { container, ..place };
        let doors = shut(Rung::Programs, &place, Some(&Subject { users: vec![0; 3], ..own() }));
        findings(&doors, &place, Some(&own()))[0].remedies.clone()
    };
    let setcap = "sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep \"$(command -v gilscope)\"";
    assert_eq!(first(None, plain()), ["sudo gilscope attach 4242", setcap]);
    let docker = "docker run --cap-add=BPF --cap-add=PERFMON --cap-add=SYS_PTRACE --cap-add=DAC_READ_SEARCH …";
    assert_eq!(first(Some(Container::Docker), plain()), [docker]);
    assert_eq!(first(Some(Container::Podman), plain()), [docker.replace("docker", "podman")]);
    let pod = "securityContext: {capabilities: {add: [BPF, PERFMON, SYS_PTRACE, DAC_READ_SEARCH]}} for the container";
    assert_eq!(first(Some(Container::Kubernetes), plain()), [pod]);
}
