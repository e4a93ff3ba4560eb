//! A launched program under watch that may not yet have become an interpreter.

use std::os::fd::BorrowedFd;

use crate::{
    session::{
        error::SessionError, family::Household, options::RecordOptions, poll::PollWatch, preload::PreloadWatch,
        recording::Recording, uprobe::UprobeWatch, watchpoint::WatchpointWatch,
    },
    target::discover::Target,
};

/// Whatever was put in place before the program started.
#[derive(Debug)]
pub(super) enum Watch {
    Preload(Box<PreloadWatch>),
    Uprobe(Box<UprobeWatch>),
    Watchpoint(Box<WatchpointWatch>),
    Poll(PollWatch),
}

impl Watch {
    /// The target, once there is one.
    pub(super) fn look(&mut self) -> Result<Option<Target>, SessionError> {
        match self {
            Self::Preload(watch) => watch.look(),
            Self::Uprobe(watch) => Ok(watch.look()),
            Self::Watchpoint(watch) => Ok(watch.look()),
            Self::Poll(watch) => Ok(watch.look()),
        }
    }

    /// The memory that is shared with probes inside the program.
    pub(super) fn shared(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Preload(watch) => watch.shared(),
            Self::Uprobe(_) | Self::Watchpoint(_) | Self::Poll(_) => Vec::new(),
        }
    }

    /// Whether an interpreter runs that what was put in place has no effect on.
    pub(super) fn has_missed(&mut self) -> bool {
        match self {
            Self::Preload(watch) => watch.has_missed(),
            Self::Uprobe(_) | Self::Watchpoint(_) | Self::Poll(_) => false,
        }
    }

    /// Begins to record, the other processes as well if that is wanted.
    pub(super) fn begin(
        self,
        target: Target,
        options: RecordOptions,
    ) -> Result<(Recording, Option<Household>), SessionError> {
        match self {
            Self::Preload(watch) => watch.begin(target, options),
            Self::Uprobe(watch) => watch.begin(target, options),
            Self::Watchpoint(watch) => Ok((watch.begin(target, options)?, None)),
            Self::Poll(watch) => Ok((watch.begin(target, options)?, None)),
        }
    }
}
