//! Native and script frames of one moment, put together: a call of the interpreter's evaluation loop gives way to the script
//! frames that it runs.
//!
//! What C code the innermost script frame has called is kept whole: it is what the thread was doing. Between script frames only
//! the code of other objects is kept, since the interpreter's own says no more than that one called the other. What led to the
//! outermost script frame is left out, as every thread has it.

use crate::model::stack::{Frame, NATIVE_CUT};

/// A script frame, and whether it is the outermost that its call of the evaluation loop runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptFrame {
    /// The frame.
    pub frame: Frame,
    /// Whether C code called the evaluation loop for it; else another script frame's call entered it without leaving the loop.
    pub is_entry: bool,
}

/// A frame of machine code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeFrame {
    /// The frame.
    pub frame: Frame,
    /// What it is to the script.
    pub role: Role,
}

/// What machine code is to the script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The interpreter's evaluation loop.
    Loop,
    /// Other code of the interpreter.
    Interpreter,
    /// Code of another object.
    Other,
}

/// Both kinds of frames, outermost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The frames.
    pub frames: Vec<Frame>,
    /// Whether the stacks fit together.
    pub fit: Fit,
}

/// Whether two stacks fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fit {
    /// As many calls of the loop as script frames were entered by one, as far as the native stack goes.
    Whole,
    /// Not as many: some part of the interpreter has no name, or the stacks are not of one moment. Only what the innermost
    /// script frame has called is merged in.
    Tail,
}

/// Whether a stack's outermost frames are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Extent {
    /// They are.
    Whole,
    /// They are missing.
    Cut,
}

/// Merges stacks given innermost first.
pub fn merge((native, extent): (&[NativeFrame], Extent), (script, script_extent): (&[ScriptFrame], Extent)) -> Merged {
    let (tail, rest) = native.split_at(called_by_script(native, extent, script));
    let loops = native.iter().filter(|frame| frame.role == Role::Loop).count();
    let entries = script.iter().filter(|frame| frame.is_entry).count();
    let fits = match (extent, script_extent) {
        (Extent::Whole, Extent::Whole) => loops == entries,
        (Extent::Cut, Extent::Whole) => loops <= entries,
        (Extent::Whole, Extent::Cut) => loops >= entries,
        (Extent::Cut, Extent::Cut) => true,
    };
    let mut frames: Vec<Frame> = Vec::with_capacity(native.len() + script.len() + 1);
    frames.extend(tail.iter().map(|native| native.frame.clone()));
    if rest.is_empty() && extent == Extent::Cut {
        frames.push(Frame::marker(NATIVE_CUT));
    }
    let mut script_frames = script.iter();
    if fits {
        for native in rest {
            match native.role {
                Role::Loop => frames.extend(of_one_loop(&mut script_frames)),
                Role::Other if script_frames.len() > 0 => frames.push(native.frame.clone()),
                Role::Other | Role::Interpreter => {}
            }
        }
    }
    frames.extend(script_frames.map(|script| script.frame.clone()));
    frames.reverse();
    Merged { frames, fit: if fits { Fit::Whole } else { Fit::Tail } }
}

/// How many of the innermost native frames the innermost script frame has called.
fn called_by_script(native: &[NativeFrame], extent: Extent, script: &[ScriptFrame]) -> usize {
    let first = |role: Role| native.iter().position(|frame| frame.role == role);
    // Of an interpreter whose loop has no name, all code may be the loop.
    let is_unnamed = extent == Extent::Whole && !script.is_empty();
    let unnamed_loop = || if is_unnamed { first(Role::Interpreter) } else { None };
    first(Role::Loop).or_else(unnamed_loop).unwrap_or(native.len())
}

/// The script frames that one call of the loop runs.
fn of_one_loop(script: &mut std::slice::Iter<'_, ScriptFrame>) -> Vec<Frame> {
    let mut frames = Vec::new();
    for ScriptFrame { frame, is_entry } in script {
        frames.push(frame.clone());
        if *is_entry {
            break;
        }
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::{Extent, Fit, NativeFrame, Role, ScriptFrame, merge};
    use crate::model::stack::{Frame, FrameKind};

    /// `LOOP`, `in:function` of the interpreter, `function` of another object; innermost first.
    fn native(words: &str) -> Vec<NativeFrame> {
        let frame = |word: &str| match (word, word.strip_prefix("in:")) {
            ("LOOP", _) => NativeFrame { frame: Frame::native("_PyEval_EvalFrameDefault", "p"), role: Role::Loop },
            (_, Some(name)) => NativeFrame { frame: Frame::native(name, "p"), role: Role::Interpreter },
            (name, None) => NativeFrame { frame: Frame::native(name, "lib"), role: Role::Other },
        };
        words.split_whitespace().map(frame).collect()
    }

    /// Names; a star behind one means an entry; innermost first.
    fn script(words: &str) -> Vec<ScriptFrame> {
        let frame = |word: &str| {
            let name = word.trim_end_matches('*');
            let frame =
                Frame { kind: FrameKind::Script, function: name.to_owned(), file: "a.py".into(), line: Some(1) };
            ScriptFrame { frame, is_entry: name != word }
        };
        words.split_whitespace().map(frame).collect()
    }

    fn merged(native_words: &str, whole: bool, script_words: &str) -> (String, Fit) {
        let extent = if whole { Extent::Whole } else { Extent::Cut };
        let merged = merge((&native(native_words), extent), (&script(script_words), Extent::Whole));
        let names: Vec<&str> = merged.frames.iter().map(|frame| frame.function.as_str()).collect();
        (names.join(" "), merged.fit)
    }

    #[test]
    fn each_loop_gives_way_to_the_script_frames_it_runs() {
        let native = "inner outer in:vectorcall LOOP in:sort in:sorted callback LOOP in:run_main main start";
        let found = merged(native, true, "f g* h main*");
        assert_eq!(found, ("main h callback g f vectorcall outer inner".to_owned(), Fit::Whole));
    }

    #[test]
    fn where_every_call_is_a_loop_each_gets_one_frame() {
        let found = merged("in:add LOOP in:call LOOP in:call LOOP in:main", true, "f* g* h*");
        assert_eq!(found, ("h g f add".to_owned(), Fit::Whole));
    }

    #[test]
    fn a_cut_stack_leaves_the_outer_script_frames_as_they_are() {
        assert_eq!(merged("x LOOP y LOOP", false, "f* g* h* i*"), ("i h g y f x".to_owned(), Fit::Whole));
        assert_eq!(merged("x", false, "f* g*"), ("g f [native frames missing] x".to_owned(), Fit::Whole));
    }

    #[test]
    fn stacks_that_do_not_fit_share_only_what_the_innermost_frame_called() {
        assert_eq!(merged("x LOOP y LOOP", true, "f* g* h*"), ("h g f x".to_owned(), Fit::Tail));
        assert_eq!(merged("x LOOP y LOOP z LOOP", false, "f* g*"), ("g f x".to_owned(), Fit::Tail));
        assert_eq!(merged("x y in:? z in:?", true, "f* g*"), ("g f y x".to_owned(), Fit::Tail), "its loop has no name");
    }

    #[test]
    fn a_thread_without_script_frames_shows_its_native_ones() {
        assert_eq!(merged("spin work start", true, ""), ("start work spin".to_owned(), Fit::Whole));
    }
}
