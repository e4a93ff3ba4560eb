//! Whether a library can be preloaded into a program, as far as its file tells before it is started.
//!
//! Only what is certain is refused: a program that merely starts others may be anything, since it hands the variable on.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use crate::target::elf::ElfImage;

/// A script may name a script, and so on; the kernel follows about as many.
const SCRIPTS: usize = 4;
/// The kernel reads no more of a script's first line.
const FIRST_LINE: u64 = 256;

/// That nothing is known against preloading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreloadReach;

/// Why a library cannot be preloaded.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// It has no dynamic loader.
    #[error("{} is statically linked: there is no dynamic loader that could load the probe", path.display())]
    Static {
        /// The program.
        path: PathBuf,
    },
    /// It runs with another user's rights.
    #[error("{} runs with its owner's rights, so the dynamic loader ignores LD_PRELOAD", path.display())]
    SetUserId {
        /// The program.
        path: PathBuf,
    },
}

impl PreloadReach {
    /// Looks at the file of `executable`; a script counts as what its first line names.
    pub fn of(executable: &OsStr) -> Result<Self, Unreachable> {
        let mut path = PathBuf::from(executable);
        for _ in 0..SCRIPTS {
            let Some(interpreter) = script_interpreter(&path) else { break };
            path = interpreter;
        }
        if has_rights_of_its_own(&path) {
            return Err(Unreachable::SetUserId { path });
        }
        if is_static_interpreter(&path) { Err(Unreachable::Static { path }) } else { Ok(Self) }
    }
}

/// What `#!` names, if the file is a script.
fn script_interpreter(path: &Path) -> Option<PathBuf> {
    let mut line = Vec::new();
    BufReader::new(File::open(path).ok()?.take(FIRST_LINE)).read_until(b'\n', &mut line).ok()?;
    let words = line.strip_prefix(b"#!")?.trim_ascii();
    let word = words.split(u8::is_ascii_whitespace).next()?;
    (!word.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(word)))
}

/// Whether the kernel will give the program other rights than ours. (Capabilities of the file do so as well; whoever watches
/// the program sees that the probe has not come.)
fn has_rights_of_its_own(path: &Path) -> bool {
    let Ok(file) = fs::metadata(path) else { return false };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = |name: &str| -> Option<u32> {
        status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().nth(1)?.parse().ok())
    };
    let gains = |bits: u32, owner: u32, ours: &str| file.mode() & bits == bits && effective(ours) != Some(owner);
    gains(libc::S_ISUID, file.uid(), "Uid:") || gains(libc::S_ISGID | libc::S_IXGRP, file.gid(), "Gid:")
}

fn is_static_interpreter(path: &Path) -> bool {
    let image = File::open(path).ok().and_then(|file| ElfImage::new(path, file).ok());
    image.is_some_and(|image| image.loader().is_none() && matches!(image.symbol("_PyRuntime"), Ok(Some(_))))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::{PreloadReach, Unreachable, script_interpreter};

    #[test]
    fn a_script_is_what_its_first_line_names() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        fs::write(&script, "#! /usr/bin/env -S python3 -u\nimport os\n").unwrap();
        assert_eq!(script_interpreter(&script), Some("/usr/bin/env".into()));
        fs::write(&script, "#!\n").unwrap();
        assert_eq!(script_interpreter(&script), None);
        fs::write(&script, format!("#!{}\n", script.display())).unwrap();
        assert!(PreloadReach::of(script.as_os_str()).is_ok(), "a script that names itself ends the search");
    }

    #[test]
    fn ordinary_programs_are_within_reach_and_those_of_other_users_rights_are_not() {
        let own = std::env::current_exe().unwrap();
        assert!(PreloadReach::of(own.as_os_str()).is_ok());
        assert!(PreloadReach::of("no such file".as_ref()).is_ok(), "that is for whoever starts it to find out");
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy");
        fs::write(&copy, "").unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).unwrap();
        assert!(PreloadReach::of(copy.as_os_str()).is_ok(), "with our own rights it changes nothing");
        if std::os::unix::fs::chown(&copy, Some(65534), None).is_ok() {
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).unwrap();
            assert!(matches!(PreloadReach::of(copy.as_os_str()), Err(Unreachable::SetUserId { .. })));
        }
    }
}
