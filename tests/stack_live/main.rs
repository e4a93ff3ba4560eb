//! Stacks of real interpreters: exact where threads stand still, never torn where they run.

mod interpreters;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use gilscope::{
    model::{ids::Tid, stack::Frame},
    stack::{Motion, reader::StackReader},
    target::{discover::Target, memory::ProcessMemory},
};
use interpreters::{Program, interpreters};

/// What the interpreter says about its threads: function, file and line of each frame, outermost first.
type Expected = Vec<(i32, Vec<(String, String, u32)>)>;

fn reader(program: &Program) -> Option<StackReader> {
    let target = Target::discover(program.pid()).map_err(|e| eprintln!("skipped {e}")).ok()?;
    StackReader::new(&target, Box::new(ProcessMemory::open(program.pid()).unwrap()))
}

fn tuple(frame: &Frame) -> (String, String, u32) {
    (frame.function.clone(), frame.file.clone(), frame.line.unwrap_or(0))
}

#[test]
fn threads_that_stand_still_are_read_exactly() {
    for interpreter in interpreters() {
        let program = interpreter.start(include_str!("blocked.py"));
        let expected: Expected = serde_json::from_str(&program.announcement).unwrap();
        let Some(mut reader) = reader(&program) else { continue };
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
        let Some(mut reader) = reader(&program) else { continue };
        let mut counts = HashMap::<_, u32>::new();
        let mut depth = 0;
        let mut impossible = Vec::new();
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            for tid in &tids {
                let stack = reader.read(Tid::from_raw(*tid).unwrap(), Motion::Moving);
                let partial = stack.as_ref().is_ok_and(|stack| stack.last() == Some(&Frame::marker("changing")));
                if partial {
                    depth += stack.as_ref().map_or(0, Vec::len)
                }
                *counts.entry((partial, stack.as_ref().err().copied())).or_default() += 1;
                impossible.extend(stack.ok().filter(|stack| !is_possible(stack)));
            }
        }
        eprintln!(
            "{}: {counts:?} impossible {} depth {depth} tally {:?}",
            interpreter.name(),
            impossible.len(),
            reader.tally()
        );
        if let Some(stack) = impossible.first() {
            eprintln!("!!   {}", stack.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        }
    }
}

fn is_possible(stack: &[Frame]) -> bool {
    let functions: Vec<&str> = stack.iter().map(|frame| frame.function.as_str()).collect();
    let outer = ["_bootstrap", "_bootstrap_inner", "run", "work"];
    let known = functions.iter().zip(outer).all(|(function, outer)| function.rsplit('.').next() == Some(outer));
    let ring: Vec<_> = functions.iter().skip(outer.len()).take_while(|function| **function != "[changing]").collect();
    let follows = |caller: &str, callee: &str| {
        let split = |name: &str| Some((name.get(..5)?.to_owned(), name.get(5..)?.parse::<usize>().ok()?));
        split(caller)
            .zip(split(callee))
            .is_some_and(|(caller, callee)| caller.0 == callee.0 && callee.1 == (caller.1 + 1) % 7)
    };
    known && ring.windows(2).all(|pair| follows(pair[0], pair[1]))
}
