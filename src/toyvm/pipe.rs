//! The pipes of a program. Each carries numbers of eight bytes; both ends stay open until the program ends.
#![expect(unsafe_code, reason = "dup2 replaces an end of a pipe under the threads that are blocked on it")]

use std::{
    fs::File,
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsRawFd, RawFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A pipe with both its ends.
#[derive(Debug)]
pub struct Pipe {
    reader: PipeReader,
    writer: PipeWriter,
}

/// All pipes of a program, by number.
#[derive(Debug, Default)]
pub struct Pipes(Mutex<Opened>);

#[derive(Debug, Default)]
struct Opened {
    pipes: Vec<Arc<Pipe>>,
    /// What replaces the ends; opened with the first pipe, because it must be at hand when descriptors run out.
    null: Option<File>,
}

impl Pipe {
    /// Reads one number; blocks until there is one.
    pub fn read(&self) -> io::Result<i64> {
        let mut bytes = [0; 8];
        (&self.reader).read_exact(&mut bytes)?;
        Ok(i64::from_le_bytes(bytes))
    }

    /// Writes one number; blocks while the pipe is full.
    pub fn write(&self, number: i64) -> io::Result<()> {
        (&self.writer).write_all(&number.to_le_bytes())
    }
}

impl Pipes {
    /// Makes a pipe and returns its number.
    pub fn open(&self) -> io::Result<usize> {
        let mut opened = self.opened();
        if opened.null.is_none() {
            opened.null = Some(File::options().read(true).write(true).open("/dev/null")?);
        }
        let (reader, writer) = io::pipe()?;
        opened.pipes.push(Arc::new(Pipe { reader, writer }));
        Ok(opened.pipes.len() - 1)
    }

    /// The pipe of this number, which [`Pipes::open`] has returned.
    pub fn get(&self, number: usize) -> Arc<Pipe> {
        Arc::clone(&self.opened().pipes[number])
    }

    /// Ends every read and write in progress and to come: the ends become `/dev/null`, and the pipe behind them goes.
    pub fn shut(&self) {
        let opened = self.opened();
        let Some(null) = &opened.null else { return };
        for pipe in &opened.pipes {
            replace(pipe.writer.as_raw_fd(), null);
            replace(pipe.reader.as_raw_fd(), null);
        }
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn replace(end: RawFd, by: &File) {
    // SAFETY: both descriptors are open; the owner of `end` keeps the number and closes it once, as before.
    let result = unsafe { libc::dup2(by.as_raw_fd(), end) };
    assert!(result >= 0, "one open descriptor can replace another");
}
