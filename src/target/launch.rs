//! Starting a program so that it can be observed from its very first instruction.
//!
//! The child is held between fork and exec until the observer is ready; [`Suspended`] can only be let go, which gives a
//! [`Launched`]. Its standard streams, working directory, signal mask and arguments are the caller's own.

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, RawFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, ExitStatus},
    thread::JoinHandle,
};

use crate::{model::ids::Pid, target::spawn};

/// What to start.
#[derive(Debug, Clone)]
pub struct Program {
    /// The executable: a path, or a name that is looked up in `PATH`.
    pub executable: OsString,
    /// Its arguments, without the name.
    pub arguments: Vec<OsString>,
    /// Variables added to the environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Files that the program inherits open, under these numbers; they must stay open until it has been started.
    pub inherit: Vec<RawFd>,
    /// Signals that the program shall ignore from its start.
    pub ignore: Vec<i32>,
}

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// There is no such program.
    #[error("cannot find the program {}", .program.display())]
    NotFound {
        /// As it was asked for.
        program: OsString,
        /// The kernel's answer.
        source: io::Error,
    },
    /// There is, but it cannot be executed.
    #[error("cannot start {}", .program.display())]
    Exec {
        /// As it was asked for.
        program: OsString,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No process could be created.
    #[error("cannot create a process")]
    Fork(#[source] io::Error),
}

/// A child between fork and exec. Dropped, it ends without having executed anything.
#[derive(Debug)]
pub struct Suspended {
    pid: Pid,
    program: OsString,
    /// There until the child is let go.
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    go: io::PipeWriter,
    spawning: JoinHandle<io::Result<Child>>,
}

/// A running child.
#[derive(Debug)]
pub struct Launched {
    pid: Pid,
    child: Child,
}

impl Program {
    /// Forks the child and holds it just before it executes the program.
    pub fn suspended(self) -> Result<Suspended, LaunchError> {
        let (mut pid_reader, pid_writer) = io::pipe().map_err(LaunchError::Fork)?;
        let (go_reader, go_writer) = io::pipe().map_err(LaunchError::Fork)?;
        let mut command = Command::new(&self.executable);
        command.args(&self.arguments).envs(self.environment);
        hold_before_exec(
            &mut command,
            Gate {
                pid_writer,
                go_reader,
                go_writer: go_writer.as_raw_fd(),
                inherit: self.inherit,
                ignore: self.ignore,
            },
        );
        // Spawning returns only after exec, hence the thread: the caller opens the gate in between.
        let spawning = std::thread::spawn(move || command.spawn());
        let mut pid = [0; 4];
        match pid_reader.read_exact(&mut pid).ok().and_then(|()| Pid::from_raw(i32::from_ne_bytes(pid))) {
            Some(pid) => Ok(Suspended { pid, program: self.executable, held: Some(Held { go: go_writer, spawning }) }),
            None => Err(join(spawning).err().map_or_else(
                || LaunchError::Fork(io::Error::other("the child ended before it could start")),
                LaunchError::Fork,
            )),
        }
    }
}

impl Suspended {
    /// The child's process id, which it keeps when it executes the program.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Lets the child execute the program.
    pub fn start(mut self) -> Result<Launched, LaunchError> {
        let mut held = self.held.take().expect("only taken here, and self is consumed");
        // A child that is already dead shows up in the result of spawning.
        let _ = held.go.write_all(&[1]);
        let (pid, program) = (self.pid, std::mem::take(&mut self.program));
        match join(held.spawning) {
            Ok(child) => Ok(Launched { pid, child }),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Err(LaunchError::NotFound { program, source }),
            Err(source) => Err(LaunchError::Exec { program, source }),
        }
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        let Some(Held { go, spawning }) = self.held.take() else { return };
        drop(go);
        // That it could not be started is what is wanted; it only must not stay behind as a zombie.
        if let Ok(mut ended) = join(spawning) {
            let _status = ended.wait();
        }
    }
}

/// Whether this process runs with rights that its file gave it, so that copies of it would, too.
#[expect(unsafe_code, reason = "what the kernel told about the start has no safe interface")]
pub fn has_rights_of_its_file() -> bool {
    // SAFETY: looks up a number in a list that the kernel has made at the start.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

impl Launched {
    /// The child's process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// How the child ended, if it has.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Sends the child a signal; none is sent once it has been waited for.
    #[expect(unsafe_code, reason = "sending a signal to a child has no safe interface")]
    pub fn signal(&mut self, signal: i32) {
        if let Ok(None) = self.child.try_wait() {
            // SAFETY: the child has not been waited for, so its pid cannot belong to another process.
            let _ = unsafe { libc::kill(self.pid.raw(), signal) };
        }
    }

    /// Waits until the child ends.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}

/// The exit code of a child that was never let go.
const NEVER_STARTED: i32 = 127;

/// What the child needs before it executes the program.
struct Gate {
    pid_writer: io::PipeWriter,
    go_reader: io::PipeReader,
    /// The observer's end: the child drops its copy, so that it ends when the observer dies before opening the gate.
    go_writer: RawFd,
    inherit: Vec<RawFd>,
    ignore: Vec<i32>,
}

#[expect(unsafe_code, reason = "code between fork and exec, and descriptor flags, have no safe interface")]
fn hold_before_exec(command: &mut Command, mut gate: Gate) {
    let pass_gate = move || -> io::Result<()> {
        // SAFETY: closes the child's own copy of a descriptor that nothing in the child uses.
        unsafe { libc::close(gate.go_writer) };
        let pid = std::process::id();
        gate.pid_writer.write_all(&pid.to_ne_bytes())?;
        let mut go = [0];
        if gate.go_reader.read_exact(&mut go).is_err() {
            // Not by an error, of which the child would complain loudly where nobody is left to hear it.
            // SAFETY: ends the child without running anything of the program it was forked from.
            unsafe { libc::_exit(NEVER_STARTED) };
        }
        for signal in &gate.ignore {
            // SAFETY: ignoring a signal runs no code; it replaces our handler, which exec would reset.
            unsafe { libc::signal(*signal, libc::SIG_IGN) };
        }
        gate.inherit.iter().try_for_each(|file| spawn::pass_on(*file))
    };
    // SAFETY: the closure only makes system calls on descriptors opened before the fork and allocates nothing, as is
    // required between fork and exec in a program with several threads.
    unsafe { command.pre_exec(pass_gate) };
}

fn join(spawning: JoinHandle<io::Result<Child>>) -> io::Result<Child> {
    spawning.join().unwrap_or_else(|_| Err(io::Error::other("starting the program panicked")))
}

#[cfg(test)]
mod tests {
    use super::{LaunchError, Program};

    fn program(executable: &str, arguments: &[&str]) -> Program {
        let arguments = arguments.iter().map(Into::into).collect();
        Program {
            executable: executable.into(),
            arguments,
            environment: Vec::new(),
            inherit: Vec::new(),
            ignore: Vec::new(),
        }
    }

    #[test]
    fn a_child_is_held_until_it_is_let_go_and_keeps_its_exit_code() {
        let suspended = program("sh", &["-c", "exit 7"]).suspended().unwrap();
        let pid = suspended.pid();
        let held = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(!held.contains("exit 7"), "not executed yet: {held:?}");
        let mut launched = suspended.start().unwrap();
        assert_eq!(launched.pid(), pid);
        assert_eq!(launched.wait().unwrap().code(), Some(7));
    }

    #[test]
    fn a_child_that_is_never_let_go_ends_and_is_gone() {
        let suspended = program("sh", &["-c", "exit 7"]).suspended().unwrap();
        let process = format!("/proc/{}", suspended.pid());
        assert!(std::fs::exists(&process).unwrap());
        drop(suspended);
        assert!(!std::fs::exists(&process).unwrap());
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = program("/no/such/program", &[]).suspended().unwrap().start().unwrap_err();
        assert!(matches!(&error, LaunchError::NotFound { .. }), "{error:?}");
        assert_eq!(error.to_string(), "cannot find the program /no/such/program");
    }
}
