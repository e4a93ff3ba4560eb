//! The separate file with an object's full symbols: found by the build id, or by the name that the object gives.
//!
//! Such files are looked for as the target sees them and then as the observer does. A file counts only when it is proven
//! to be of the same build, by the build id or, where one has none, by its checksum.

use std::path::{Path, PathBuf};

use object::read::Object as _;

use crate::{
    model::ids::Pid,
    native::{bytes::SharedBytes, object::Elf},
    target::{
        elf::{self, LONGEST_FILE},
        regular,
    },
};

const FOLDER: &str = "usr/lib/debug";

/// The debug file of `object`, which `pid` has mapped from `path`.
pub fn find(pid: Pid, path: &str, object: &Elf<'_>) -> Option<SharedBytes> {
    let roots = [PathBuf::from(format!("/proc/{pid}/root")), PathBuf::from("/")];
    let id = object.build_id().ok().flatten();
    let by_id = id.and_then(|id| {
        let name = name_by_id(id)?;
        roots.iter().find_map(|root| opened(&root.join(&name)).filter(|file| has_id(file, id)))
    });
    by_id.or_else(|| {
        let (name, checksum) = object.gnu_debuglink().ok().flatten()?;
        let places = places_of_link(path, std::str::from_utf8(name).ok()?)?;
        let mut paths = roots.iter().flat_map(|root| places.iter().map(|place| root.join(place)));
        paths.find_map(|path| opened(&path).filter(|file| is_linked(file, id, checksum)))
    })
}

fn name_by_id(id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = id.split_first().filter(|(_, rest)| !rest.is_empty())?;
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(PathBuf::from(format!("{FOLDER}/.build-id/{first:02x}/{rest}.debug")))
}

/// Where a file of this name may be, below a root; `None` when the name leads elsewhere.
fn places_of_link(path: &str, name: &str) -> Option<[PathBuf; 3]> {
    if name.is_empty() || name.contains('/') || name == ".." {
        return None;
    }
    let folder = Path::new(path.trim_start_matches('/')).parent()?;
    Some([folder.join(name), folder.join(".debug").join(name), Path::new(FOLDER).join(folder).join(name)])
}

/// The bytes of a regular file; opening waits for nobody, whatever the path leads to.
fn opened(path: &Path) -> Option<SharedBytes> {
    let file = regular::open(path).ok()?;
    let seen = file.metadata().ok().filter(|seen| seen.len() <= LONGEST_FILE);
    seen.and_then(|_| SharedBytes::of_file(&file).ok())
}

fn has_id(file: &SharedBytes, id: &[u8]) -> bool {
    elf::parse(&**file).is_ok_and(|elf| elf.build_id() == Ok(Some(id)))
}

fn is_linked(file: &SharedBytes, id: Option<&[u8]>, checksum: u32) -> bool {
    let Ok(elf) = elf::parse(&**file) else { return false };
    match (id, elf.build_id().ok().flatten()) {
        (Some(id), Some(other)) => id == other,
        _ => crc32fast::hash(file) == checksum,
    }
}

#[cfg(test)]
mod tests {
    use super::{name_by_id, places_of_link};

    #[test]
    fn names_stay_below_the_root() {
        let name = name_by_id(&[0xab, 0x01, 0xff]).unwrap();
        assert_eq!(name.to_str(), Some("usr/lib/debug/.build-id/ab/01ff.debug"));
        assert_eq!(name_by_id(&[0xab]), None);
        let places = places_of_link("/opt/lib/libx.so", "libx.debug").unwrap();
        assert!(places.iter().all(|place| place.is_relative()));
        assert_eq!(places[2].to_str(), Some("usr/lib/debug/opt/lib/libx.debug"));
        assert_eq!(places_of_link("/opt/libx.so", "../../etc/shadow"), None);
        assert_eq!(places_of_link("/opt/libx.so", ""), None);
    }
}
