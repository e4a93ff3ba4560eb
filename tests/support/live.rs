//! What tests of running programs share.

pub mod interpreters;
pub mod outcome;
pub mod running;
