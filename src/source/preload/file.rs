//! Memory files: nameless files that a launched program inherits by number.

#![expect(unsafe_code, reason = "memfd_create and fcntl have no safe wrapper among the dependencies")]

use std::{
    ffi::CStr,
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

/// Numbers from here on are rarely taken by programs, shells and socket activation, which count up from 3.
const LOWEST_NUMBER: RawFd = 700;

/// A new empty memory file, closed on exec, with a number that programs do not expect to be free.
pub fn create(name: &CStr) -> io::Result<File> {
    // Refusing execute permission is about running the file as a program; its pages can still be mapped as code.
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let file = open(name, flags | libc::MFD_NOEXEC_SEAL).or_else(|_| open(name, flags))?;
    // A low limit on open files leaves no such number: then any will do.
    Ok(File::from(duplicate_from(&file, LOWEST_NUMBER).unwrap_or(file)))
}

/// Makes the file's size final.
pub fn seal_size(file: &File) -> io::Result<()> {
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: sets a property of an open file.
    let answer = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Empties `length` bytes from `start` on: whoever has them mapped reads zeroes from now on, and they take no memory.
pub fn punch(file: &File, start: usize, length: usize) -> io::Result<()> {
    let [start, length] = [start, length].map(|part| libc::off_t::try_from(part).expect("a memory file is small"));
    let flags = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: changes the contents of an open file.
    let answer = unsafe { libc::fallocate(file.as_raw_fd(), flags, start, length) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn open(name: &CStr, flags: libc::c_uint) -> io::Result<OwnedFd> {
    // SAFETY: the name ends in NUL.
    owned(unsafe { libc::memfd_create(name.as_ptr(), flags) })
}

fn duplicate_from(file: &OwnedFd, lowest: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: makes a new number for an open file.
    owned(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) })
}

fn owned(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
