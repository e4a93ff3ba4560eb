//! Libraries with all their symbols: names of C, C++ and Rust, and what was inlined.

use std::path::Path;

use gilscope::native::symbols::Function;

use crate::library::{Listed, Loaded, build, listed, run};

fn inlined(name: &str) -> Function {
    Function { name: name.to_owned(), inlined: true }
}

fn of_name<'a>(functions: &'a [Listed], part: &str) -> &'a Listed {
    functions.iter().find(|function| function.name.contains(part)).unwrap()
}

#[test]
fn functions_of_c_have_their_names_from_end_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = build("keeper.c", folder.path(), &["-g"]) else { return };
    let functions = listed(&path, &[]);
    assert_eq!(functions.len(), 3, "{functions:?}");
    let mut loaded = Loaded::library(&path);
    loaded.must_agree(&functions);
    assert_eq!(loaded.object.path(), path.to_str().unwrap());
    let ranges = loaded.object.ranges();
    let live = functions.iter().map(|function| function.address.wrapping_add(loaded.object.bias()));
    assert!(live.clone().all(|live| ranges.iter().any(|range| range.contains(&live))), "{ranges:x?}");
    // The clock is called by its stub.
    let stubs = (functions[0].address - 0x200..functions[0].address).filter_map(|address| loaded.name(address));
    assert!(stubs.collect::<Vec<_>>().contains(&"clock_gettime@plt".to_owned()));
    // `now` was inlined, and the debug information says where.
    let inner = of_name(&functions, "inner_c");
    assert!(loaded.all_within(inner).contains(&inlined("now")));
    assert_eq!(loaded.symbols.at(of_name(&functions, "outer_c").address).len(), 1);
}

#[test]
fn packed_debug_information_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = build("keeper.c", folder.path(), &["-g"]) else { return };
    let functions = listed(&path, &[]);
    for packing in ["zlib", "zlib-gnu", "zstd"] {
        let packed = folder.path().join(format!("lib{packing}.so"));
        let option = format!("--compress-debug-sections={packing}");
        if run("objcopy", [Path::new(&option), &path, &packed]) {
            let mut loaded = Loaded::library(&packed);
            assert!(loaded.all_within(of_name(&functions, "inner_c")).contains(&inlined("now")), "{packing}");
        }
    }
}

#[test]
fn functions_of_cpp_are_demangled() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = build("keeper.cpp", folder.path(), &["-g"]) else { return };
    let names = [
        "keeper::Spinner<std::chrono::_V2::steady_clock, 2>::spin",
        "keeper::Work::run",
        "keeper::Work::run()::{lambda(long)#1}::operator()",
        "outer_cpp",
    ];
    let mut functions = listed(&path, &[]);
    functions.sort_by_key(|function| function.name.clone());
    let mangled = functions.clone();
    let (spinner, run, lambda, outer) = (
        of_name(&mangled, "_ZNK6keeper7Spinner"),
        of_name(&mangled, "_ZN6keeper4Work3runEv"),
        of_name(&mangled, "_ZZN6keeper4Work3runEvENKUllE_clEl"),
        of_name(&mangled, "outer_cpp"),
    );
    let demangled = [spinner, run, lambda, outer].into_iter().zip(names);
    let demangled: Vec<_> =
        demangled.map(|(listed, name)| Listed { name: name.to_owned(), ..listed.clone() }).collect();
    assert_eq!(functions.len(), names.len(), "{functions:?}");
    let mut loaded = Loaded::library(&path);
    loaded.must_agree(&demangled);
    let within = loaded.all_within(spinner);
    let elapsed = within.iter().find(|function| function.name.ends_with("::elapsed"));
    assert!(elapsed.is_some_and(|function| function.inlined), "{within:?}");
}

#[test]
fn functions_of_rust_are_demangled_in_both_ways() {
    // What the compiler does by default is one of the two, and says generic arguments only in the newer one.
    for words in [&["-g"][..], &["-g", "-Csymbol-mangling-version=v0"]] {
        let folder = tempfile::tempdir().unwrap();
        let Some(path) = build("keeper.rs", folder.path(), words) else { continue };
        let functions = listed(&path, &[]);
        let part =
            |part: &str| functions.iter().find(|one| one.name.contains("keeper") && one.name.contains(part)).unwrap();
        let outer = functions.iter().find(|function| function.name == "outer_rust").unwrap();
        let (middle, inner) = (part("6middle"), part("5inner"));
        let newer = inner.name.starts_with("_R");
        let arguments = |arguments| if newer { arguments } else { "" };
        let wall = arguments("::<keeper::work::wall::Wall>");
        let mut loaded = Loaded::library(&path);
        let names = [middle, inner, outer].map(|function| loaded.name(function.address + function.size - 1).unwrap());
        let expected = [
            format!("keeper::work::middle{}", arguments("::<keeper::outer_rust::{closure#0}>")),
            format!("keeper::work::inner{wall}"),
            "outer_rust".to_owned(),
        ];
        assert_eq!(names, expected);
        let within = loaded.all_within(inner);
        assert!(within.contains(&inlined(&format!("keeper::work::until{wall}"))), "{within:?}");
    }
}
