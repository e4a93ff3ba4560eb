//! Reports for which there is no room: nothing that was there before is lost, and nothing that was recorded.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    live::privilege::is_root,
    place::{Ended, Place, SPIN, end},
};

/// Where the hint says that the report is.
fn kept(ended: &Ended) -> PathBuf {
    let hint = ended.said.lines().find_map(|line| line.strip_prefix("hint: the report is kept in "));
    PathBuf::from(hint.unwrap_or_else(|| panic!("no hint in {}", ended.said)))
}

#[test]
fn a_report_that_a_full_device_refuses_is_kept_elsewhere() {
    let place = Place::new();
    let ended = place.end("run -q -f json -o /dev/full --json beside.json spin.py 0.3");
    ended.assert_refusal(1, "write the report to `/dev/full`: No space left on device");
    let kept = fs::read(kept(&ended)).unwrap();
    assert_eq!(kept, fs::read(place.path("beside.json")).unwrap(), "the other report was written all the same");
}

#[test]
fn an_old_report_survives_a_full_disk() {
    if !is_root() {
        return println!("skipped: only root may mount a small file system");
    }
    let place = Place::new();
    fs::create_dir(place.path("small")).unwrap();
    // Too small for any report, and it goes with its namespace.
    let mount = "mount -t tmpfs -o size=16k tmpfs small && echo old >small/p.json";
    let watch = "trap 'cp small/* seen' EXIT; mkdir seen";
    let mut command = place.prepared(Command::new("unshare"));
    let script = format!("{watch}; {mount}; \"$0\" run -q -o small/p.json --json small/q.json spin.py 0.3");
    command.args(["-m", "bash", "-c", &script, env!("CARGO_BIN_EXE_gilscope")]);
    let ended = end(&mut command);
    ended.assert_code(1).assert_said("No space left on device");
    assert_eq!(place.read("seen/p.json"), "old\n");
    assert!(!place.path("seen/q.json").exists(), "half a report was left");
    let profile: serde_json::Value = serde_json::from_slice(&fs::read(kept(&ended)).unwrap()).unwrap();
    assert_eq!(profile["schema"], "gilscope/1");
}

/// A limit on the size of files comes as a signal that ends programs.
#[test]
fn a_report_that_can_be_kept_nowhere_is_told() {
    let place = Place::new();
    let limit = "import os, resource; resource.prlimit(os.getppid(), resource.RLIMIT_FSIZE, (8192, 8192))\n";
    place.file("limit.py", &format!("{limit}{SPIN}"));
    let ended = place.end("run -q -o p.json limit.py 0.3");
    ended.assert_code(1).assert_said("File too large").assert_said("hint: nor was there room for it");
    ended.assert_said("How far to trust this");
    assert!(!place.path("p.json").exists());
}
