//! Threads that open events for themselves, in real processes.

use std::{collections::BTreeMap, process::Command, time::Duration};

use gilscope::{
    model::{
        counts::{Counter, Slot},
        event::What,
        family::Reach,
        ids::Tid,
    },
    perf::{events::CountedEvent, user_reads::user_reads_work},
};

use crate::{
    live::outcome,
    program::compile,
    recording::{Circumstances, Recording, record_under},
};

/// Tells how many pages of events it has, of its first thread and at most while a thousand threads come and go, with how many more
/// files it has than before; what a forked child says; and with a word, whether the pages go when the recording is over.
const PAGES: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
char _PyRuntime[8];
static char memory[512] __attribute__((aligned(64)));
static int step(void) { return pthread_cond_signal((void *)(memory + 32)); }
/* Pages of events that this process has mapped. */
static int pages(void) {
    char line[512];
    int count = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps)) count += strstr(line, "[perf_event]") != 0;
    fclose(maps);
    return count;
}
static int files(void) {
    int count = 0;
    DIR *all = opendir("/proc/self/fd");
    while (readdir(all)) count++;
    closedir(all);
    return count;
}
static void *work(void *wanted) {
    errno = 77;
    step();
    if (errno != 77) puts("errno changed");
    step();
    return wanted;
}
static void threads(int count) {
    pthread_t each[64];
    for (int i = 0; i < count; i++) pthread_create(&each[i], 0, work, 0);
    for (int i = 0; i < count; i++) pthread_join(each[i], 0);
}
int main(int count, char **words) {
    int before = files();
    step();
    if (count > 1) {
        int had = pages(), left = had;
        for (int i = 0; i < 5000 && left; i++, left = pages()) step(), usleep(1000);
        printf("%d %d\n", had, left);
        return 0;
    }
    printf("%d %d\n", pages(), files() - before);
    int most = 0;
    for (int i = 0; i < 50; i++) {
        threads(20);
        usleep(30000);
        if (pages() > most) most = pages();
    }
    printf("%d %d\n", most, files() - before);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int left = pages();
        step();
        _exit(left + pages());
    }
    int status;
    waitpid(child, &status, 0);
    printf("%d\n", status);
    struct rlimit few = {3, 3};
    setrlimit(RLIMIT_NOFILE, &few);
    threads(1);
    return 0;
}"#;

/// A thread computes, 2 000 000 instructions after each of its calls.
const LOOP: &str = r#"
#include <pthread.h>
char _PyRuntime[8];
static char memory[512] __attribute__((aligned(64)));
static void compute(void) {
    long left = 1000000;
    __asm__ volatile("1: dec %0; jnz 1b" : "+r"(left));
}
int main(void) {
    for (int i = 0; i < 50; i++) {
        pthread_cond_signal((void *)(memory + 120));
        compute();
        pthread_cond_signal((void *)(memory + 32));
        compute();
    }
    return 0;
}"#;

/// Events of the kernel have pages like all others, but no counter of a processor that a program could read.
fn unreadable() -> [CountedEvent; 2] {
    ["cpu-clock:u", "alignment-faults:u"].map(|name| CountedEvent::named(name).expect("the kernel counts it"))
}

/// Of how many threads it was told so often that their counters say nothing.
fn unmeasured(recording: &Recording) -> BTreeMap<Tid, usize> {
    let mut threads = BTreeMap::new();
    for event in &recording.events {
        match event.what {
            What::Unmeasured(counters) => {
                assert_eq!(counters.iter().count(), 2);
                *threads.entry(event.tid).or_default() += 1;
            }
            What::Measured(..) => panic!("nothing can be read: {event:?}"),
            _ => {}
        }
    }
    threads
}

#[test]
fn pages_come_and_go_with_threads_and_leave_nothing_behind() {
    let Some(binary) = compile(PAGES) else { return };
    let measured = unreadable();
    let recording =
        record_under(Command::new(&binary), &Circumstances { measured: &measured, ..Circumstances::default() });
    recording.assert_clean_success();
    let said = recording.stdout();
    let numbers: Vec<i32> = said.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    let [first, files, most, later_files, child] = numbers[..] else { panic!("{said}") };
    println!("  {first} pages of one thread, {most} at most with 1000 that came and went in twenties");
    assert_eq!((first, files, later_files, child), (2, 0, 0, 0));
    // Room of threads that have ended is given back within some hundredths of a second.
    assert!((2 * 20..2 * 300).contains(&most), "{most}");
    let unmeasured = unmeasured(&recording);
    // Numbers of threads may be given again, but seldom so soon. The last one was allowed no file to open anything with.
    assert!(unmeasured.len() > 900 && unmeasured.values().all(|times| *times == 1), "{unmeasured:?}");
    assert_eq!(recording.lost, 0);
}

/// None of its parent's, since those are not its own.
#[test]
fn a_forked_process_that_records_opens_pages_of_its_own() {
    let Some(binary) = compile(PAGES) else { return };
    let (measured, reach) = (unreadable(), Some(Reach::Descendants));
    let circumstances = Circumstances { measured: &measured, reach, ..Circumstances::default() };
    let recording = record_under(Command::new(&binary), &circumstances);
    recording.assert_clean_success();
    let said = recording.stdout();
    // It has none before its first call and two after that, and says so by its exit code.
    assert_eq!(said.lines().next_back(), Some("512"), "{said}");
}

#[test]
fn pages_go_when_the_recording_is_over() {
    let Some(binary) = compile(PAGES) else { return };
    let measured = unreadable();
    let window = Some(Duration::from_millis(200));
    let mut command = Command::new(&binary);
    command.arg("wait");
    let recording = record_under(command, &Circumstances { measured: &measured, window, ..Circumstances::default() });
    recording.assert_clean_success();
    assert_eq!(recording.stdout(), "2 0");
}

#[test]
fn instructions_are_counted_between_the_calls_where_a_processor_lets_programs_read_them() {
    let measured = [CountedEvent::named("instructions:u").expect("perf's name")];
    if let Err(why) = user_reads_work(&measured) {
        return outcome::skipped(&format!("instructions between calls: {why}"));
    }
    let Some(binary) = compile(LOOP) else { return };
    let recording =
        record_under(Command::new(&binary), &Circumstances { measured: &measured, ..Circumstances::default() });
    recording.assert_clean_success();
    let slot = Counter::Measured(Slot::at(0).expect("there is a first"));
    let counts: Vec<u64> = recording.events.iter().filter_map(|event| instructions(&event.what, slot)).collect();
    println!("  {} readings, the first {:?}", counts.len(), &counts[..counts.len().min(4)]);
    // One at each call; that of the first tells what came before, and the last is made as the process ends.
    assert!((100..=101).contains(&counts.len()), "{counts:?}");
    assert!(counts[1..100].iter().all(|count| (2_000_000..2_020_000).contains(count)), "{counts:?}");
}

fn instructions(what: &What, slot: Counter) -> Option<u64> {
    match what {
        What::Measured(measures, _) => Some(measures.0[0]),
        What::Unmeasured(counters) => panic!("{} of {counters:?} are unknown", usize::from(counters.has(slot))),
        _ => None,
    }
}
