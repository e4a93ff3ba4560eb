//! Discovery against real interpreters.
use gilscope::{
    model::ids::Pid,
    target::{discover::Target, memory::ProcessMemory},
};
#[test]
fn probe() {
    let pid = Pid::from_raw(std::env::var("PROBE_PID").unwrap().parse().unwrap()).unwrap();
    let target = Target::discover(pid).unwrap();
    let memory = ProcessMemory::open(pid).unwrap();
    println!("{target:?}\n{:?}\n{:?}", target.locks(&memory), target.threads(&memory));
}
