//! Seeing to it that no probe outlives us, even when we are killed outright.
//!
//! A second process waits at the other end of a pipe that only we hold open. When the pipe closes it removes our group of
//! probes and ends; if we have done so ourselves it finds nothing to do. It has a session of its own, so that no signal meant
//! for us or the terminal reaches it, and no output, so that it keeps nobody's pipe open.
#![expect(unsafe_code, reason = "setsid must be called between fork and exec")]

use std::{
    ffi::OsString,
    io,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    source::uprobe::tracefs::{Tracefs, is_ours},
    target::spawn,
};

/// The hidden subcommand under which [`sweep_when_parent_ends`] is to be run.
pub const SUBCOMMAND: &str = "__sweep";
/// The kernel closes a dead process's events before long; a minute later something else holds them.
const SWEEPS: u32 = 60;
const BETWEEN_SWEEPS: Duration = Duration::from_secs(1);

/// How to start the watching process: a program that, given the group as its last argument, calls
/// [`sweep_when_parent_ends`].
#[derive(Debug, Clone)]
pub struct Sweeper {
    /// The program.
    pub program: PathBuf,
    /// Its arguments before the group's name.
    pub arguments: Vec<OsString>,
}

impl Sweeper {
    /// This very program, with [`SUBCOMMAND`].
    pub fn this_program() -> Self {
        // Through /proc it works even when the file has been replaced or removed meanwhile.
        Self { program: "/proc/self/exe".into(), arguments: vec![SUBCOMMAND.into()] }
    }

    pub(crate) fn watch_over(&self, group: &str) -> io::Result<Watcher> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg(group).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: the step makes one async-signal-safe call and allocates nothing.
        unsafe { command.pre_exec(spawn::begin_own_session) };
        command.spawn().map(|child| Watcher { child })
    }
}

/// A running sweeper; dropped, it begins to sweep.
#[derive(Debug)]
pub struct Watcher {
    child: Child,
}

impl Watcher {
    /// Lets the sweeper see that nothing is left, and waits for its end.
    pub(crate) fn dismiss(mut self) {
        drop(self.child.stdin.take());
        // It can only be gone already.
        let _ended = self.child.wait();
    }
}

/// Waits for the end of standard input, which is the end of the process that holds the other end, then removes the probes of
/// `group`. To be called by the hidden subcommand [`SUBCOMMAND`]; anything but a group of ours is refused.
pub fn sweep_when_parent_ends(group: &str) -> io::Result<()> {
    if !is_ours(group) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{group:?} is no group of probes of ours")));
    }
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    let tracefs = Tracefs::find().map_err(io::Error::other)?;
    let mut outcome = tracefs.remove_group_patiently(group);
    for _ in 0..SWEEPS {
        if outcome.is_ok() {
            break;
        }
        thread::sleep(BETWEEN_SWEEPS);
        outcome = tracefs.remove_group(group);
    }
    outcome
}
