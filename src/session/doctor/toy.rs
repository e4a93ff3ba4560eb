//! A patient of the doctor's own, for when nobody else's process is at hand: the bundled VM, in which two threads take turns.

use std::{
    ffi::OsString,
    fs::File,
    io::Write,
    os::fd::AsRawFd,
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    session::{error::SessionError, ladder::Climbed},
    source::preload::file,
    target::{
        discover::Target,
        elf::ElfImage,
        launch::{Launched, Program, has_rights_of_its_file},
    },
};

/// Ends by itself within seconds, should nobody be left to end it.
const PROGRAM: &str = "
fn worker() {
    loop 5000 {
        compute 100us
        sleep 900us
    }
}
spawn worker()
spawn worker()
join all
";

/// The VM starts within some milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(2);

/// The program, in a file without a name.
#[derive(Debug)]
pub(super) struct ToyProgram {
    file: File,
}

impl ToyProgram {
    pub(super) fn new() -> Result<Self, SessionError> {
        let written = file::create(c"gilscope-toy").and_then(|mut file| {
            file.write_all(PROGRAM.as_bytes())?;
            Ok(file)
        });
        Ok(Self { file: written.map_err(SessionError::Patient)? })
    }

    /// This very program, to run it.
    ///
    /// If capabilities are attached to its file, it is started by the dynamic loader: the one tried on must not have them. No
    /// usual program does, and no library could be preloaded.
    pub(super) fn program(&self) -> Program {
        let number = self.file.as_raw_fd();
        let words = ["toyvm".into(), OsString::from(format!("/proc/self/fd/{number}"))];
        let loader = has_rights_of_its_file().then(own_loader).flatten();
        let (executable, own) = match loader {
            Some((loader, own)) => (loader.into_os_string(), Some(own.into_os_string())),
            None => ("/proc/self/exe".into(), None),
        };
        Program {
            executable,
            arguments: own.into_iter().chain(words).collect(),
            environment: Vec::new(),
            inherit: vec![number],
            ignore: Vec::new(),
        }
    }

    /// Runs it, and waits until it can be observed.
    pub(super) fn start(&self) -> Result<ToyPatient, SessionError> {
        let child = self.program().suspended()?.start()?;
        let mut patient = ToyPatient { child };
        let since = Instant::now();
        loop {
            match Target::discover(patient.child.pid()) {
                Ok(_) => return Ok(patient),
                Err(error) if since.elapsed() > PATIENCE || patient.has_ended() => return Err(error.into()),
                Err(_) => std::thread::sleep(LOOK),
            }
        }
    }
}

/// Our own loader, and our own file.
fn own_loader() -> Option<(PathBuf, PathBuf)> {
    let own = std::env::current_exe().ok()?;
    let image = ElfImage::new(&own, File::open(&own).ok()?).ok()?;
    Some((image.loader()?, own))
}

/// A running patient; dropped, it ends.
#[derive(Debug)]
pub(super) struct ToyPatient {
    pub(super) child: Launched,
}

impl ToyPatient {
    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for ToyPatient {
    fn drop(&mut self) {
        self.child.signal(libc::SIGKILL);
        // It is ours and has just been killed.
        let _status = self.child.wait();
    }
}

/// Waits until a program that was started under watch can be recorded.
pub(super) fn await_target(climbed: &mut Climbed) -> Result<Target, SessionError> {
    let since = Instant::now();
    while since.elapsed() < PATIENCE && matches!(climbed.child.try_wait(), Ok(None)) {
        if let Some(target) = climbed.watch.look()? {
            return Ok(target);
        }
        if climbed.watch.has_missed() {
            return Err(SessionError::ProbeNotLoaded);
        }
        std::thread::sleep(LOOK);
    }
    Err(SessionError::NoInterpreter { backend: climbed.rung.backend() })
}
