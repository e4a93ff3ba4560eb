//! Stacks of real interpreters: exact where threads stand still, never torn where they run.

mod interpreters;

use std::{collections::HashMap, time::{Duration, Instant}};

use gilscope::{
    model::{ids::Tid, stack::Frame},
    stack::{Motion, StackFailure, reader::StackReader},
    target::{discover::Target, memory::ProcessMemory},
};
use interpreters::{Program, interpreters};

/// What the interpreter says about its threads: function, file and line of each frame, outermost first.
type Expected = Vec<(i32, Vec<(String, String, u32)>)>;

fn reader(program: &Program) -> StackReader {
    let target = Target::discover(program.pid()).unwrap();
    StackReader::new(&target, Box::new(ProcessMemory::open(program.pid()).unwrap())).unwrap()
}

fn tuple(frame: &Frame) -> (String, String, u32) {
    (frame.function.clone(), frame.file.clone(), frame.line.unwrap_or(0))
}

#[test]
fn threads_that_stand_still_are_read_exactly() {
    for interpreter in interpreters() {
        let program = interpreter.start(include_str!("blocked.py"));
        let expected: Expected = serde_json::from_str(&program.announcement).unwrap();
        let mut reader = reader(&program);
        let mut compared = 0;
        for motion in [Motion::Still, Motion::Moving] {
            for (tid, frames) in &expected {
                let stack = reader.read(Tid::from_raw(*tid).unwrap(), motion).unwrap();
                let mut kept = &stack[..];
                let mut frames = &frames[..];
                if frames.len() > 511 {
                    assert_eq!(stack[0], Frame::marker("deeper frames"));
                    kept = &stack[1..];
                    frames = &frames[frames.len() - 511..];
                }
                assert_eq!(kept.iter().map(tuple).collect::<Vec<_>>(), frames, "{} {motion:?}", interpreter.name());
                compared += frames.len();
            }
        }
        eprintln!("{}: {compared} frames of {} threads, all equal", interpreter.name(), expected.len());
    }
}

#[test]
fn no_impossible_chain_comes_out_of_a_running_thread() {
    for interpreter in interpreters() {
        let program = interpreter.start(include_str!("recursion.py"));
        let tids: Vec<i32> = serde_json::from_str(&program.announcement).unwrap();
        let mut reader = reader(&program);
        let mut counts = HashMap::<_, u32>::new();
        let mut impossible = Vec::new();
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            for tid in &tids {
                let stack = reader.read(Tid::from_raw(*tid).unwrap(), Motion::Moving);
                *counts.entry(stack.as_ref().err().copied()).or_default() += 1;
                impossible.extend(stack.ok().filter(|stack| !is_possible(stack)));
            }
        }
        let stacks = counts.get(&None).copied().unwrap_or(0);
        let torn = counts.get(&Some(StackFailure::Torn)).copied().unwrap_or(0);
        eprintln!("{}: {counts:?} impossible {} tally {:?}", interpreter.name(), impossible.len(), reader.tally());
        if let Some(stack) = impossible.first() { eprintln!("   {}", stack.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")); }
        let _ = (stacks, torn);
    }
}

fn is_possible(stack: &[Frame]) -> bool {
    let functions: Vec<&str> = stack.iter().map(|frame| frame.function.as_str()).collect();
    let Some(work) = functions.iter().position(|function| *function == "work") else { return functions.len() <= 3 && functions[0].ends_with("_bootstrap") };
    let ring: Vec<_> = functions[work + 1..].iter().filter_map(|function| function.strip_prefix('f')?.parse::<usize>().ok()).collect();
    work == 3 && functions.len() == work + 1 + ring.len() && ring.iter().enumerate().all(|(depth, number)| *number == depth % 7)
}
