//! Native stacks of one process: what is mapped, how to unwind it, what it is called, and what it is to the script.
//!
//! The map is read again when an address lies in nothing that is known, so libraries loaded later are found. What lies in no
//! object ends a stack: past it everything would be guesswork.

use std::{
    ops::Range,
    rc::Rc,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use crate::{
    model::{
        address::LiveAddress,
        ids::Pid,
        machine::{KernelWork, MachineState},
        stack::{Frame, PAGE_FAULT, is_interpreter},
    },
    native::{
        call_site::{self, CallSite},
        merge::{Extent, NativeFrame, Role},
        object::Object,
        outlined::rest_of,
        symbols::{Function, Symbols, jit::PerfMap},
        unwind::Unwinder,
    },
    target::{
        maps::{FileIdentity, MemoryMap},
        parked::name_of_call,
    },
};

/// The map is not read more often than this.
const REFRESH_PAUSE: Duration = Duration::from_millis(50);
/// Addresses whose names are remembered.
const REMEMBERED: usize = 1 << 16;
/// The evaluation loop of CPython, in every version and build; exported, so that stripped builds have the name, too.
const EVALUATION_LOOP: &str = "_PyEval_EvalFrameDefault";
/// How names of functions end that CPython's own tool has written the callers of.
const IMPLEMENTATION: &str = "_impl";
/// What a `syscall` instruction is on x86-64; the next one is where a thread in the kernel goes on.
const SYSTEM_CALL: [u8; 2] = [0x0f, 0x05];

/// Reads native stacks of one process.
#[derive(Debug)]
pub struct NativeStacks {
    pid: Pid,
    unwinder: Unwinder,
    mapped: Vec<Mapped>,
    refreshed: Option<Instant>,
    generated: PerfMap,
    named: FxHashMap<u64, Rc<[NativeFrame]>>,
    addresses: Vec<u64>,
}

/// An object and its names.
#[derive(Debug)]
struct Mapped {
    /// `None` for what the kernel has put there, which stays.
    file: Option<FileIdentity>,
    object: Object,
    symbols: Symbols,
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

/// A native stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeStack {
    /// Its frames, innermost first.
    pub frames: Vec<NativeFrame>,
    /// Whether it leads to where the thread began.
    pub extent: Extent,
}

impl NativeStacks {
    /// Nothing is read before the first question.
    pub fn of(pid: Pid) -> Self {
        Self {
            pid,
            unwinder: Unwinder::default(),
            mapped: Vec::new(),
            refreshed: None,
            generated: PerfMap::of(pid),
            named: FxHashMap::default(),
            addresses: Vec::new(),
        }
    }

    /// The stack of a thread in this state.
    pub fn read(&mut self, state: &MachineState) -> NativeStack {
        if !self.knows(state.registers.instruction) {
            self.refresh();
        }
        let mut addresses = std::mem::take(&mut self.addresses);
        let mut extent = self.follow(state, &mut addresses);
        if extent == Extent::Cut && addresses.last().is_some_and(|last| !self.knows(*last)) && self.refresh() {
            extent = self.follow(state, &mut addresses);
        }
        let mut frames = Vec::with_capacity(addresses.len() + 1);
        if let Some(frame) = self.kernel_frame(state) {
            frames.push(NativeFrame { frame, role: Role::Other });
        }
        for address in addresses.iter().copied() {
            let named = self.name(address);
            if named.is_empty() {
                extent = Extent::Cut;
                break;
            }
            frames.extend(named.iter().cloned());
        }
        self.addresses = addresses;
        NativeStack { frames, extent }
    }

    fn follow(&mut self, state: &MachineState, into: &mut Vec<u64>) -> Extent {
        let mapped = &self.mapped;
        let calls = |callee: u64, return_address: u64| {
            let code = object_at(mapped, return_address)?.object.code_before(return_address, call_site::LONGEST)?;
            let callee = object_at(mapped, callee)?.function_start(callee);
            let sites: Vec<CallSite> = call_site::before(code, return_address).collect();
            let direct = sites.iter().find(|site| callee.is_some_and(|callee| **site == CallSite::Direct(callee)));
            direct.or_else(|| sites.iter().find(|site| **site == CallSite::Indirect)).copied()
        };
        self.unwinder.follow(state, into, &calls)
    }

    fn knows(&self, address: u64) -> bool {
        self.place(address).is_some()
    }

    fn place(&self, address: u64) -> Option<usize> {
        self.mapped.iter().position(|mapped| mapped.has(address))
    }

    /// In the kernel without a system call, a thread is there for a fault. Which call it is, the frame below tells where
    /// the number is not known.
    fn kernel_frame(&self, state: &MachineState) -> Option<Frame> {
        match state.kernel? {
            KernelWork::Unknown => {
                let before = self.code_before(state.registers.instruction)?;
                (before != SYSTEM_CALL).then(|| Frame::kernel(PAGE_FAULT))
            }
            known => kernel_frame(known),
        }
    }

    /// The two bytes before `address`.
    fn code_before(&self, address: u64) -> Option<[u8; 2]> {
        self.mapped[self.place(address)?].object.code_before(address, 2)?.first_chunk().copied()
    }

    /// Reads the map again, unless that was a moment ago; says whether it has changed.
    fn refresh(&mut self) -> bool {
        if self.refreshed.is_some_and(|refreshed| refreshed.elapsed() < REFRESH_PAUSE) {
            return false;
        }
        self.refreshed = Some(Instant::now());
        // Of a process that has ended, what is known stays true.
        let Ok(map) = MemoryMap::read(self.pid) else { return false };
        let mut changed = self.forget_unmapped(&map);
        for mapping in map.files() {
            let known = self.mapped.iter().any(|mapped| mapped.file == Some(mapping.file));
            let executable = map.of(mapping.file).any(|part| part.executable);
            if known || !executable {
                continue;
            }
            if let Ok(object) = Object::open(self.pid, &map, mapping) {
                self.add(Some(mapping.file), object);
                changed = true;
            }
        }
        if self.mapped.iter().all(|mapped| mapped.file.is_some())
            && let Ok(object) = Object::vdso(self.pid)
        {
            self.add(None, object);
        }
        if changed {
            self.named.clear();
        }
        changed
    }

    fn add(&mut self, file: Option<FileIdentity>, object: Object) {
        self.unwinder.add(&object);
        let belongs = if is_interpreter(object.path()) { Belongs::Interpreter } else { Belongs::Others };
        let symbols = Symbols::of(&object, self.pid);
        let has_loop = belongs == Belongs::Interpreter;
        let rest_of_loop = has_loop.then(|| rest_of(EVALUATION_LOOP, &object, &symbols)).flatten();
        self.mapped.push(Mapped { file, object, symbols, belongs, rest_of_loop });
    }

    /// Forgets objects that are no longer where they were.
    fn forget_unmapped(&mut self, map: &MemoryMap) -> bool {
        let is_there = |mapped: &Mapped| {
            let Some(file) = mapped.file else { return true };
            let there = map.of(file).filter(|part| part.executable);
            there.map(|part| part.start.raw()..part.end.raw()).eq(mapped.object.ranges().iter().cloned())
        };
        let (kept, gone): (Vec<_>, Vec<_>) = self.mapped.drain(..).partition(is_there);
        self.mapped = kept;
        gone.iter().for_each(|gone| self.unwinder.remove(&gone.object));
        !gone.is_empty()
    }

    /// The functions at an address, innermost first; none when it lies in no code that is known.
    fn name(&mut self, address: u64) -> Rc<[NativeFrame]> {
        if let Some(named) = self.named.get(&address) {
            return Rc::clone(named);
        }
        let place = self.place(address);
        let named: Rc<[NativeFrame]> = match place {
            Some(place) => self.mapped[place].name(address).into(),
            None => {
                let generated = self.generated.name(LiveAddress::in_target(address));
                let frame = |name| NativeFrame { frame: Frame::native(name, GENERATED), role: Role::Other };
                generated.map(frame).into_iter().collect()
            }
        };
        if self.named.len() >= REMEMBERED {
            self.named.clear();
        }
        if place.is_none_or(|place| self.mapped[place].symbols.is_settled()) {
            self.named.insert(address, Rc::clone(&named));
        }
        named
    }
}

/// The object of code that the program has generated.
const GENERATED: &str = "generated code";

fn object_at(mapped: &[Mapped], address: u64) -> Option<&Mapped> {
    mapped.iter().find(|mapped| mapped.has(address))
}

impl Mapped {
    fn has(&self, address: u64) -> bool {
        self.object.ranges().iter().any(|range| range.contains(&address))
    }

    /// Where the function at an address begins, both as the target has them.
    fn function_start(&self, address: u64) -> Option<u64> {
        let start = self.symbols.function_start(address.wrapping_sub(self.object.bias()))?;
        Some(start.wrapping_add(self.object.bias()))
    }

    fn name(&mut self, address: u64) -> Vec<NativeFrame> {
        let stated = address.wrapping_sub(self.object.bias());
        let functions = self.symbols.at(stated);
        let path = self.object.path();
        if self.rest_of_loop.as_ref().is_some_and(|rest| rest.contains(&stated)) {
            return vec![NativeFrame { frame: Frame::native(EVALUATION_LOOP, path), role: Role::Loop }];
        }
        if functions.is_empty() {
            let start = self.symbols.function_start(stated).unwrap_or(stated);
            return vec![NativeFrame { frame: Frame::native(&format!("{start:#x}"), path), role: self.role("") }];
        }
        functions
            .iter()
            .filter(|function| self.is_told(function))
            .map(|function| NativeFrame { frame: Frame::native(&function.name, path), role: self.role(&function.name) })
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

/// What the kernel does, as a frame; `None` when that is not known.
pub fn kernel_frame(work: KernelWork) -> Option<Frame> {
    match work {
        KernelWork::Call(number) => {
            Some(name_of_call(number).map_or_else(|| Frame::kernel(&format!("call {number}")), Frame::kernel))
        }
        KernelWork::Fault => Some(Frame::kernel(PAGE_FAULT)),
        KernelWork::Stopped => Some(Frame::kernel("stopped")),
        KernelWork::Unknown => None,
    }
}
