//! A launched program under watch that may not yet have become an interpreter.

use crate::{
    session::{
        error::SessionError, family::Household, options::RecordOptions, preload::PreloadWatch, recording::Recording,
        uprobe::UprobeWatch,
    },
    target::discover::Target,
};

/// Whatever was put in place before the program started.
#[derive(Debug)]
pub(super) enum Watch {
    Preload(Box<PreloadWatch>),
    Uprobe(UprobeWatch),
}

impl Watch {
    /// The target, once there is one.
    pub(super) fn look(&mut self) -> Result<Option<Target>, SessionError> {
        match self {
            Self::Preload(watch) => watch.look(),
            Self::Uprobe(watch) => Ok(watch.look()),
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
        }
    }
}
