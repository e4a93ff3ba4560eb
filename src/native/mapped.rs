//! The objects that a process has mapped, found by address, and kept up to date at a bounded cost.
//!
//! The map is read again when somebody asks for an address that lies in nothing that is known, so libraries loaded later are
//! found. In code that the program generates every address is such a one: the longer nothing changes, the rarer the reading.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use crate::{
    model::{ids::Pid, stack::is_interpreter},
    native::{
        merge::Role,
        object::Object,
        outlined::rest_of,
        symbols::{Function, Symbols},
        unwind::Unwinder,
    },
    target::maps::{FileIdentity, Mapping, MemoryMap},
};

/// The map is not read more often than this,
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// and, while it does not change, less and less often down to this.
const LONGEST_PAUSE: Duration = Duration::from_millis(3_200);
/// Files with code that are looked at; programs map some hundred.
const MOST_FILES: usize = 4096;
/// The evaluation loop of CPython, in every version and build; exported, so that stripped builds have the name, too.
pub const EVALUATION_LOOP: &str = "_PyEval_EvalFrameDefault";
/// How names of functions end that CPython's own tool has written the callers of.
const IMPLEMENTATION: &str = "_impl";

/// The objects of one process.
#[derive(Debug)]
pub struct MappedObjects {
    pid: Pid,
    /// The code that each file had mapped when it was looked at, whether or not it is an object.
    looked_at: FxHashMap<FileIdentity, Vec<Range<u64>>>,
    objects: Vec<MappedObject>,
    /// Where each object's code is, by address, with its place in `objects`.
    places: Vec<(Range<u64>, usize)>,
    refreshed: Option<Instant>,
    pause: Duration,
}

/// An object and its names.
#[derive(Debug)]
pub struct MappedObject {
    /// `None` for what the kernel has put there, which stays.
    file: Option<FileIdentity>,
    /// The object.
    pub object: Object,
    symbols: Symbols,
    /// Whether all names are known that are to be known.
    is_settled: bool,
    belongs: Belongs,
    /// The part of the evaluation loop that has no name of its own, by the file's addresses.
    rest_of_loop: Option<Range<u64>>,
}

/// Whose code an object has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Belongs {
    Interpreter,
    Others,
}

impl MappedObjects {
    /// Nothing is read before the first refreshing.
    pub fn of(pid: Pid) -> Self {
        Self {
            pid,
            looked_at: FxHashMap::default(),
            objects: Vec::new(),
            places: Vec::new(),
            refreshed: None,
            pause: SHORTEST_PAUSE,
        }
    }

    /// The object with code at a live address.
    pub fn at(&self, address: u64) -> Option<&MappedObject> {
        self.place(address).map(|place| &self.objects[place])
    }

    /// The same, to ask it for names.
    pub fn at_mut(&mut self, address: u64) -> Option<&mut MappedObject> {
        self.place(address).map(|place| &mut self.objects[place])
    }

    fn place(&self, address: u64) -> Option<usize> {
        let after = self.places.partition_point(|(range, _)| range.start <= address);
        let (range, place) = self.places.get(after.checked_sub(1)?)?;
        range.contains(&address).then_some(*place)
    }

    /// Whether more names are known than at the last question: those of inlined functions may be read meanwhile.
    pub fn have_news(&mut self) -> bool {
        let settled = self.objects.iter_mut().filter(|object| !object.is_settled && object.symbols.is_settled());
        settled.map(|object| object.is_settled = true).count() > 0
    }

    /// Reads the map again, unless that was a moment ago; says whether it has changed.
    pub fn refresh(&mut self, unwinder: &mut Unwinder) -> bool {
        if self.refreshed.is_some_and(|refreshed| refreshed.elapsed() < self.pause) {
            return false;
        }
        // Of a process that has ended, what is known stays true.
        let Ok(map) = MemoryMap::read(self.pid) else { return false };
        let changed = self.follow(&map, unwinder);
        self.pause = if changed { SHORTEST_PAUSE } else { (self.pause * 2).min(LONGEST_PAUSE) };
        self.refreshed = Some(Instant::now());
        changed
    }

