//! Threads that are still there when the interpreter ends.

use crate::{
    live::{interpreters::interpreters, privilege::may_use_uprobes, stolen::with_stolen},
    program::{Stage, Who, assert_all_sound, unmatched},
};

/// Daemon threads that hold, wait for and ask for the lock while the interpreter shuts down.
const DAEMONS: &str = "
import sys, threading, time
sys.setswitchinterval(0.001)
def spin():
    while True: pass
def nap():
    while True: time.sleep(0.0005)
for work in (spin, spin, nap, nap):
    threading.Thread(target=work, daemon=True).start()
end = time.monotonic() + 0.8
while time.monotonic() < end: pass
print('end')
";

const RETRIES: usize = 2;

#[test]
fn daemon_threads_break_nothing_at_the_end() {
    let stage = Stage::new();
    for interpreter in interpreters() {
        let words = stage.script(&interpreter, DAEMONS);
        for backend in ["preload", "uprobe"] {
            if backend == "uprobe" && !may_use_uprobes() {
                continue;
            }
            let case = format!("{} with {backend}", interpreter.name);
            let attempt = || with_stolen(|| stage.run(Who::Ourselves, &["--backend", backend], &words));
            let (mut run, mut stolen) = attempt();
            // While the hypervisor has a CPU, a record may come later than any should.
            for _ in 0..RETRIES {
                if unmatched(&run.profile) > 0 && !stolen.is_zero() {
                    println!("{case}: with {stolen:?} stolen: {}", run.profile["quality"]);
                    (run, stolen) = attempt();
                }
            }
            assert_eq!((run.code, run.stdout.as_str()), (Some(0), "end\n"), "{case}: {}", run.stderr);
            assert_all_sound(&run.profile, &case);
            assert_eq!(run.profile["threads"].as_array().unwrap().len(), 5, "{case}");
            // Somebody spins with the lock all the while; on a busy machine the interpreter's start takes longer than that.
            let held = run.profile["locks"][0]["held_ns"].as_u64().unwrap();
            assert!(held > 400_000_000, "{case}: {held}");
        }
    }
}
