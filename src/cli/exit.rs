//! Exit codes by meaning. A launched program's own failure is worth more to its caller than ours.

use std::{
    os::unix::process::ExitStatusExt,
    process::{ExitCode, ExitStatus},
};

use crate::{
    cli::error::PlanError,
    model::diagnosis::{Diagnosis, Outcome, RungFinding},
    report::outlet::OutletError,
    session::error::SessionError,
};

/// How gilscope ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for is done: the report is written.
    Done,
    /// It could not be done.
    Failed,
    /// The command line was wrong.
    Usage,
    /// The system does not allow it.
    NotPermitted,
    /// A recording is damaged.
    RecordingDamaged,
    /// A `--fail-if` condition held.
    ConditionHeld,
    /// The launched program failed with this code.
    Program(u8),
}

impl Exit {
    /// The number the shell sees.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotPermitted => 3,
            Self::RecordingDamaged => 4,
            Self::ConditionHeld => 5,
            Self::Program(code) => code,
        }
    }

    /// What to end with because of `error`.
    pub fn of_error(error: &anyhow::Error) -> Self {
        let refused = error.downcast_ref::<SessionError>().is_some_and(SessionError::is_refusal)
            || error.downcast_ref::<OutletError>().is_some_and(OutletError::is_refusal);
        let usage = error.downcast_ref::<PlanError>().is_some_and(PlanError::is_usage);
        match (refused, usage) {
            (true, _) => Self::NotPermitted,
            (_, true) => Self::Usage,
            _ => Self::Failed,
        }
    }

    /// What to end with after an examination: whether anything works for whom it was about.
    pub fn of_diagnosis(diagnosis: &Diagnosis) -> Self {
        let matters = |rung: &&RungFinding| diagnosis.patient.is_none() || rung.attaches;
        let rungs: Vec<&RungFinding> = diagnosis.rungs.iter().filter(matters).collect();
        let refused = rungs.iter().any(|rung| matches!(rung.outcome, Outcome::Shut { permission: true, .. }));
        match rungs.iter().any(|rung| rung.outcome.works()) {
            true => Self::Done,
            false if refused => Self::NotPermitted,
            false => Self::Failed,
        }
    }

    /// What to end with after the launched program ended with `status`: its own failure, else `self`.
    pub fn after(self, status: ExitStatus) -> Self {
        match code_of(status) {
            0 => self,
            code => Self::Program(code),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// As a shell counts: 128 more than the signal that ended the program.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

    use super::Exit;

    #[test]
    fn the_programs_own_failure_wins() {
        let ended = |raw| ExitStatus::from_raw(raw);
        assert_eq!(Exit::Done.after(ended(0)).code(), 0);
        assert_eq!(Exit::Failed.after(ended(0)).code(), 1);
        assert_eq!(Exit::Failed.after(ended(7 << 8)).code(), 7);
        assert_eq!(Exit::Done.after(ended(libc::SIGKILL)).code(), 137);
        assert_eq!(Exit::Done.after(ended(libc::SIGSEGV | 0x80)).code(), 139);
    }
}
