//! Where the kernel shows less of the scheduler: a seccomp filter that refuses `perf_event_open`, as containers have it, and a
//! `/proc` that hides other users' processes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unsafe_code, reason = "a filter is installed between fork and exec")]

#[path = "support/live.rs"]
mod live;

use std::{fs, os::unix::process::CommandExt, path::Path, process::Command};

use serde_json::Value;

use live::{copied::copy_program, privilege::is_root};

/// How far a state may be off, as a share of the thread's life: the kernel's counts are exact, how they divide is inferred.
const TOLERANCE: f64 = 0.03;
const ATTEMPTS: u32 = 3;

/// Has the kernel refuse `perf_event_open` to the command and its children.
fn without_perf(command: &mut Command) {
    let number = u32::try_from(libc::SYS_perf_event_open).unwrap();
    let refuse = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EPERM).unwrap();
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf, k };
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, refuse),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
        // SAFETY: the call takes numbers only.
        let kept = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        // SAFETY: the program points to four instructions that outlive the call.
        let installed = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
        if kept == 0 && installed == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec there are two system calls and no allocation.
    unsafe { command.pre_exec(install) };
}

fn launch(command: &mut Command, program: &str, folder: &Path) -> (Value, Value) {
    let (profile, truth) = (folder.join("profile.json"), folder.join("truth.json"));
    let gilscope = env!("CARGO_BIN_EXE_gilscope");
    command.args(["run", "-q", "--max-overhead", "none", "-o"]).arg(&profile).arg("--").args([gilscope, "toyvm"]);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/toy").join(program)).arg("--truth").arg(&truth);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |path: &Path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    (read(&profile), read(&truth))
}

#[test]
fn running_and_blocked_are_sampled_where_perf_is_refused() {
    for program in ["demo.toy", "asleep_holding.toy"] {
        let mut faults = Vec::new();
        for _ in 0..ATTEMPTS {
            let folder = tempfile::tempdir().unwrap();
            let mut gilscope = Command::new(env!("CARGO_BIN_EXE_gilscope"));
            without_perf(&mut gilscope);
            let (profile, truth) = launch(&mut gilscope, program, folder.path());
            assert_eq!(profile["quality"]["scheduler"], "sampled");
            assert_eq!(profile["quality"]["invariants_broken"], Value::Array(Vec::new()));
            assert_eq!(profile["exact"], true);
            faults = faults_of(&profile, &truth);
            if faults.is_empty() {
                break;
            }
            println!("{program}: {}", faults.join("; "));
        }
        assert!(faults.is_empty(), "{program}: {}", faults.join("; "));
    }
}

/// Preempted and blocked are compared together: the border is inferred with switch records as well. Blocked outside is left
/// out: the thread lives for longer than it notes.
fn faults_of(profile: &Value, truth: &Value) -> Vec<String> {
    let threads = truth["threads"].as_array().unwrap();
    let fault = |truth: &Value| {
        let found = profile["threads"].as_array().unwrap().iter().find(|thread| thread["tid"] == truth["tid"])?;
        let life = found["lifetime_ns"].as_f64().unwrap();
        let time = |thread: &Value, state: &str| thread["states_ns"][state].as_f64().unwrap_or_default();
        let groups = [&["held_running"][..], &["held_preempted", "held_blocked"], &["outside_running"]];
        let off =
            |group: &[&str]| group.iter().map(|state| (time(found, state) - time(truth, state)) / life).sum::<f64>();
        let wrong = groups.into_iter().map(|group| (group, off(group))).filter(|(_, off)| off.abs() > TOLERANCE);
        let wrong: Vec<String> = wrong.map(|(group, off)| format!("{group:?} {:+.1} %", off * 100.0)).collect();
        (!wrong.is_empty()).then(|| format!("{}: {}", truth["tid"], wrong.join(", ")))
    };
    threads.iter().filter_map(fault).collect()
}

/// A user without rights, whose programs nobody else sees, and no perf: own programs show all that is needed.
#[test]
fn a_proc_that_hides_others_shows_ones_own() {
    if !is_root() {
        live::outcome::skipped("a hiding /proc: needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let (gilscope, program) = (folder.path().join("gilscope"), folder.path().join("p.toy"));
    copy_program(env!("CARGO_BIN_EXE_gilscope"), &gilscope);
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/toy/io_bound.toy"), &program).unwrap();
    let script = "mount -t proc -o hidepid=2 proc /proc && cd $0 && \
                  exec setpriv --reuid=65534 --regid=65534 --clear-groups ./gilscope run -q -o p.json p.toy";
    let mut hidden = Command::new("unshare");
    hidden.args(["-m", "sh", "-c", script]).arg(folder.path());
    without_perf(&mut hidden);
    let output = hidden.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let profile: Value = serde_json::from_slice(&fs::read(folder.path().join("p.json")).unwrap()).unwrap();
    assert_eq!(profile["quality"]["scheduler"], "sampled");
    // Of a thread that ends before the first reading it is not known whether it ran.
    for thread in profile["threads"].as_array().unwrap() {
        assert_eq!(thread["classes_ns"]["unknown"], 0, "{thread}");
        let (unknown, life) = (&thread["states_ns"]["unknown"], thread["lifetime_ns"].as_f64().unwrap());
        assert!(*unknown == 0 || life < 0.7e9, "{thread}");
    }
}
