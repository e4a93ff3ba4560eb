//! Stripped libraries: what is still known, and what files elsewhere add.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    library::{Listed, Loaded, build, listed, run},
    live::{outcome, privilege::is_root},
};

/// A library of C, its functions, and a stripped copy of it.
struct Stripped {
    folder: tempfile::TempDir,
    whole: PathBuf,
    path: PathBuf,
    functions: Vec<Listed>,
}

impl Stripped {
    fn new(words: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let whole = build("keeper.c", folder.path(), &[&["-g"], words].concat())?;
        let path = folder.path().join("libstripped.so");
        run("strip", [Path::new("-o"), &path, &whole]).then_some(())?;
        let functions = listed(&whole, &[]);
        assert_eq!(functions.len(), 3, "{functions:?}");
        Some(Self { folder, whole, path, functions })
    }

    /// The symbols and the debug information alone.
    fn debug_file(&self, to: &Path) -> bool {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        run("objcopy", [Path::new("--only-keep-debug"), &self.whole, to])
    }

    /// The inner function has its name, and what was inlined there, too.
    fn must_be_known(&self, loaded: &mut Loaded) {
        loaded.must_agree(&self.functions);
        let inner = self.functions.iter().find(|function| function.name == "inner_c").unwrap();
        assert!(loaded.all_within(inner).iter().any(|function| function.inlined && function.name == "now"));
    }

    /// Only the exported function has a name, and all have a beginning.
    fn must_be_unknown(&self, loaded: &mut Loaded) {
        for function in &self.functions {
            let middle = function.address + function.size / 2;
            let expected = (function.name == "outer_c").then_some("outer_c");
            assert_eq!(loaded.name(middle).as_deref(), expected, "{function:?}");
            assert_eq!(loaded.symbols.function_start(middle), Some(function.address));
        }
    }
}

#[test]
fn a_stripped_library_names_only_what_it_exports() {
    let Some(stripped) = Stripped::new(&[]) else { return };
    stripped.must_be_unknown(&mut Loaded::library(&stripped.path));
}

#[test]
fn a_debug_file_is_found_by_its_link() {
    let Some(stripped) = Stripped::new(&["-Wl,--build-id=none"]) else { return };
    for place in ["split.debug", ".debug/split.debug"] {
        let debug = stripped.folder.path().join(place);
        let linked = stripped.folder.path().join("liblinked.so");
        let link = format!("--add-gnu-debuglink={}", debug.display());
        if !stripped.debug_file(&debug) || !run("objcopy", [Path::new(&link), &stripped.path, &linked]) {
            return;
        }
        let mut loaded = Loaded::library(&linked);
        assert_eq!(loaded.object.build_id(), None);
        stripped.must_be_known(&mut loaded);
        // Another file of that name is not believed.
        let mut bytes = fs::read(&debug).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&debug, bytes).unwrap();
        stripped.must_be_unknown(&mut Loaded::library(&linked));
        fs::remove_file(debug).unwrap();
    }
}

#[test]
fn a_debug_file_is_found_by_the_build_id_in_the_targets_root() {
    if !is_root() {
        outcome::skipped("a target with a root of its own: needs root");
        return;
    }
    let Some(stripped) = Stripped::new(&["-Wl,--build-id=0x0123456789abcdef"]) else { return };
    let root = stripped.folder.path().join("root");
    if !stripped.debug_file(&root.join("usr/lib/debug/.build-id/01/23456789abcdef.debug")) {
        return;
    }
    let mut loaded = Loaded::in_root(&stripped.path, &root);
    assert_eq!(loaded.object.build_id(), Some(&[1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef][..]));
    stripped.must_be_known(&mut loaded);
    stripped.must_be_unknown(&mut Loaded::library(&stripped.path));
}

#[test]
fn symbols_that_a_library_carries_packed_are_read() {
    let Some(stripped) = Stripped::new(&[]) else { return };
    let file = |name: &str| stripped.folder.path().join(name);
    let (small, carrying) = (file("small"), file("libcarrying.so"));
    let made = run("strip", [Path::new("--strip-debug"), Path::new("-o"), &small, &stripped.whole])
        && run("xz", [&small])
        && run(
            "objcopy",
            [
                Path::new(&format!("--add-section=.gnu_debugdata={}", file("small.xz").display())),
                &stripped.path,
                &carrying,
            ],
        );
    if made {
        Loaded::library(&carrying).must_agree(&stripped.functions);
    }
}
