//! Whole programs: their figures in closed form, their failures, and the view from outside.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::toyvm::{Announce, DEFAULT_SWITCH_INTERVAL, Options, ToyError, layout::gilscope_toyvm, run};

const MS: u64 = 1_000_000;

fn options(directory: &TempDir, text: &str) -> Options {
    let program = directory.path().join("test.toy");
    std::fs::write(&program, text).unwrap();
    Options { program, truth: None, switch_interval: DEFAULT_SWITCH_INTERVAL, announce: Announce::No }
}

/// Runs a program and checks what holds for every program.
fn truth_of(text: &str) -> Value {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("truth.json");
    run(Options { truth: Some(file.clone()), ..options(&directory, text) }).unwrap();
    let truth: Value = serde_json::from_reader(File::open(file).unwrap()).unwrap();
    check_invariants(&truth);
    truth
}

fn check_invariants(truth: &Value) {
    let lock = &truth["locks"][0];
    let threads = truth["threads"].as_array().unwrap();
    for thread in threads {
        let states = thread["states_ns"].as_object().unwrap();
        assert_eq!(states.len(), 9);
        assert_eq!(states.values().map(|time| time.as_u64().unwrap()).sum::<u64>(), number(&thread["lifetime_ns"]));
    }
    let sum = |name: &str| threads.iter().map(|thread| number(&thread["states_ns"][name])).sum::<u64>();
    let inside = sum("held_running") + sum("held_preempted") + sum("held_blocked");
    assert_eq!(inside, number(&lock["held_ns"]));
    assert_eq!(number(&lock["held_ns"]) + number(&lock["free_ns"]), number(&truth["window_ns"]));
    let blame: u64 = truth["blame"].as_array().unwrap().iter().map(|entry| number(&entry["wait_ns"])).sum();
    assert_eq!(blame + number(&lock["handoff_ns"]), sum("wait_queued") + sum("wait_handoff"));
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn thread<'a>(truth: &'a Value, name: &str) -> &'a Value {
    truth["threads"].as_array().unwrap().iter().find(|thread| thread["name"] == name).unwrap()
}

#[track_caller]
fn assert_close(actual: &Value, expected: u64, tolerance: u64) {
    let actual = number(actual);
    assert!(actual.abs_diff(expected) <= tolerance, "{actual} is not within {tolerance} of {expected}");
}

fn failure_of(text: &str) -> (String, u8) {
    let directory = TempDir::new().unwrap();
    let error = run(options(&directory, text)).expect_err("the program is wrong");
    let message = error.to_string();
    let (_, from_line) = message.split_once("test.toy:").unwrap();
    (from_line.to_owned(), error.exit_code())
}

#[test]
fn a_thread_alone_never_waits() {
    let truth = truth_of("compute 60ms\nnative_holding 20ms\nnative_released 30ms\nloop 3 {\n  sleep 10ms\n}\n");
    let main = thread(&truth, "<main>");
    assert_eq!((number(&main["waits"]), number(&main["holds"])), (0, 1 + 1 + 3 + 1));
    assert_eq!(truth["blame"].as_array().unwrap().len(), 0);
    assert_close(&main["states_ns"]["held_running"], 80 * MS, 3 * MS);
    assert_close(&main["states_ns"]["outside_running"], 30 * MS, 3 * MS);
    assert!(number(&main["states_ns"]["outside_blocked"]) >= 30 * MS - MS);
}

#[test]
fn native_code_that_keeps_the_lock_holds_it_for_its_whole_length() {
    let text =
        "fn worker() {\n  loop 10 {\n    native_holding 20ms\n  }\n}\nspawn worker()\nspawn worker()\njoin all\n";
    let truth = truth_of(text);
    let workers = truth["threads"].as_array().unwrap().iter().filter(|thread| thread["name"] == "worker");
    let running = workers.map(|worker| number(&worker["states_ns"]["held_running"])).sum::<u64>();
    assert_close(&running.into(), 400 * MS, 8 * MS);
    assert!(number(&truth["locks"][0]["held_ns"]) >= running);
    assert!(number(&truth["locks"][0]["forced_releases"]) >= 10);
}

/// The intervals between two steps of a thread, from the event list.
fn intervals(truth: &Value, tid: &Value, from: &str, to: &str) -> Vec<(u64, u64)> {
    let own = truth["events"].as_array().unwrap().iter().filter(|event| event["tid"] == *tid);
    let (mut found, mut begun) = (Vec::new(), None);
    for event in own {
        if event["step"] == from {
            begun = Some(number(&event["at_ns"]));
        } else if event["step"] == to {
            found.extend(begun.take().map(|begun| (begun, number(&event["at_ns"]))));
        }
    }
    found
}

#[test]
fn a_wait_is_charged_to_whoever_sleeps_with_the_lock() {
    let text = "fn holder() {\n  sleep_holding 300ms\n}\nfn waiter() {\n  loop 30 {\n    sleep 20ms\n  }\n}\n\
                let w = spawn waiter()\nsleep 10ms\nlet h = spawn holder()\njoin h\njoin w\n";
    let truth = truth_of(text);
    let (waiter, holder) = (&thread(&truth, "waiter")["tid"], thread(&truth, "holder"));
    assert_close(&holder["states_ns"]["held_blocked"], 300 * MS, 6 * MS);
    let entries = truth["blame"].as_array().unwrap();
    let charged = entries.iter().find(|entry| entry["waiter_tid"] == *waiter && entry["holder_tid"] == holder["tid"]);
    let mut shared = 0;
    for (want, acquired) in intervals(&truth, waiter, "want", "acquired") {
        for (taken, released) in intervals(&truth, &holder["tid"], "acquired", "released") {
            shared += acquired.min(released).saturating_sub(want.max(taken));
        }
    }
    assert!(shared > 0);
    assert_eq!(number(&charged.unwrap()["wait_ns"]), shared);
}

