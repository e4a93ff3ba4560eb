//! Machine code of the target: which object an address belongs to, and which function.
//!
//! Objects are files of somebody else's making: whatever they say is checked against their real length, and what cannot
//! be found out is left unsaid.

pub mod bytes;
pub mod call_site;
pub mod expressions;
pub mod mapped;
pub mod merge;
pub mod object;
pub mod outlined;
pub mod shortened;
pub mod stacks;
pub mod symbols;
pub mod unwind;
