//! What `run` is to execute: a script in an interpreter, a module, a command, or a toy program in the bundled VM.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::cli::{
    args::{RunArgs, Separator},
    error::PlanError,
    plan::Surroundings,
};

/// A file to execute with its arguments.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
}

/// What `run` asks for.
pub(super) fn launch_of(run: RunArgs, surroundings: &Surroundings) -> Result<Launch, PlanError> {
    let mut words = run.words.into_iter();
    if !run.module.is_empty() {
        if run.separator == Separator::Present {
            return Err(PlanError::ModuleAndCommand);
        }
        let program = interpreter(&run.python, surroundings)?;
        let arguments = std::iter::once("-m".into()).chain(run.module).chain(words).collect();
        return Ok(Launch { program, arguments });
    }
    let first = words.next().ok_or(PlanError::NothingToRun)?;
    if run.separator == Separator::Present {
        return Ok(Launch { program: command(&first, surroundings)?, arguments: words.collect() });
    }
    check_script(Path::new(&first))?;
    let (program, before) = match Path::new(&first).extension() {
        Some(extension) if extension == "toy" => (surroundings.exe.clone(), Some("toyvm".into())),
        _ => (interpreter(&run.python, surroundings)?, None),
    };
    Ok(Launch { program, arguments: before.into_iter().chain([first]).chain(words).collect() })
}

/// Refuses a script that is not there. `-` means standard input, as for Python itself.
pub(super) fn check_script(path: &Path) -> Result<(), PlanError> {
    match path.as_os_str() == "-" || path.exists() {
        true => Ok(()),
        false => Err(PlanError::NoScript { path: path.to_owned() }),
    }
}

fn interpreter(name: &OsStr, surroundings: &Surroundings) -> Result<PathBuf, PlanError> {
    command(name, surroundings).map_err(|error| match error {
        PlanError::NoCommand { name } => PlanError::NoInterpreter { name },
        other => other,
    })
}

/// The file that `name` stands for. Links stay as they are: a virtual environment is known by its link.
fn command(name: &OsStr, surroundings: &Surroundings) -> Result<PathBuf, PlanError> {
    if name.as_encoded_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return match (path.exists(), is_executable(&path)) {
            (true, true) => Ok(path),
            (true, false) => Err(PlanError::NotExecutable { path }),
            (false, _) => Err(PlanError::NoCommand { name: name.to_owned() }),
        };
    }
    let candidates = env::split_paths(&surroundings.path).map(|folder| folder.join(name));
    let mut executable = candidates.filter(|candidate| !name.is_empty() && is_executable(candidate));
    executable.next().ok_or_else(|| PlanError::NoCommand { name: name.to_owned() })
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