#[test]
fn a_wrong_text_and_a_failing_statement_name_their_line() {
    assert_eq!(failure_of("sleep 1ms\nfrobnicate()\n"), ("2: unknown function frobnicate".to_owned(), 2));
    let divides = "fn f(a) {\n  return 1 / a\n}\nf(1)\nf(0)\n";
    assert_eq!(failure_of(divides), ("2: in f: division by zero".to_owned(), 1));
    let recurses = "fn f() {\n  f()\n}\nf()\n";
    assert_eq!(failure_of(recurses), ("2: in f: stack too deep (more than 512 calls)".to_owned(), 1));
    assert_eq!(failure_of("sleep 3\n").0, "1: in <main>: expected a duration (such as 20ms), found an integer");
    assert_eq!(failure_of("let x = 9223372036854775807 + 1").0, "1: in <main>: integer overflow");
}

#[test]
fn a_failure_ends_threads_that_read_compute_or_wait_for_others() {
    let text = "fn reader(p) {\n  read p\n}\nfn hog() {\n  while 1 {\n  }\n}\nfn fails() {\n  sleep 20ms\n  write 3 4\n}\n\
                pipe p\nspawn reader(p)\nspawn hog()\nspawn fails()\njoin all\n";
    assert_eq!(failure_of(text).0, "10: in fails: expected a pipe, found an integer");
}

#[test]
fn what_cannot_be_read_or_written_is_an_error_before_anything_runs() {
    let directory = TempDir::new().unwrap();
    let missing = Options { program: directory.path().join("none.toy"), ..options(&directory, "") };
    assert!(matches!(run(missing), Err(ToyError::Read { .. })));
    let unwritable = Options { truth: Some("/nonexistent/truth.json".into()), ..options(&directory, "") };
    assert!(matches!(run(unwritable), Err(ToyError::Truth { .. })));
}

/// This process's memory, read the way an outside reader does it.
struct Memory(File);

impl Memory {
    fn u64(&self, address: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, address).unwrap();
        u64::from_le_bytes(bytes)
    }

    fn text(&self, pointer_at: u64, length_at: u64) -> String {
        let mut bytes = vec![0; usize::try_from(self.u64(length_at)).unwrap()];
        self.0.read_exact_at(&mut bytes, self.u64(pointer_at)).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// The 64-bit field of the published layout with this number, counted from `lock` on.
    fn field(&self, number: u64) -> u64 {
        self.u64(std::ptr::from_ref(&gilscope_toyvm).addr() as u64 + 16 + 8 * number)
    }

    fn program(&self) -> Option<String> {
        let at = std::ptr::from_ref(&gilscope_toyvm).addr() as u64 + 16;
        (self.field(0) != 0).then(|| self.text(at + 16, at + 24))
    }

    /// Names and lines of a thread's calls, outermost first.
    fn stack(&self, record: u64) -> Vec<(String, u64)> {
        let frames = self.u64(record + self.field(11));
        let frame_at = |index| frames + index * self.field(12);
        let line = |index| self.u64(frame_at(index)) >> 32;
        let function = |index| self.field(4) + (self.u64(frame_at(index)) & 0xffff_ffff) * self.field(15);
        let name = |entry| self.text(entry + self.field(16), entry + self.field(17));
        (0..self.u64(record + self.field(10))).map(|index| (name(function(index)), line(index))).collect()
    }

    fn threads(&self) -> Vec<u64> {
        let some = |record| (record != 0).then_some(record);
        let follow = |record: &u64| some(self.u64(*record + self.field(6)));
        std::iter::successors(some(self.u64(self.field(1))), follow).collect()
    }
}

#[track_caller]
fn wait_until(condition: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < patience, "the condition never holds");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_outside_reader_sees_threads_stacks_and_the_owner_of_the_lock() {
    let directory = TempDir::new().unwrap();
    let text =
        "fn inner() {\n  sleep_holding 1s\n}\n\nfn outer() {\n  sleep 50ms\n  inner()\n}\nspawn outer()\njoin all\n";
    let options = options(&directory, text);
    let path = options.program.clone();
    let running = std::thread::spawn(move || run(options));
    let memory = Memory(File::open("/proc/self/mem").unwrap());
    wait_until(|| memory.program().as_deref().map(Path::new) == Some(&path) && memory.threads().len() == 2);
    let [main, outer] = memory.threads()[..] else { panic!("there are two threads") };
    wait_until(|| {
        memory.stack(outer).last() == Some(&("inner".to_owned(), 2)) && memory.u64(memory.field(0) + 8) == outer
    });
    assert_eq!(memory.text(outer + memory.field(8), outer + memory.field(9)), "outer");
    assert_eq!(memory.stack(outer), [("outer".to_owned(), 7), ("inner".to_owned(), 2)]);
    assert_eq!(memory.stack(main), [("<main>".to_owned(), 10)]);
    let lock = memory.field(0);
    assert_eq!((memory.u64(lock), memory.u64(lock + 8), memory.u64(lock + 16) & 0xffff_ffff), (5_000, outer, 1));
    assert!(Path::new(&format!("/proc/self/task/{}", memory.u64(outer + memory.field(7)))).exists());
    running.join().unwrap().unwrap();
    assert_ne!(memory.program().as_deref().map(Path::new), Some(path.as_path()));
}
