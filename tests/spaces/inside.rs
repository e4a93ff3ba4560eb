//! gilscope in the container with its target.

use std::fs;

use crate::{
    live::{interpreters::usual, privilege::may_use_uprobes},
    stage::{APART, Stage, assert_kept, assert_short_threads, has_function, has_note, word},
};

#[test]
fn each_source_works_inside_a_pid_namespace() {
    let Some(stage) = Stage::new() else { return };
    let python = usual();
    for backend in ["preload", "uprobe"] {
        if backend == "uprobe" && !may_use_uprobes() {
            continue;
        }
        let run = format!("gilscope run -q --backend {backend} --python {} -o p.json keeper.py", word(&python));
        let ended = stage.end(&format!("{APART} {run}"));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let profile = stage.profile("p.json");
        assert_eq!(profile["target"]["namespaces"], serde_json::json!([]));
        assert_kept(&profile, &ended.out);
        assert_short_threads(&profile);
        assert!(has_function(&profile, "keep"));
        assert!(backend == "preload" || has_note(&profile, "BPF programs at uprobes") || is_old_kernel());
    }
}

/// Programs see neither gilscope's numbers nor the target's there, so tracepoints have to do.
#[test]
fn a_namespace_inside_a_namespace_is_observed_without_programs() {
    let Some(stage) = Stage::new() else { return };
    if !may_use_uprobes() {
        return;
    }
    let script = format!(
        "mkfifo go; {APART} {} keeper.py wait <go >said & exec 3>go
        until [ -s said ]; do sleep 0.05; done
        target=$(cat /proc/$!/task/$!/children)
        {} attach -v -o a.json $target 2>words & gilscope=$!
        until grep -q 'recording process' words; do sleep 0.05; done
        echo >&3; wait $gilscope",
        word(&usual()),
        stage.gilscope.display(),
    );
    fs::write(stage.path("nested.sh"), script).unwrap();
    let ended = stage.end(&format!("{APART} sh nested.sh"));
    assert_eq!(ended.code, Some(0), "{ended:?} {:?}", fs::read_to_string(stage.path("words")));
    let profile = stage.profile("a.json");
    assert_kept(&profile, &fs::read_to_string(stage.path("said")).unwrap());
    assert!(has_note(&profile, "uprobes in tracefs"), "{:#}", profile["quality"]);
}

fn is_old_kernel() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|word| word.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) < (Some(6), Some(10))
}
