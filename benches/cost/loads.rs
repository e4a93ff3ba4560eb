//! The programs that are watched. Each writes its figures to the file named first, so that no tool's words get among them.

/// Writes and reads one byte at a time: two release/acquire cycles a round, and hardly anything else. Writes nanoseconds a
/// cycle, on the clock and of the process's own CPU time, one line for every batch.
pub const PIPE: &str = "
import os, sys, time
reader, writer = os.pipe()
def batch(rounds=10000):
    clock, cpu = time.perf_counter_ns(), time.process_time_ns()
    for _ in range(rounds):
        os.write(writer, b'x')
        os.read(reader, 1)
    return [(now - then) / (2 * rounds) for now, then in
            ((time.perf_counter_ns(), clock), (time.process_time_ns(), cpu))]
batch()
with open(sys.argv[1], 'w') as out:
    for _ in range(int(sys.argv[2])):
        print(*batch(), file=out)
";

/// Threads that sleep mostly and wait for the lock now and then.
pub const MANY: &str = "
import sys, threading, time
def work():
    while True:
        sum(range(1000))
        time.sleep(0.01)
for _ in range(64): threading.Thread(target=work, daemon=True).start()
print('ready', flush=True)
sys.stdin.read()
";

/// Threads that work without end, and what is asked about them.
#[derive(Debug)]
pub struct Load {
    /// What it is.
    pub title: &'static str,
    /// How many there are.
    pub threads: &'static str,
    /// Of a module, the function `prepare`, which gives a thread the function that does one unit of work.
    pub work: &'static str,
}

/// Bytecode that keeps the lock as long as it may.
pub const COMPUTING: Load = Load {
    title: "8 computing threads",
    threads: "8",
    work: "
def prepare():
    def unit():
        total = 0
        for number in range(500):
            total += number * number
    return unit
",
};

/// C code that works without the lock.
pub const RELEASING: Load = Load {
    title: "8 threads in zlib, which releases",
    threads: "8",
    work: "
import zlib
text = b''.join(b'%d' % (number * number) for number in range(4000))
def prepare():
    return lambda: zlib.compress(text, 1)
",
};

/// Short holds, and always somebody who waits.
pub const CONTENDED: Load = Load {
    title: "4 contending threads, 2 cycles a unit",
    threads: "4",
    work: "
import os
def prepare():
    reader, writer = os.pipe()
    def unit():
        os.write(writer, b'x')
        os.read(reader, 1)
    return unit
",
};

impl Load {
    /// The whole program. Its arguments: the file for its figures (units a second, CPU seconds a unit), the number of threads,
    /// seconds before and while it counts.
    pub fn script(&self) -> String {
        format!("{}{}", self.work, COUNTING)
    }
}

const COUNTING: &str = "
import os, sys, threading, time
path, threads, before, window = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
done = [0] * threads
def run(number):
    unit = prepare()
    while True:
        unit()
        done[number] += 1
def look():
    return time.perf_counter(), time.process_time(), sum(done)
for number in range(threads): threading.Thread(target=run, args=(number,), daemon=True).start()
time.sleep(before)
then = look()
time.sleep(window)
clock, cpu, units = (late - early for late, early in zip(look(), then))
with open(path, 'w') as out: print(units / clock, cpu / units, file=out)
os._exit(0)
";
