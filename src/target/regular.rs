//! Opening files that the target chooses: by name it may offer a pipe, a device or what `/proc` makes up.
//!
//! Opening a pipe waits for a writer, and opening a device is an act of its own: a watchdog then waits for more. So the
//! place is looked at first, without opening what is there, and only a regular file is opened; nothing can be put in its
//! place in between.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::Path,
};

/// Opens a regular file for reading; an error for anything else.
pub fn open(path: &Path) -> io::Result<File> {
    let place = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
    if !place.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    // Files of `/proc` look regular and may wait, too: no program lies there.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags).open(format!("/proc/self/fd/{}", place.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::fs::symlink,
        path::Path,
        process::Command,
    };

    use super::open;

    #[test]
    fn regular_files_are_opened_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link, pipe) = (folder.path().join("a"), folder.path().join("b"), folder.path().join("c"));
        std::fs::File::create(&file).unwrap().write_all(b"text").unwrap();
        symlink(&file, &link).unwrap();
        let mut text = String::new();
        open(&link).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        assert!(Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()));
        let devices = ["/dev/zero", "/dev/tty", "/dev", "/nowhere"].map(Path::new);
        assert!(devices.into_iter().chain([pipe.as_path()]).all(|path| open(path).is_err()));
    }
}
