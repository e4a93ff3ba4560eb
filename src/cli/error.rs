//! Why typed words make no plan, and what to type instead.

use std::{ffi::OsString, path::PathBuf};

use thiserror::Error;

use crate::{
    report::{Format, view::View},
    session::chosen::{EventError, KNOWN_EVENTS},
};

/// Why typed words make no plan.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// The script is not there.
    #[error("no such script: `{}`", path.display())]
    NoScript {
        /// As typed.
        path: PathBuf,
    },
    /// Neither a script nor a module nor a command.
    #[error("nothing to run")]
    NothingToRun,
    /// A module and a command at once.
    #[error("-m runs a module, `--` runs a command: give one of them")]
    ModuleAndCommand,
    /// A command that is nowhere in `PATH`.
    #[error("no such command: `{}`", name.display())]
    NoCommand {
        /// As typed.
        name: OsString,
    },
    /// A file that may not be executed.
    #[error("`{}` is not an executable file", path.display())]
    NotExecutable {
        /// The file.
        path: PathBuf,
    },
    /// The interpreter is not there.
    #[error("no such interpreter: `{}`", name.display())]
    NoInterpreter {
        /// As typed.
        name: OsString,
    },
    /// The output's name says nothing about its format.
    #[error("cannot tell the format of `{}` by its name", path.display())]
    UnknownFormat {
        /// The output as typed.
        path: PathBuf,
    },
    /// A view of a report that shows everything.
    #[error("--view {view} has no meaning for the format {format}, which always shows everything")]
    NoViews {
        /// The view.
        view: View,
        /// The format.
        format: Format,
    },
    /// Two reports for one file.
    #[error("-o and --json both name `{}`", path.display())]
    SameFileTwice {
        /// The file as typed.
        path: PathBuf,
    },
    /// Native frames, and no stacks that could have them.
    #[error("--native has no meaning with --rate 0, which reads no stacks")]
    NativeWithoutStacks,
    /// Samples of an event, and no stacks that they could have.
    #[error("--event has no meaning with --rate 0, which reads no stacks")]
    EventWithoutStacks,
    /// The view of an event, and none that could be seen.
    #[error("--view event shows the event that --event names, and there is none")]
    NoEvent,
    /// Nobody knows this event.
    #[error("there is no event `{word}`")]
    UnknownEvent {
        /// As typed.
        word: String,
    },
    /// It is known, and cannot be named like that or not here.
    #[error(transparent)]
    Event(EventError),
    /// The in-target probe must be there from the start.
    #[error("the backend preload cannot attach to a running process")]
    PreloadCannotAttach,
}

impl PlanError {
    /// Whether the words are wrong, rather than the world: a file that is not there is no error of usage.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::NothingToRun
            | Self::ModuleAndCommand
            | Self::UnknownFormat { .. }
            | Self::NoViews { .. }
            | Self::SameFileTwice { .. }
            | Self::NativeWithoutStacks
            | Self::EventWithoutStacks
            | Self::NoEvent
            | Self::UnknownEvent { .. }
            | Self::Event(_)
            | Self::PreloadCannotAttach => true,
            Self::NoScript { .. }
            | Self::NoCommand { .. }
            | Self::NotExecutable { .. }
            | Self::NoInterpreter { .. } => false,
        }
    }

    /// What to type instead, where there is something to say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoScript { path } => Some(format!(
                "SCRIPT is a file; to run a command, put `--` before it: gilscope run -- {} …",
                path.display()
            )),
            Self::NothingToRun => {
                Some("gilscope run SCRIPT, gilscope run -m MODULE, or gilscope run -- COMMAND".to_owned())
            }
            Self::NotExecutable { path } => {
                Some(format!("to run it as a Python script: gilscope run {}", path.display()))
            }
            Self::NoInterpreter { .. } => Some("--python takes a path or a name to be found in PATH".to_owned()),
            Self::UnknownFormat { .. } => Some(format!("use {}, or -f {}", extensions(), names())),
            Self::NoViews { .. } => Some("views are for the formats svg and folded".to_owned()),
            Self::NativeWithoutStacks | Self::EventWithoutStacks => {
                Some("leave --rate out, or give it a number above 0".to_owned())
            }
            Self::PreloadCannotAttach => {
                Some("leave --backend out, or start the program with `gilscope run`".to_owned())
            }
            Self::NoEvent => Some("add --event EVENT, such as page-faults".to_owned()),
            Self::UnknownEvent { .. } => Some(format!(
                "there are task-clock, page-faults, minor-faults, major-faults, context-switches, cpu-migrations, {KNOWN_EVENTS}"
            )),
            Self::Event(_) | Self::NoCommand { .. } | Self::ModuleAndCommand | Self::SameFileTwice { .. } => None,
        }
    }
}

fn extensions() -> String {
    let all = Format::ALL.iter().flat_map(|format| format.extensions());
    all.map(|extension| format!(".{extension}")).collect::<Vec<_>>().join(", ")
}

fn names() -> String {
    Format::ALL.map(Format::name).join("|")
}
