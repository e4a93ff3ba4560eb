//! A launched program under watch that may not yet have become an interpreter.

use crate::{
    session::{
        error::SessionError,
        options::RecordOptions,
        poll::{self, PollWatch},
        preload::PreloadWatch,
        recording::Recording,
        uprobe::UprobeWatch,
    },
    target::discover::Target,
};

/// Whatever was put in place before the program started.
#[derive(Debug)]
pub(super) enum Watch {
    Preload(Box<PreloadWatch>),
    Uprobe(UprobeWatch),
    Poll(PollWatch),
}

impl Watch {
    /// The target, once there is one.
    pub(super) fn look(&mut self) -> Result<Option<Target>, SessionError> {
        match self {
            Self::Preload(watch) => watch.look(),
            Self::Uprobe(watch) => Ok(watch.look()),
            Self::Poll(watch) => Ok(watch.look()),
        }
    }

    /// Begins to record.
    pub(super) fn begin(self, target: Target, options: RecordOptions) -> Result<Recording, SessionError> {
        match self {
            Self::Preload(watch) => watch.begin(target, options),
            Self::Uprobe(watch) => watch.begin(target, options),
            Self::Poll(_) => poll::begin(target, options),
        }
    }
}
