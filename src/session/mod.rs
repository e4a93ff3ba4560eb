//! The only place where target, source, ledger and reports meet: one recording from its start to its profile.
//!
//! `engine` turns the crank: drain the sources, order their events, book them, read stacks. [`run`] launches a
//! program under observation, [`attach`] observes one that is running.

pub mod attach;
mod budget;
pub mod checkpoint;
pub mod chosen;
mod circumstances;
mod delay;
mod detail;
pub mod doctor;
mod engine;
pub mod error;
pub mod event_choice;
mod event_sampling;
mod family;
mod fault_groups;
mod finder;
mod governor;
pub mod heir;
mod hints;
mod intervals;
mod joiner;
pub mod ladder;
mod namer;
mod numbers;
pub mod options;
mod poll;
mod preload;
mod progress;
mod recording;
pub mod run;
mod running;
mod sampler;
pub mod signals;
mod sleepers;
mod stacks;
mod stolen;
mod summary;
mod uprobe;
mod watch;
mod watchpoint;

/// Waits until the process at the other end of standard input is gone and removes what probes it left behind. `group`
/// is the name it gave them.
pub fn sweep(group: &str) -> std::io::Result<()> {
    crate::source::uprobe::sweep::sweep_when_parent_ends(group)
}
