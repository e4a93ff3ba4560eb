//! Stacks in made-up memory: changes at every possible moment, garbage, and chains that do not end.

use std::cell::Cell;

use proptest::prelude::{ProptestConfig, any, prop, prop_assert, proptest};

use crate::{
    model::{address::LiveAddress, recorded::Entry},
    stack::{
        CHANGING, Motion, ScriptFrame, StackFailure,
        python::PythonStacks,
        scene::{Changing, Scene},
    },
    target::{
        catalog::layout_on_file,
        layout::PythonLayout,
        version::{Build, PythonVersion},
    },
};

const STATE: u64 = 0x1000;
const FRAMES: u64 = 0x10_0f00;
const FRAME_SIZE: u64 = 0x70;
const CODES: u64 = 0x20_0000;
const CODE_SIZE: u64 = 0x400;

fn layout() -> PythonLayout {
    layout_on_file(PythonVersion::release(3, 13, 0), Build::Default).unwrap()
}

fn frame(depth: u64) -> u64 {
    FRAMES + depth * FRAME_SIZE
}

fn code(number: u64) -> u64 {
    CODES + number * CODE_SIZE
}

/// Functions `f0` to `f9` at 3.13's offsets.
fn functions(scene: &mut Scene) {
    for number in 0..10 {
        let at = code(number);
        scene.half(at + 68, 100).word(at + 112, at + 0x240).word(at + 120, at + 0x200).word(at + 128, at + 0x200);
        scene.word(at + 136, at + 0x280).word(at + 0x280 + 16, 0);
        for (text, content) in [(at + 0x200, format!("f{number}")), (at + 0x240, "a.py".to_owned())] {
            let length = u64::try_from(content.len()).unwrap();
            scene.word(text + 16, length).half(text + 32, 1 << 2 | 1 << 5 | 1 << 6).text(text + 40, content.as_bytes());
        }
    }
}

/// A thread whose frames, from the outermost, run the functions of these numbers.
fn thread(numbers: &[u64]) -> Scene {
    let mut scene = Scene::default();
    functions(&mut scene);
    for (depth, number) in (0..).zip(numbers) {
        let previous = if depth == 0 { 0 } else { frame(depth - 1) };
        let at = frame(depth);
        scene.word(at, code(*number)).word(at + 8, previous).word(at + 56, code(*number) + 198);
        scene.word(STATE + 72, at);
    }
    scene
}

fn names(stack: &[ScriptFrame]) -> Vec<&str> {
    stack.iter().map(|script| &*script.frame.function).collect()
}

#[test]
fn frames_come_outermost_first() {
    let mut stacks = PythonStacks::new(&layout()).unwrap();
    for motion in [Motion::Still, Motion::Moving] {
        let stack = stacks.read(&thread(&[1, 2, 3]), LiveAddress::in_target(STATE), motion).unwrap();
        assert_eq!(names(&stack), ["f1", "f2", "f3"]);
        assert_eq!((&*stack[0].frame.file, stack[0].frame.line), ("a.py", Some(100)));
    }
}

#[test]
fn what_a_shim_called_is_the_outermost_of_its_loop() {
    let mut scene = thread(&[1, 2, 3, 4]);
    let shim = FRAMES - 0x200;
    // f1 and f3 were called by shims; the second shim was called by f2.
    scene.word(frame(0) + 8, shim).text(shim + 70, &[3]);
    scene.word(frame(2) + 8, shim + 0x70).word(shim + 0x78, frame(1)).text(shim + 0x70 + 70, &[3]);
    let mut stacks = PythonStacks::new(&layout()).unwrap();
    let stack = stacks.read(&scene, LiveAddress::in_target(STATE), Motion::Still).unwrap();
    let entries: Vec<_> = stack.iter().map(|script| script.entry).collect();
    assert_eq!(names(&stack), ["f1", "f2", "f3", "f4"]);
    assert_eq!(entries, [Entry::Outermost, Entry::Inner, Entry::Outermost, Entry::Inner]);
}

/// ```text
/// before  f1 f2 f3 f4        after  f1 f5 f6 f4
///                 ▲ n reads ▲ the rest
/// ```
#[test]
fn a_change_at_any_moment_never_gives_a_mixture() {
    let (before, after) = (thread(&[1, 2, 3, 4]), thread(&[1, 5, 6, 4]));
    let marker = ScriptFrame::marker(CHANGING).frame.function;
    for left in 0..60 {
        let memory = Changing { before: before.clone(), after: after.clone(), left: Cell::new(left) };
        let mut stacks = PythonStacks::new(&layout()).unwrap();
        let stack = stacks.read(&memory, LiveAddress::in_target(STATE), Motion::Moving).unwrap();
        let possible = [vec!["f1", "f2", "f3", "f4"], vec!["f1", "f5", "f6", "f4"], vec!["f1", &marker]];
        assert!(possible.contains(&names(&stack)), "{left}: {stack:?}");
    }
}

#[test]
fn a_chain_that_bites_its_tail_is_torn() {
    let mut scene = thread(&[1, 2, 3]);
    scene.word(frame(0) + 8, frame(2));
    let mut stacks = PythonStacks::new(&layout()).unwrap();
    let stack = stacks.read(&scene, LiveAddress::in_target(STATE), Motion::Still);
    assert_eq!(stack, Err(StackFailure::Torn));
}

#[test]
fn what_is_no_code_object_is_refused() {
    let mut scene = thread(&[1, 2, 3]);
    scene.word(frame(1), STATE);
    let mut stacks = PythonStacks::new(&layout()).unwrap();
    let stack = stacks.read(&scene, LiveAddress::in_target(STATE), Motion::Still);
    assert_eq!(stack, Err(StackFailure::Unreadable));
}

#[test]
fn a_code_object_that_replaces_another_is_read_anew() {
    let mut stacks = PythonStacks::new(&layout()).unwrap();
    let mut scene = thread(&[1]);
    stacks.read(&scene, LiveAddress::in_target(STATE), Motion::Still).unwrap();
    scene.word(code(1) + 128, code(2) + 0x200).half(code(1) + 68, 7);
    let stack = stacks.read(&scene, LiveAddress::in_target(STATE), Motion::Still).unwrap();
    assert_eq!((&*stack[0].frame.function, stack[0].frame.line), ("f2", Some(7)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn garbage_is_survived(words in prop::collection::vec(any::<u16>(), 2048), minor in 8_u8..=15) {
        let mut scene = Scene::default();
        for (at, word) in (0..).step_by(8).zip(words) {
            // Mostly pointers into the scene itself, some small numbers.
            scene.word(at, u64::from(word) % 0x4800);
        }
        let layout = layout_on_file(PythonVersion::release(3, minor, 0), Build::Default).unwrap();
        let mut stacks = PythonStacks::new(&layout).unwrap();
        for motion in [Motion::Still, Motion::Moving] {
            for state in (0x100..0x3000).step_by(0x508) {
                let stack = stacks.read(&scene, LiveAddress::in_target(state), motion);
                prop_assert!(stack.is_err() || stack.is_ok_and(|stack| stack.len() <= 512));
            }
        }
    }
}
