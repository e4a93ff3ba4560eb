//! Programs in the kernel with their maps, and the links that make them run.

use std::{
    collections::BTreeMap,
    ffi::CStr,
    fs::File,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use crate::{
    bpf::{
        error::BpfError,
        image::{Image, ProgramDefinition},
        map::Map,
        syscall,
    },
    model::{address::FileOffset, ids::Pid},
};

/// In the source register of an instruction that loads an address: the number is a map's descriptor.
const MAP_DESCRIPTOR: u8 = 1 << 4;
/// Room for the verifier's explanation of a refusal.
const LOG: usize = 1 << 20;

/// Programs that the kernel has accepted, and their maps.
#[derive(Debug)]
pub struct Loaded {
    maps: BTreeMap<String, Map>,
    programs: BTreeMap<String, OwnedFd>,
}

/// A place in a file at which a program is to run, and what it is told there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The instruction's position in the file.
    pub offset: FileOffset,
    /// Told to the program.
    pub cookie: u64,
}

/// When a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the instruction at its place.
    Before,
    /// When the function that begins there returns.
    Return,
}

/// A program runs at its places as long as this exists.
#[derive(Debug)]
pub struct Link {
    _descriptor: OwnedFd,
}

impl Loaded {
    /// Loads the programs of these names, with the maps that they refer to.
    pub fn load(image: &Image, names: &[&str]) -> Result<Self, BpfError> {
        let mut loaded = Self { maps: BTreeMap::new(), programs: BTreeMap::new() };
        loaded.load_more(image, names)?;
        Ok(loaded)
    }

    /// Loads more programs of the same image.
    pub fn load_more(&mut self, image: &Image, names: &[&str]) -> Result<(), BpfError> {
        for definition in image.programs.iter().filter(|definition| names.contains(&definition.name.as_str())) {
            for (_, name) in &definition.references {
                self.create(image, name)?;
            }
            self.programs.insert(definition.name.clone(), load(definition, image, &self.maps)?);
        }
        Ok(())
    }

    fn create(&mut self, image: &Image, name: &str) -> Result<(), BpfError> {
        if self.maps.contains_key(name) {
            return Ok(());
        }
        let definition = image.maps.iter().find(|map| map.name == name);
        let map = Map::create(definition.ok_or_else(|| BpfError::Malformed(name.to_owned()))?)?;
        self.maps.insert(name.to_owned(), map);
        Ok(())
    }

    /// Makes `program` run at a place that the kernel itself has marked.
    pub fn link_tracepoint(&self, program: &str, tracepoint: &CStr) -> Result<Link, BpfError> {
        let linked = syscall::open_raw_tracepoint(self.program(program)?, tracepoint);
        let descriptor = linked.map_err(|source| BpfError::Tracepoint { name: program.to_owned(), source })?;
        Ok(Link { _descriptor: descriptor })
    }

    /// Runs a program of such a place once, in whatever thread runs on `cpu` now.
    pub fn run_on(&self, program: &str, cpu: u32) -> Result<(), BpfError> {
        let ran = syscall::run_on(self.program(program)?, cpu);
        ran.map_err(|source| BpfError::Tracepoint { name: program.to_owned(), source })
    }

    /// The map of this name.
    pub fn map(&self, name: &str) -> Result<&Map, BpfError> {
        self.maps.get(name).ok_or_else(|| BpfError::Malformed(name.to_owned()))
    }

    /// Makes `program` run at places of one file whenever `pid` comes by.
    pub fn link_uprobes(
        &self,
        (program, moment): (&str, Moment),
        file: &Path,
        places: &[Place],
        pid: Pid,
    ) -> Result<Link, BpfError> {
        let opened = File::open(file).map_err(|source| BpfError::File { file: file.to_owned(), source })?;
        let offsets: Vec<u64> = places.iter().map(|place| place.offset.raw()).collect();
        let cookies: Vec<u64> = places.iter().map(|place| place.cookie).collect();
        let path = syscall::path_of(opened.as_fd());
        let flags = if moment == Moment::Return { syscall::AT_RETURN } else { 0 };
        let linked = syscall::link_uprobes(self.program(program)?, &path, (&offsets, &cookies), (pid.raw(), flags));
        let descriptor = linked.map_err(|source| BpfError::Link { file: file.to_owned(), source })?;
        Ok(Link { _descriptor: descriptor })
    }

    /// Makes `program` run whenever `event` overflows.
    pub fn link_event(&self, program: &str, event: &impl AsRawFd, cpu: u32) -> Result<Link, BpfError> {
        let linked = syscall::link_event(self.program(program)?, event);
        Ok(Link { _descriptor: linked.map_err(|source| BpfError::Clock { cpu, source })? })
    }

    fn program(&self, name: &str) -> Result<BorrowedFd<'_>, BpfError> {
        self.programs.get(name).map(AsFd::as_fd).ok_or_else(|| BpfError::Malformed(name.to_owned()))
    }
}

fn load(definition: &ProgramDefinition, image: &Image, maps: &BTreeMap<String, Map>) -> Result<OwnedFd, BpfError> {
    let ProgramDefinition { name, kind, references, .. } = definition;
    let mut code = definition.code.clone();
    for (at, map) in references {
        let map = maps.get(map).ok_or_else(|| BpfError::Malformed(map.clone()))?;
        refer(&mut code, *at, map);
    }
    syscall::load((name, *kind), &code, &image.licence, &mut []).or_else(|source| {
        // Once more, for the explanation; of one too long the kernel keeps the end.
        let mut log = vec![0; LOG];
        let again = syscall::load((name, *kind), &code, &image.licence, &mut log);
        let log = String::from_utf8_lossy(log.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
        again.map_err(|_| BpfError::Program { name: name.clone(), log, source })
    })
}

/// Puts a map's descriptor into the instruction at `at`: operation, registers, offset (16 bits), number (32 bits).
fn refer(code: &mut [u8], at: u64, map: &Map) {
    let at = usize::try_from(at).expect("references lie in the code");
    code[at + 1] = code[at + 1] & 0xf | MAP_DESCRIPTOR;
    code[at + 4..at + 8].copy_from_slice(&map.as_fd().as_raw_fd().to_le_bytes());
}
