//! Native stacks of one process: followed by the objects' unwind tables, named, and told what they are to the script.
//!
//! What lies in no object, and has no name as generated code, ends a stack: past it everything would be guesswork.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::{
    model::{
        address::LiveAddress,
        ids::Pid,
        machine::{KernelWork, MachineState},
        stack::{Frame, PAGE_FAULT},
    },
    native::{
        call_site::{self, CallSite},
        mapped::{MappedObject, MappedObjects},
        merge::{Extent, NativeFrame, Role},
        symbols::jit::PerfMap,
        unwind::Unwinder,
    },
    target::parked::name_of_call,
};

/// Frames that are remembered, of all addresses together.
const REMEMBERED: usize = 1 << 16;
/// The object of code that the program has generated.
const GENERATED: &str = "generated code";
/// The work of the kernel at a uprobe, and the functions that gilscope puts them on.
const UPROBE: &str = "uprobe";
const PROBED: &str = "pthread_cond_";
/// What a `syscall` instruction is on x86-64; the next one is where a thread in the kernel goes on.
const SYSTEM_CALL: [u8; 2] = [0x0f, 0x05];

/// Reads native stacks of one process.
#[derive(Debug)]
pub struct NativeStacks {
    objects: MappedObjects,
    unwinder: Unwinder,
    generated: PerfMap,
    named: FxHashMap<u64, Rc<[NativeFrame]>>,
    /// Frames of all of these.
    remembered: usize,
    addresses: Vec<u64>,
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
            objects: MappedObjects::of(pid),
            unwinder: Unwinder::default(),
            generated: PerfMap::of(pid),
            named: FxHashMap::default(),
            remembered: 0,
            addresses: Vec::new(),
        }
    }

    /// The stack of a thread in this state.
    pub fn read(&mut self, state: &MachineState) -> NativeStack {
        if self.objects.at(state.registers.instruction).is_none() {
            self.refresh();
        }
        if self.objects.have_news() {
            self.forget_names();
        }
        let mut addresses = std::mem::take(&mut self.addresses);
        let mut extent = self.follow(state, &mut addresses);
        if extent == Extent::Cut
            && addresses.last().is_some_and(|last| self.objects.at(*last).is_none())
            && self.refresh()
        {
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
        let objects = &self.objects;
        let calls = |callee: u64, return_address: u64| {
            let code = objects.at(return_address)?.object.code_before(return_address, call_site::LONGEST)?;
            let callee = objects.at(callee)?.function_start(callee);
            let sites: Vec<CallSite> = call_site::before(code, return_address).collect();
            let direct = sites.iter().find(|site| callee.is_some_and(|callee| **site == CallSite::Direct(callee)));
            direct.or_else(|| sites.iter().find(|site| **site == CallSite::Indirect)).copied()
        };
        self.unwinder.follow(state, into, &calls)
    }

    fn refresh(&mut self) -> bool {
        let changed = self.objects.refresh(&mut self.unwinder);
        if changed {
            self.forget_names();
        }
        changed
    }

    fn forget_names(&mut self) {
        self.named.clear();
        self.remembered = 0;
    }

    /// In the kernel without a system call, a thread is there for a fault. Which call it is, the frame below tells where
    /// the number is not known.
    fn kernel_frame(&mut self, state: &MachineState) -> Option<Frame> {
        let at = state.registers.instruction;
        match state.kernel? {
            KernelWork::Unknown if self.is_probed(at) => Some(Frame::kernel(UPROBE)),
            KernelWork::Unknown => (self.code_before(at)? != SYSTEM_CALL).then(|| Frame::kernel(PAGE_FAULT)),
            known => kernel_frame(known),
        }
    }

    /// Whether gilscope's own probe may be here: at the first instruction of a call on a condition variable.
    fn is_probed(&mut self, address: u64) -> bool {
        let Some(mapped) = self.objects.at_mut(address) else { return false };
        let begins = mapped.function_start(address) == Some(address);
        begins && mapped.functions(address).last().is_some_and(|(name, _)| name.starts_with(PROBED))
    }

    /// The two bytes before `address`.
    fn code_before(&self, address: u64) -> Option<[u8; 2]> {
        self.objects.at(address)?.object.code_before(address, 2)?.first_chunk().copied()
    }

    /// The functions at an address, innermost first; none when it lies in no code that is known.
    fn name(&mut self, address: u64) -> Rc<[NativeFrame]> {
        if let Some(named) = self.named.get(&address) {
            return Rc::clone(named);
        }
        let Some(mapped) = self.objects.at_mut(address) else {
            // Not remembered: what is generated later may be there as well.
            let generated = self.generated.name(LiveAddress::in_target(address));
            let frame = |name| NativeFrame { frame: Frame::native(name, GENERATED), role: Role::Other };
            return generated.map(frame).into_iter().collect();
        };
        let named = named(mapped, address);
        if self.remembered >= REMEMBERED {
            self.forget_names();
        }
        self.remembered += named.len().max(1);
        self.named.insert(address, Rc::clone(&named));
        named
    }
}

fn named(mapped: &mut MappedObject, address: u64) -> Rc<[NativeFrame]> {
    let functions = mapped.functions(address);
    let path = mapped.object.path();
    functions.iter().map(|(name, role)| NativeFrame { frame: Frame::native(name, path), role: *role }).collect()
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
