//! C programs that pass for an interpreter and do what no interpreter does.

use std::process::Command;

use crate::{
    live::outcome,
    recording::{Circumstances, record, record_under},
};

#[test]
fn signal_handlers_that_interrupt_the_probe_lose_nothing_silently() {
    let program = "
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
char _PyRuntime[8];
static char memory[512] __attribute__((aligned(64)));
static volatile long handled;
static void handler(int s) { pthread_cond_signal((void *)(memory + 256)); handled++; }
int main(void) {
    struct itimerval every = {{0, 50}, {0, 50}};
    signal(SIGALRM, handler);
    setitimer(ITIMER_REAL, &every, 0);
    for (long i = 0; i < 3000000; i++) pthread_cond_signal((void *)(memory + 32));
    every.it_value.tv_usec = 0;
    setitimer(ITIMER_REAL, &every, 0);
    printf(\"%ld\\n\", 3000000 + handled);
}";
    let Some(binary) = compile(program) else { return };
    let recording = record(Command::new(&binary));
    recording.assert_clean_success();
    let made: u64 = recording.stdout().parse().expect("a number");
    let seen = u64::try_from(recording.calls.len()).expect("a count");
    println!("  {made} calls, {seen} seen, {} lost", recording.lost);
    assert_eq!(seen + recording.lost, made);
}

#[test]
fn foreign_condition_variables_are_filtered_out_in_the_target() {
    let program = "
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
char _PyRuntime[8];
static char memory[4096] __attribute__((aligned(4096)));
int main(void) {
    for (int i = 0; i < 100; i++) {
        pthread_cond_signal((void *)(memory + 120));
        pthread_cond_signal((void *)(memory + 32));
        for (int k = 0; k < 1000; k++) pthread_cond_signal((void *)(memory + 1024));
        usleep(1000);
    }
}";
    let Some(binary) = compile(program) else { return };
    let circumstances = Circumstances { foreign: Some(1024), ..Circumstances::default() };
    let recording = record_under(Command::new(&binary), &circumstances);
    recording.assert_clean_success();
    assert_eq!(recording.lock().acquisitions(), 100);
    let foreign = recording.calls.len() - recording.lock().steps.len();
    println!("  {foreign} of 100000 foreign calls recorded");
    assert!(foreign > 0 && foreign < 90_000, "{foreign} of 100000 foreign calls recorded");
    assert!(foreign > 0);
}

#[test]
fn times_follow_the_lock_from_processor_to_processor() {
    let program = "
#include <pthread.h>
#include <sched.h>
char _PyRuntime[8];
static char memory[512] __attribute__((aligned(64)));
static volatile long turn, lock;
static void *work(void *me) {
    for (int i = 0; i < 50000; i++) {
        for (int spins = 0; turn != (long)me; spins++) if (spins > 2000) sched_yield();
        __sync_lock_test_and_set(&lock, 1);
        pthread_cond_signal((void *)(memory + 120));
        pthread_cond_signal((void *)(memory + 32));
        __sync_lock_release(&lock);
        turn = !(long)me;
    }
    return me;
}
int main(void) {
    pthread_t other;
    pthread_create(&other, 0, work, (void *)1);
    work(0);
    pthread_join(other, 0);
}";
    let Some(binary) = compile(program) else { return };
    let recording = record(Command::new(&binary));
    recording.assert_clean_success();
    assert_eq!(recording.lost, 0);
    let lock = recording.lock();
    println!("  {} acquisitions, {} by another thread", lock.acquisitions(), lock.changes());
    assert_eq!((lock.acquisitions(), lock.changes()), (100_000, 99_999));
    lock.assert_alternation();
}

#[test]
fn events_of_threads_beyond_the_slots_are_counted() {
    let program = "
#include <pthread.h>
#include <stdio.h>
char _PyRuntime[8];
static char memory[512] __attribute__((aligned(64)));
static pthread_barrier_t all;
static void *work(void *x) {
    pthread_cond_signal((void *)(memory + 32));
    pthread_barrier_wait(&all);
    pthread_cond_signal((void *)(memory + 32));
    return x;
}
int main(void) {
    static pthread_t threads[5000];
    pthread_attr_t small;
    int made = 0;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 32768);
    pthread_barrier_init(&all, 0, 5001);
    while (made < 5000) {
        if (pthread_create(&threads[made], &small, work, 0)) return 9;
        made++;
    }
    pthread_barrier_wait(&all);
    for (int i = 0; i < made; i++) pthread_join(threads[i], 0);
    puts(\"10000\");
}";
    let Some(binary) = compile(program) else { return };
    let recording = record(Command::new(&binary));
    if recording.output.status.code() == Some(9) {
        return outcome::skipped("events of threads beyond the slots: 5000 threads are not allowed here");
    }
    recording.assert_clean_success();
    println!("  {} seen, {} lost", recording.calls.len(), recording.lost);
    assert!(recording.lost >= 5000 - 4096 - 1);
    assert_eq!(u64::try_from(recording.calls.len()).expect("a count") + recording.lost, 10_000);
}

/// Compiles a C program that passes for an interpreter; `None` without a compiler.
pub fn compile(program: &str) -> Option<tempfile::TempPath> {
    let source = tempfile::Builder::new().suffix(".c").tempfile().expect("a temporary file");
    std::fs::write(source.path(), program).expect("the file can be written");
    let binary = tempfile::NamedTempFile::new().expect("a temporary file").into_temp_path();
    let compiler = Command::new("cc").args(["-O1", "-rdynamic", "-o"]).arg(&binary).arg(source.path()).status();
    let compiled = compiler.is_ok_and(|status| status.success());
    if !compiled {
        outcome::skipped("programs that pass for an interpreter: no C compiler");
    }
    compiled.then_some(binary)
}
