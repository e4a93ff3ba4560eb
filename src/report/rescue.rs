//! A finished report that could not be put where it was to go is kept in the folder for temporary files: what was recorded
//! cannot be recorded again.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process,
};

/// Names to try: others may keep reports there, too.
const NAMES: u32 = 100;

/// Keeps `bytes` in a new file that only its owner may read, with the extension of `wanted`; `None` when not even that is
/// possible.
pub(super) fn keep(bytes: &[u8], wanted: Option<&Path>) -> Option<PathBuf> {
    keep_in(&env::temp_dir(), bytes, wanted)
}

fn keep_in(folder: &Path, bytes: &[u8], wanted: Option<&Path>) -> Option<PathBuf> {
    let extension = wanted.and_then(Path::extension).and_then(|extension| extension.to_str()).unwrap_or("report");
    let names = (0..NAMES).map(|number| folder.join(format!("gilscope-{}-{number}.{extension}", process::id())));
    for path in names {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) if write_all(&file, bytes).is_ok() => return Some(path),
            Ok(_) => {
                // Half a report is worse than none, and failing to tidy up changes nothing about that.
                let _ = fs::remove_file(&path);
                return None;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(_) => return None,
        }
    }
    None
}

fn write_all(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.flush()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use super::keep_in;

    #[test]
    fn a_kept_report_is_whole_private_and_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let kept = || keep_in(folder.path(), b"whole", Some(Path::new("/full/x.json"))).unwrap();
        let (first, second) = (kept(), kept());
        assert_ne!(first, second);
        for path in [first, second] {
            assert_eq!(path.extension().unwrap(), "json");
            assert_eq!(fs::read(&path).unwrap(), b"whole");
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn where_nothing_can_be_kept_nothing_stays() {
        assert_eq!(keep_in(Path::new("/no/such/folder"), b"whole", None), None);
    }
}
