//! gilscope on the host, its target in a container.

use serde_json::Value;

use crate::{
    live::{
        attached::{attached, attached_with},
        interpreters::{Interpreter, free_threaded, interpreters, usual},
        privilege::may_use_uprobes,
        running::Running,
    },
    stage::{APART, Stage, assert_kept, assert_short_threads, container, has_function, started_by, word},
};

/// One that keeps its kernel's thread number in the interpreter's state, and one that keeps it in libc's.
fn pythons() -> Vec<Interpreter> {
    let old = interpreters().into_iter().find(|python| python.minor <= 10 && python.root.is_none());
    [Some(usual()), old].into_iter().flatten().collect()
}

#[test]
fn the_probe_is_found_in_a_pid_namespace() {
    let Some(stage) = Stage::new() else { return };
    for python in pythons() {
        let ended = stage.end(&format!("gilscope run -q -o p.json -- {APART} {} keeper.py", word(&python)));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let profile = stage.profile("p.json");
        assert_eq!(profile["backend"], "preload");
        assert_eq!(profile["target"]["namespaces"], serde_json::json!(["pid", "mnt"]));
        assert_kept(&profile, &ended.out);
        assert_short_threads(&profile);
        assert!(has_function(&profile, "keep"), "{}: {:#}", python.name, profile["functions"]);
    }
}

fn attached_to(stage: &Stage, words: &str) -> Value {
    let mut program = Running::start(stage.command(words));
    program.line();
    let gilscope = attached(started_by(program.child.id()), &stage.path("a.json"));
    program.go();
    let said = program.line();
    assert!(gilscope.wait_with_output().unwrap().status.success());
    let profile = stage.profile("a.json");
    assert_kept(&profile, &said);
    profile
}

#[test]
fn attaching_reaches_into_a_pid_namespace() {
    let Some(stage) = Stage::new() else { return };
    for python in pythons() {
        let profile = attached_to(&stage, &format!("{APART} {} keeper.py wait", word(&python)));
        assert!(has_function(&profile, "keep"), "{}: {:#}", python.name, profile["functions"]);
    }
}

/// Its files have other devices and paths than ours, its lowest network interface is not ours, and it has no way back.
#[test]
fn attaching_reaches_into_an_overlay_with_a_root_of_its_own() {
    let Some(stage) = Stage::new() else { return };
    let profile = attached_to(&stage, &format!("{} proc {} /keeper.py wait", container(&stage, ""), word(&usual())));
    assert_eq!(profile["target"]["namespaces"], serde_json::json!(["pid", "mnt", "net"]));
    assert!(has_function(&profile, "keep"));
}

#[test]
fn the_probe_is_found_in_an_overlay_with_a_root_of_its_own() {
    let Some(stage) = Stage::new() else { return };
    let words = format!("gilscope run -q -n -o p.json -- {} proc {} /keeper.py", container(&stage, ""), word(&usual()));
    let ended = stage.end(&words);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let profile = stage.profile("p.json");
    assert_kept(&profile, &ended.out);
    assert_short_threads(&profile);
}

/// A user without rights, who is root in there.
#[test]
fn a_user_namespace_of_ones_own_needs_no_rights() {
    let Some(stage) = Stage::new() else { return };
    let user = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    let words = format!("{user} gilscope run -q -o p.json -- unshare -Ur -pf --mount-proc /usr/bin/python3 keeper.py");
    let ended = stage.end(&words);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let profile = stage.profile("p.json");
    assert_kept(&profile, &ended.out);
    assert_eq!(profile["target"]["namespaces"], serde_json::json!(["pid", "mnt", "user"]));
}

/// Whoever has just been born is suspended before the programs in the kernel are told of its state: they find that themselves, by
/// the number that the thread has in there.
#[test]
fn newborn_threads_in_a_pid_namespace_are_told_to_be_suspended() {
    let (Some(stage), Some(python)) = (Stage::new(), free_threaded()) else { return };
    if !may_use_uprobes() {
        return;
    }
    let mut program = Running::start(stage.command(&format!("{APART} {} newborn.py 40", python.display())));
    program.line();
    let options = ["--backend", "uprobe-bpf"];
    let gilscope = attached_with(started_by(program.child.id()), &stage.path("a.json"), &options);
    program.go();
    program.line();
    program.go();
    assert!(gilscope.wait_with_output().unwrap().status.success());
    let profile = stage.profile("a.json");
    // Some live too short for their inner number to be read from outside.
    let first = profile["threads"].as_array().unwrap().iter().find(|thread| thread["inner_tid"] == 1).unwrap();
    let stops = &profile["parking"]["stop_the_world"];
    let suspended = stops["suspended"].as_array().unwrap().iter();
    let newborn = suspended.filter(|thread| thread["tid"] != first["tid"] && thread["suspensions"] != 0);
    // One that loses its CPU on its way to sleep may find the world going on again.
    let told = newborn.count();
    assert!((36..=40).contains(&told), "{told}: {stops:#}");
}
