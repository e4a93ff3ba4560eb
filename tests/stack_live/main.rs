//! Stacks of real interpreters: exact where threads stand still, never torn where they run.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and prints what it skips")]

#[path = "../support/live.rs"]
mod live;

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use gilscope::{
    model::{ids::Tid, recorded::Entry, stack::Frame},
    stack::{
        CHANGING, DEEPER, DEEPEST, Motion, ScriptFrame, StackFailure, python::lines::line_at, reader::StackReader,
    },
    target::{discover::Target, layout::LineTableFormat, memory::ProcessMemory},
};
use live::{interpreters::interpreters, ring::is_possible, running::Running};
use serde::Deserialize;

/// What the interpreter says about its threads: function, file and line of each frame, outermost first.
type Expected = Vec<(i32, Vec<(String, String, u32)>)>;

/// What became of the readings of running threads.
#[derive(Debug, Default)]
struct Outcome {
    whole: u32,
    outer_part: u32,
    refused: u32,
    impossible: u32,
}

#[derive(Deserialize)]
struct Tables {
    minor: u8,
    codes: Vec<Table>,
}

#[derive(Deserialize)]
struct Table {
    first_line: i32,
    table: Vec<u8>,
    starts: Vec<(i64, Option<u32>)>,
    size: i64,
}

fn reader(program: &Running) -> StackReader {
    let target = Target::discover(program.pid()).unwrap();
    StackReader::new(&target, Box::new(ProcessMemory::open(program.pid()).unwrap())).unwrap()
}

#[test]
fn threads_that_stand_still_are_read_exactly() {
    for interpreter in interpreters() {
        let mut program = interpreter.start_script(include_str!("blocked.py"));
        let expected: Expected = serde_json::from_str(&program.line()).unwrap();
        let mut reader = reader(&program);
        let mut functions = HashSet::new();
        for motion in [Motion::Still, Motion::Moving] {
            for (tid, frames) in &expected {
                let stack = reader.read(Tid::from_raw(*tid).unwrap(), motion).unwrap();
                assert_eq!(described(&stack), innermost(frames), "{} {motion:?}", interpreter.name);
                functions.extend(stack.into_iter().map(|frame| frame.function));
            }
        }
        for function in ["größe", "numbers", "recurse", "<module>"] {
            assert!(functions.contains(function), "{}: no {function}", interpreter.name);
        }
        eprintln!("{}: {} threads, {} functions", interpreter.name, expected.len(), functions.len());
    }
}

#[test]
fn what_c_code_called_is_marked() {
    for interpreter in interpreters() {
        let mut program = interpreter.start_script(include_str!("entries.py"));
        let (tid, expected): (i32, Vec<(String, bool)>) = serde_json::from_str(&program.line()).unwrap();
        let stack = reader(&program).read_script(Tid::from_raw(tid).unwrap(), Motion::Still).unwrap();
        let name = |script: &ScriptFrame| script.frame.function.rsplit('.').next().unwrap_or_default().to_owned();
        let marked: Vec<_> = stack.iter().map(|script| (name(script), script.entry == Entry::Outermost)).collect();
        let inner = &marked[marked.len() - expected.len()..];
        assert_eq!(inner, expected, "{}", interpreter.name);
        assert!(marked[0].1, "{}: C code starts a thread", interpreter.name);
        eprintln!("{}: {} calls of the loop", interpreter.name, marked.iter().filter(|(_, entry)| *entry).count());
    }
}

#[test]
fn a_process_that_vanishes_is_an_outcome() {
    for interpreter in interpreters() {
        let mut program = interpreter.start_script(include_str!("recursion.py"));
        let tids: Vec<i32> = serde_json::from_str(&program.line()).unwrap();
        let tid = Tid::from_raw(tids[0]).unwrap();
        let mut reader = reader(&program);
        reader.refresh_threads().unwrap();
        assert_eq!(reader.read(program.pid().main_thread(), Motion::Still).unwrap()[0].function, "<module>");
        drop(program);
        for motion in [Motion::Still, Motion::Moving] {
            assert_eq!(reader.read(tid, motion), Err(StackFailure::OldList), "{}", interpreter.name);
        }
    }
}

fn described(stack: &[Frame]) -> Vec<(String, String, u32)> {
    stack.iter().map(|frame| (frame.function.clone(), frame.file.clone(), frame.line.unwrap_or(0))).collect()
}

/// The frames that are kept of a stack, with the marker for the others.
fn innermost(frames: &[(String, String, u32)]) -> Vec<(String, String, u32)> {
    let Some(lost) = frames.len().checked_sub(DEEPEST).filter(|lost| *lost > 0) else {
        return frames.to_vec();
    };
    let marker = (Frame::marker(DEEPER).function, String::new(), 0);
    [marker].into_iter().chain(frames[lost..].iter().cloned()).collect()
}

#[test]
fn no_impossible_chain_comes_out_of_a_running_thread() {
    for interpreter in interpreters() {
        let mut program = interpreter.start_script(include_str!("recursion.py"));
        let tids: Vec<i32> = serde_json::from_str(&program.line()).unwrap();
        let mut reader = reader(&program);
        let mut outcome = Outcome::default();
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            for tid in &tids {
                outcome.count(reader.read(Tid::from_raw(*tid).unwrap(), Motion::Moving));
            }
        }
        eprintln!("{}: {outcome:?}", interpreter.name);
        assert_eq!(outcome.impossible, 0, "{}", interpreter.name);
        assert!(outcome.whole > 0, "{}", interpreter.name);
    }
}

impl Outcome {
    fn count(&mut self, stack: Result<Vec<Frame>, StackFailure>) {
        let Ok(mut stack) = stack else {
            self.refused += 1;
            return;
        };
        if stack.last() == Some(&Frame::marker(CHANGING)) {
            stack.pop();
            self.outer_part += 1;
        } else {
            self.whole += 1;
        }
        if !is_possible(&stack) {
            eprintln!("impossible: {}", stack.iter().map(|frame| &*frame.function).collect::<Vec<_>>().join(" "));
            self.impossible += 1;
        }
    }
}

#[test]
fn line_tables_are_read_as_the_interpreter_reads_them() {
    for interpreter in interpreters() {
        let mut program = interpreter.start_script(include_str!("lines.py"));
        let tables: Tables = serde_json::from_str(&program.line()).unwrap();
        let format = match tables.minor {
            ..=9 => LineTableFormat::Lnotab,
            10 => LineTableFormat::Linetable310,
            11.. => LineTableFormat::Locations,
        };
        let mut compared = 0;
        for table in &tables.codes {
            for offset in (0..table.size).step_by(2) {
                let line = line_at(format, &table.table, table.first_line, offset);
                assert_eq!(line, table.line(offset), "{} at {offset}", interpreter.name);
                compared += 1;
            }
        }
        eprintln!("{}: {compared} instructions of {} code objects", interpreter.name, tables.codes.len());
        assert!(compared > 10_000);
    }
}

impl Table {
    fn line(&self, offset: i64) -> Option<u32> {
        let (_, line) = self.starts.iter().rev().find(|(start, _)| *start <= offset)?;
        line.filter(|line| *line > 0)
    }
}