    fn follow(&mut self, map: &MemoryMap, unwinder: &mut Unwinder) -> bool {
        let now = code_by_file(map);
        let is_as_before =
            |file: &FileIdentity, seen: &Vec<Range<u64>>| now.get(file).is_some_and(|(_, ranges)| ranges == seen);
        let looked_at = self.looked_at.len();
        self.looked_at.retain(|file, seen| is_as_before(file, seen));
        let mut changed = self.looked_at.len() < looked_at;
        let known = |object: &MappedObject| object.file.is_none_or(|file| self.looked_at.contains_key(&file));
        let (kept, gone): (Vec<_>, Vec<_>) = self.objects.drain(..).partition(known);
        self.objects = kept;
        gone.iter().for_each(|gone| unwinder.remove(&gone.object));
        for (file, (mapping, ranges)) in now {
            if self.looked_at.contains_key(&file) || self.looked_at.len() >= MOST_FILES {
                continue;
            }
            self.looked_at.insert(file, ranges);
            changed = true;
            if let Ok(object) = Object::open(self.pid, map, mapping) {
                self.add(Some(file), object, unwinder);
            }
        }
        if self.objects.iter().all(|object| object.file.is_some())
            && let Ok(object) = Object::vdso(self.pid)
        {
            self.add(None, object, unwinder);
        }
        if changed {
            self.find_places();
        }
        changed
    }

    fn add(&mut self, file: Option<FileIdentity>, object: Object, unwinder: &mut Unwinder) {
        unwinder.add(&object);
        let belongs = if is_interpreter(object.path()) { Belongs::Interpreter } else { Belongs::Others };
        let symbols = Symbols::of(&object, self.pid);
        let has_loop = belongs == Belongs::Interpreter;
        let rest_of_loop = has_loop.then(|| rest_of(EVALUATION_LOOP, &object, &symbols)).flatten();
        self.objects.push(MappedObject { file, object, symbols, is_settled: false, belongs, rest_of_loop });
    }

    fn find_places(&mut self) {
        let ranges = |(place, mapped): (usize, &MappedObject)| {
            mapped.object.ranges().iter().map(|range| (range.clone(), place)).collect::<Vec<_>>()
        };
        self.places = self.objects.iter().enumerate().flat_map(ranges).collect();
        self.places.sort_unstable_by_key(|(range, _)| range.start);
    }
}

/// Each file with executable parts: one of its mappings, and where those parts are.
fn code_by_file(map: &MemoryMap) -> FxHashMap<FileIdentity, (&Mapping, Vec<Range<u64>>)> {
    let mut files: FxHashMap<FileIdentity, (&Mapping, Vec<Range<u64>>)> = FxHashMap::default();
    for mapping in map.executable() {
        let (_, ranges) = files.entry(mapping.file).or_insert_with(|| (mapping, Vec::new()));
        ranges.push(mapping.start.raw()..mapping.end.raw());
    }
    files
}

impl MappedObject {
    /// Where the function at an address begins, both as the target has them.
    pub fn function_start(&self, address: u64) -> Option<u64> {
        let start = self.symbols.function_start(address.wrapping_sub(self.object.bias()))?;
        Some(start.wrapping_add(self.object.bias()))
    }

    /// The functions at a live address, innermost first, with what each is to the script; one without a name has the address
    /// where it begins, so that it stays one.
    pub fn functions(&mut self, address: u64) -> Vec<(String, Role)> {
        let stated = address.wrapping_sub(self.object.bias());
        let functions = self.symbols.at(stated);
        if self.rest_of_loop.as_ref().is_some_and(|rest| rest.contains(&stated)) {
            return vec![(EVALUATION_LOOP.to_owned(), Role::Loop)];
        }
        if functions.is_empty() {
            let start = self.symbols.function_start(stated).unwrap_or(stated);
            return vec![(format!("{start:#x}"), self.role(""))];
        }
        let told = functions.into_iter().filter(|function| self.is_told(function));
        told.map(|function| {
            let role = self.role(&function.name);
            (function.name, role)
        })
        .collect()
    }

    /// Of what is inlined in the interpreter's own code most is there everywhere and tells nothing, such as `Py_INCREF`. What
    /// a built-in function does when its arguments have been converted is what the program has called.
    fn is_told(&self, function: &Function) -> bool {
        let implements =
            function.name.ends_with(IMPLEMENTATION) && !function.name.trim_start_matches('_').starts_with("Py");
        !function.inlined || self.belongs == Belongs::Others || implements
    }

    fn role(&self, function: &str) -> Role {
        match (function, self.belongs) {
            (EVALUATION_LOOP, _) => Role::Loop,
            (_, Belongs::Interpreter) => Role::Interpreter,
            (_, Belongs::Others) => Role::Other,
        }
    }
}
