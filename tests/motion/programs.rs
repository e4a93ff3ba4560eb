//! Programs that are executed: listed, told apart, and none the wiser.

use serde_json::Value;

use crate::{
    live::interpreters::usual,
    program::{Stage, Who, assert_all_sound},
};

/// Prints what it and its children see of us: the environment and the files; ends with a code of its own.
const CURIOUS: &str = r"
import os, subprocess, sys
look = 'import os; print(sorted(k for k in os.environ if k.startswith((\'LD_\', \'GILSCOPE\'))), sorted(os.listdir(\'/proc/self/fd\'))[:-1])'
exec(look)
sys.stdout.flush()
subprocess.run([sys.executable, '-c', look])
subprocess.run('env | grep -c -e LD_PRELOAD -e GILSCOPE', shell=True)
subprocess.run([sys.executable, '-c', look], env={'LD_PRELOAD': 'libc.so.6', 'A': 'b'})
subprocess.run(['/bin/true'])
os.system('exit 0')
try:
    subprocess.run(['/no/such/program'])
except FileNotFoundError as error:
    print(error.errno, error.filename)
sys.exit(subprocess.run([sys.executable, '-c', 'raise SystemExit(43)']).returncode)
";

#[test]
fn nobody_in_the_family_sees_anything_of_it() {
    let (stage, python) = (Stage::new(), usual());
    let words = stage.script(&python, CURIOUS);
    let run = stage.run(Who::Ourselves, &["-s"], &words);
    let alone = std::process::Command::new(&words[0]).args(&words[1..]).output().unwrap();
    assert_eq!(run.stdout, String::from_utf8_lossy(&alone.stdout));
    assert_eq!(run.stderr, String::from_utf8_lossy(&alone.stderr));
    assert_eq!((run.code, alone.status.code()), (Some(43), Some(43)));
    assert_all_sound(&run.profile, "curious");
    let others = run.profile["processes"].as_array().unwrap();
    // On a busy machine a program may be over before it can be described, and is told as such.
    let brief = |other: &&Value| other["not_recorded"] == "it ended before it could be described";
    let interpreters = others.iter().filter(|other| other["recorded"] == true || brief(other)).count();
    assert_eq!(interpreters, 3, "{others:#?}");
    let plain: Vec<_> = others.iter().filter(|other| other["recorded"] == false && !brief(other)).collect();
    assert!(plain.iter().any(|other| other["command"].as_str().unwrap().contains("true")), "{plain:#?}");
    assert!(plain.iter().all(|other| other["not_recorded"] == "it used no interpreter lock"), "{plain:#?}");
}

/// Holds the lock asleep for 0.1 s by a `PyDLL` call, and then becomes another interpreter that does so for 0.2 s.
fn replaced(library: &str) -> String {
    format!(
        r"
import ctypes, os, sys
libc = ctypes.PyDLL({library:?})
class Measure(ctypes.Structure):
    _fields_ = [('wall', ctypes.c_uint64), ('cpu', ctypes.c_uint64), ('delay', ctypes.c_uint64)]
again = len(sys.argv) > 1
libc.twin(1, ctypes.c_uint64(200_000_000 if again else 100_000_000), ctypes.byref(Measure()))
if not again:
    os.execv(sys.executable, [sys.executable, __file__, 'again'])
print('over')
"
    )
}

#[test]
fn a_program_executed_in_mid_recording_is_told() {
    let (stage, python) = (Stage::new(), usual());
    let words = stage.script(&python, &replaced(stage.library.to_str().unwrap()));
    let blocked = |process: &Value| process["threads"][0]["states_ns"]["held_blocked"].as_u64().unwrap();
    for options in [&["-s"][..], &[], &["--backend", "uprobe"]] {
        let run = stage.run(Who::Ourselves, options, &words);
        assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (Some(0), "over\n", ""), "{options:?}");
        assert_all_sound(&run.profile, "replaced");
        let first = blocked(&run.profile);
        assert!((100_000_000..150_000_000).contains(&first), "{options:?}: {first}");
        let window = run.profile["window_ns"].as_u64().unwrap();
        let notes = run.profile["quality"]["notes"].to_string();
        assert!(notes.contains("the process executed another program"), "{options:?}: {notes}");
        if options == ["-s"] {
            let second = &run.profile["processes"][0];
            assert_eq!((&second["pid"], &second["began"]), (&run.profile["target"]["pid"], &"exec".into()));
            let held = blocked(second);
            assert!((200_000_000..250_000_000).contains(&held), "{held}");
            let start = second["start_ns"].as_u64().unwrap();
            assert!(start.abs_diff(window) < 1_000_000, "{start} against {window}");
        }
    }
}
