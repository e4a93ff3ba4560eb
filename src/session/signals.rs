//! Signals to gilscope itself: SIGINT, SIGTERM and SIGHUP end a recording, none of them kills it before its report.
//!
//! What was ignored when gilscope started, as `nohup` and shells in the background arrange it, stays ignored in the program
//! that it launches. A SIGHUP that was ignored ends no recording either.

#![expect(unsafe_code, reason = "what becomes of a signal can only be asked by sigaction")]

use std::{io, mem::MaybeUninit, ptr, sync::Arc};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ},
    iterator::{SignalsInfo, exfiltrator::raw::WithRawSiginfo},
};

use crate::target::launch::Launched;

/// A signal that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub signal: i32,
    /// Who sent it.
    pub sender: Sender,
}

/// Who sent a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The kernel, on behalf of the terminal: every process of the foreground group got it too.
    Terminal,
    /// A process, which sent it to gilscope alone.
    Process,
}

/// The signals received since the program began.
#[derive(Debug)]
pub struct Signals {
    inner: SignalsInfo<WithRawSiginfo>,
    ignored: Vec<i32>,
}

/// The signals that end a recording.
const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

impl Signals {
    /// From now on the three signals are collected instead of ending the process.
    pub fn collect() -> io::Result<Self> {
        // A file that may not grow is an error to be told, not a death. A handler, unlike ignoring, is not passed on.
        signal_hook::flag::register(SIGXFSZ, Arc::default())?;
        let ignored: Vec<i32> = ENDING.into_iter().filter(|signal| is_ignored(*signal)).collect();
        let collected = ENDING.into_iter().filter(|signal| *signal != SIGHUP || !ignored.contains(signal));
        Ok(Self { inner: SignalsInfo::with_exfiltrator(collected, WithRawSiginfo)?, ignored })
    }

    /// Those that were ignored when gilscope started.
    pub fn ignored(&self) -> &[i32] {
        &self.ignored
    }

    /// The next signal that has been received, if any.
    pub fn take(&mut self) -> Option<Received> {
        let info = self.inner.pending().next()?;
        // kill, tgkill and sigqueue give codes of zero and below; the kernel's own are positive.
        let sender = if info.si_code > 0 { Sender::Terminal } else { Sender::Process };
        Some(Received { signal: info.si_signo, sender })
    }
}

fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action nothing is changed; the old one is written where there is room for it.
    let asked = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all zeroes are a valid action, and the kernel's answer is one.
    let action = unsafe { action.assume_init() };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Passes a signal on to the child, unless the terminal has sent it to the child as well.
pub fn pass_on(received: Received, child: &mut Launched) {
    if received.sender == Sender::Process {
        child.signal(received.signal);
    }
}
