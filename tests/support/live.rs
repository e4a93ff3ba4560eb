//! What tests of running programs share.

pub mod attached;
pub mod compare;
pub mod copied;
pub mod interpreters;
pub mod libraries;
pub mod observed;
pub mod outcome;
pub mod privilege;
pub mod profiled;
pub mod ring;
pub mod running;
pub mod stolen;
