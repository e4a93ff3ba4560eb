//! A real interpreter: names in all of libpython, compared with `addr2line` and `nm`; and the kernel's code.

use std::{collections::BTreeMap, io::Write, path::Path, process::Stdio};

use gilscope::{
    model::address::LiveAddress,
    native::{
        object::{Elf, Object},
        symbols::Symbols,
    },
    target::{
        maps::MemoryMap,
        memory::{Memory, ProcessMemory},
    },
};
use object::read::{Object as _, ObjectSection};

use crate::{
    library::{Listed, Loaded, listed},
    live::{
        interpreters::{interpreters, pyenv},
        outcome,
        running::Running,
    },
};

const ADDRESSES: usize = 1000;

/// The functions at each address, innermost first, as `addr2line` names them.
fn by_addr2line(path: &Path, addresses: &[u64]) -> Option<Vec<Vec<String>>> {
    let mut command = std::process::Command::new("addr2line");
    command.args(["-f", "-i", "-a", "-e"]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().ok()?;
    let mut input = child.stdin.take().unwrap();
    let words: String = addresses.iter().map(|address| format!("{address:#x}\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(words.as_bytes()).unwrap());
    let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    writer.join().unwrap();
    let mut answers: Vec<Vec<String>> = Vec::new();
    let mut names = true;
    for line in output.lines() {
        if line.starts_with("0x") {
            answers.push(Vec::new());
            names = true;
            continue;
        }
        if names {
            answers.last_mut().unwrap().push(line.split('.').next().unwrap().to_owned());
        }
        names = !names;
    }
    Some(answers)
}

/// All names that `nm` has for what begins at an address.
fn names_by_start(functions: &[Listed]) -> BTreeMap<u64, Vec<String>> {
    let mut names: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for function in functions {
        names.entry(function.address).or_default().push(function.name.split(['.', '@']).next().unwrap().to_owned());
    }
    names
}

#[test]
fn every_function_of_libpython_has_the_name_that_nm_gives() {
    let Some(home) = pyenv("3.11") else { return };
    let path = home.join("lib/libpython3.11.so.1.0");
    let functions = listed(&path, &[]);
    if functions.is_empty() {
        outcome::skipped("nm finds no functions in libpython 3.11");
        return;
    }
    let mut loaded = Loaded::library(&path);
    let mut wrong = Vec::new();
    for (start, names) in names_by_start(&functions) {
        let name = loaded.name(start);
        if !name.as_ref().is_some_and(|name| names.contains(name)) {
            wrong.push((start, names, name));
        }
    }
    println!("{} functions of libpython, {} named otherwise than by nm", functions.len(), wrong.len());
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn inlined_functions_of_libpython_are_those_of_addr2line() {
    let Some(home) = pyenv("3.11") else { return };
    let path = home.join("lib/libpython3.11.so.1.0");
    let functions = listed(&path, &[]);
    let step = (functions.len() / ADDRESSES).max(1);
    let addresses: Vec<u64> =
        functions.iter().step_by(step).map(|function| function.address + function.size / 3).collect();
    let Some(expected) = by_addr2line(&path, &addresses) else {
        outcome::skipped("no addr2line");
        return;
    };
    let mut loaded = Loaded::library(&path);
    let (mut whole, mut outer, mut levels) = (0, 0, 0);
    for (address, expected) in addresses.iter().zip(&expected) {
        let found: Vec<String> = loaded.symbols.at(*address).into_iter().map(|function| function.name).collect();
        whole += usize::from(found == *expected);
        outer += usize::from(found.last() == expected.last());
        levels += found.len();
        if found != *expected {
            println!("{address:#x}: {found:?} where addr2line says {expected:?}");
        }
    }
    let all = addresses.len();
    println!("{all} addresses, {levels} functions: {whole} as addr2line, {outer} with the same outer function");
    assert!(whole * 100 >= all * 98 && outer * 100 >= all * 99, "{whole} and {outer} of {all}");
}

#[test]
fn the_kernels_clocks_have_names() {
    let mut command = std::process::Command::new("cat");
    command.env("LC_ALL", "C");
    let mut running = Running::start(command);
    running.go();
    assert_eq!(running.line(), "");
    let vdso = Object::vdso(running.pid()).unwrap();
    let mut symbols = Symbols::of(&vdso, running.pid());
    let range = &vdso.ranges()[0];
    let stated = (range.start..range.end).map(|live| live.wrapping_sub(vdso.bias()));
    let names = stated.filter_map(|address| symbols.at(address).pop()).map(|function| function.name);
    let names: std::collections::BTreeSet<String> = names.collect();
    let expected = if cfg!(target_arch = "x86_64") { "clock_gettime" } else { "__kernel_clock_gettime" };
    assert!(names.contains(expected), "{names:?}");
}

/// Programs at fixed addresses, libraries anywhere, and the dynamic loader: the code is where the bias says.
#[test]
fn every_object_of_an_interpreter_is_where_its_bias_says() {
    for interpreter in interpreters() {
        let mut running = interpreter.start("import ctypes, ssl; print(1, flush=True); input()");
        assert_eq!(running.line(), "1");
        let map = MemoryMap::read(running.pid()).unwrap();
        let memory = ProcessMemory::open(running.pid()).unwrap();
        let objects = map.files().into_iter().filter_map(|mapping| Object::open(running.pid(), &map, mapping).ok());
        let checked = objects.map(|object| {
            let elf = Elf::parse(object.bytes()).unwrap();
            let text = elf.section_by_name(".text").unwrap();
            let expected = &text.data().unwrap()[..16];
            let mut found = [0; 16];
            let live = LiveAddress::in_target(text.address().wrapping_add(object.bias()));
            memory.read(live, &mut found).unwrap();
            assert_eq!(found, expected, "{} of {}", object.path(), interpreter.name);
        });
        assert!(checked.count() >= 4, "{map:?}");
    }
}
