//! What `stack_live/recursion.py` can do: two rings of functions, each of which only calls the next one of its ring. A stack
//! that was torn while it was read shows as a call that the program does not contain.

#![allow(dead_code, reason = "each test program uses a part of this")]

use gilscope::model::stack::Frame;

/// Functions in each ring.
const RING: usize = 7;
/// How the stack of every thread begins.
const OUTER: [&str; 4] = ["_bootstrap", "_bootstrap_inner", "run", "work"];

/// Whether the stack begins as every thread's does and then only has calls that the program contains.
pub fn is_possible(stack: &[Frame]) -> bool {
    let begins = stack.iter().zip(OUTER).all(|(frame, outer)| plain(frame) == outer);
    let ring: Vec<_> = stack.iter().skip(OUTER.len()).map(ring_function).collect();
    begins && ring.iter().all(Option::is_some) && ring.windows(2).all(|pair| calls(pair[0], pair[1]))
}

/// A function's name without the class that it belongs to.
pub fn plain(frame: &Frame) -> &str {
    frame.function.rsplit('.').next().unwrap_or_default()
}

/// The ring and the number of a function such as `equal3`.
fn ring_function(frame: &Frame) -> Option<(&str, usize)> {
    let (ring, number) = frame.function.split_at_checked(5)?;
    Some((ring, number.parse().ok()?))
}

fn calls(caller: Option<(&str, usize)>, callee: Option<(&str, usize)>) -> bool {
    caller.zip(callee).is_some_and(|(caller, callee)| caller.0 == callee.0 && callee.1 == (caller.1 + 1) % RING)
}
