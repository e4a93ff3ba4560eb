//! What tests of probes share: where to put them, whom to tell.

use std::{
    env, fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use gilscope::{
    model::{address::FileOffset, ids::Pid},
    source::{
        calls::{Call, Verdict},
        scheduler::Scope,
        uprobe::{UprobeOptions, sweep::Sweeper},
    },
    target::site::{CondFunction, Register, Site, SiteMeaning},
};
use object::{Object, ObjectSymbol};

pub fn signal_site(pid: Pid) -> Site {
    libc_site(pid, "pthread_cond_signal", CondFunction::Signal)
}

/// The place of a function in the libc of `pid`.
pub fn libc_site(pid: Pid, name: &str, function: CondFunction) -> Site {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let line = maps.lines().find(|line| line.contains("/libc.so") || line.contains("/libc-2")).unwrap();
    let file = PathBuf::from(&line[line.find('/').unwrap()..]);
    let bytes = fs::read(&file).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let all = elf.dynamic_symbols().filter(|symbol| symbol.name() == Ok(name));
    // The default version is the one that differs from the oldest; in glibc 2.36 it is the higher address.
    let address = all.map(|symbol| symbol.address()).max().unwrap();
    let meaning = SiteMeaning::Libc(function);
    // In glibc the text segment's addresses equal its file offsets.
    Site { file, offset: FileOffset::from_start(address), meaning, argument: Register::FIRST_ARGUMENT }
}

/// The sweeper for tests: this test program, running `cleanup::sweeper_entry` alone.
pub fn sweeper() -> Sweeper {
    let arguments = ["--exact", "cleanup::sweeper_entry"].map(Into::into).to_vec();
    Sweeper { program: env::current_exe().unwrap(), arguments }
}

pub type Calls = Arc<Mutex<Vec<Call>>>;

pub fn options(pid: Pid, sites: Vec<Site>, calls: &Calls) -> UprobeOptions {
    let calls = Arc::clone(calls);
    UprobeOptions {
        pid,
        scope: Scope::Running,
        sites,
        events: &[],
        on_call: Box::new(move |call, _| {
            calls.lock().unwrap().push(call);
            Verdict::Known
        }),
        on_step: Box::new(|_, _| Verdict::Foreign),
        sweeper: sweeper(),
        cost_per_event: None,
    }
}

/// Whether the kernel lists a probe of this group.
pub fn listed(group: &str) -> bool {
    let list = fs::read_to_string("/sys/kernel/tracing/uprobe_events").unwrap();
    list.lines().any(|line| line.starts_with(&format!("p:{group}/")))
}

pub const SIGNALS: &str = r"
import ctypes, os, sys, threading
libc = ctypes.CDLL(None)
cond = ctypes.create_string_buffer(48)
at = ctypes.addressof(cond)
def work():
    for _ in range(COUNT): libc.pthread_cond_signal(ctypes.c_void_p(at))
print(at); sys.stdin.readline()
threads = [threading.Thread(target=work) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
while len(os.listdir('/proc/self/task')) > 1: pass
print('done'); sys.stdin.readline()
";
