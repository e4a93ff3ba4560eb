//! Signals to gilscope itself: SIGINT, SIGTERM and SIGHUP end a recording, none of them kills it before its report.

use std::io;

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
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
}

impl Signals {
    /// From now on the three signals are collected instead of ending the process.
    pub fn collect() -> io::Result<Self> {
        Ok(Self { inner: SignalsInfo::with_exfiltrator([SIGINT, SIGTERM, SIGHUP], WithRawSiginfo)? })
    }

    /// The next signal that has been received, if any.
    pub fn take(&mut self) -> Option<Received> {
        let info = self.inner.pending().next()?;
        // kill, tgkill and sigqueue give codes of zero and below; the kernel's own are positive.
        let sender = if info.si_code > 0 { Sender::Terminal } else { Sender::Process };
        Some(Received { signal: info.si_signo, sender })
    }
}

/// Passes a signal on to the child, unless the terminal has sent it to the child as well.
pub fn pass_on(received: Received, child: &mut Launched) {
    if received.sender == Sender::Process {
        child.signal(received.signal);
    }
}
