//! The layouts known beforehand: the files of `probes/`, embedded, one a minor version and build kind.

use crate::target::{
    layout::PythonLayout,
    version::{Build, PythonVersion},
};

/// Every embedded file: minor version of Python 3, build kind, text.
const FILES: [(u8, Build, &str); 11] = [
    (8, Build::Default, include_str!("../../probes/cpython-3.8.json")),
    (9, Build::Default, include_str!("../../probes/cpython-3.9.json")),
    (10, Build::Default, include_str!("../../probes/cpython-3.10.json")),
    (11, Build::Default, include_str!("../../probes/cpython-3.11.json")),
    (12, Build::Default, include_str!("../../probes/cpython-3.12.json")),
    (13, Build::Default, include_str!("../../probes/cpython-3.13.json")),
    (13, Build::FreeThreaded, include_str!("../../probes/cpython-3.13t.json")),
    (14, Build::Default, include_str!("../../probes/cpython-3.14.json")),
    (14, Build::FreeThreaded, include_str!("../../probes/cpython-3.14t.json")),
    (15, Build::Default, include_str!("../../probes/cpython-3.15.json")),
    (15, Build::FreeThreaded, include_str!("../../probes/cpython-3.15t.json")),
];

/// The newest minor version of Python 3 with a file.
pub const NEWEST_MINOR: u8 = 15;

/// The oldest minor version of Python 3 with a file.
pub const OLDEST_MINOR: u8 = 8;

/// The layout on file for this version; `None` when there is no file.
pub fn layout_on_file(version: PythonVersion, build: Build) -> Option<PythonLayout> {
    FILES
        .iter()
        .find(|(minor, kind, _)| version.major == 3 && *minor == version.minor && *kind == build)
        .map(|(_, _, text)| serde_json::from_str(text).expect("embedded files are checked by a test"))
}

#[cfg(test)]
mod tests {
    use super::{FILES, NEWEST_MINOR, OLDEST_MINOR, layout_on_file};
    use crate::target::{
        layout::PythonLayout,
        lock::LockLayout,
        version::{Build, PythonVersion},
    };

    #[test]
    fn every_file_parses_and_is_consistent() {
        for (minor, build, text) in FILES {
            let layout: PythonLayout = serde_json::from_str(text).unwrap_or_else(|error| panic!("3.{minor}: {error}"));
            assert_ne!(layout.runtime.lock.is_some(), layout.interpreter.lock.is_some(), "3.{minor}");
            assert_eq!(layout.thread.native_thread_id.is_some(), minor >= 11, "3.{minor}");
            assert_eq!(layout.code.bytecode.is_some(), minor >= 11, "3.{minor}");
            let lock = if build == Build::FreeThreaded { LockLayout::FREE_THREADED } else { LockLayout::DEFAULT };
            assert_eq!(layout.lock, lock, "3.{minor}");
        }
    }

    #[test]
    fn versions_without_a_file_have_no_layout() {
        assert!(layout_on_file(PythonVersion::release(3, OLDEST_MINOR - 1, 0), Build::Default).is_none());
        assert!(layout_on_file(PythonVersion::release(3, NEWEST_MINOR + 1, 0), Build::Default).is_none());
        assert!(layout_on_file(PythonVersion::release(3, 12, 0), Build::FreeThreaded).is_none());
        assert!(layout_on_file(PythonVersion::release(2, 8, 0), Build::Default).is_none());
    }
}
