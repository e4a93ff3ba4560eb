//! What tests of running programs share.

pub mod attached;
pub mod interpreters;
pub mod outcome;
pub mod privilege;
pub mod ring;
pub mod running;
pub mod stolen;
