//! The programs on our own calls of libc, with a lock of which they know nothing but its two condition variables.

use std::{fs, thread};

use super::{OBJECT, Programs};
use crate::{
    bpf::{image::Image, map::Existing, ring::Ring},
    model::{
        address::LiveAddress,
        ids::{Pid, Tid},
    },
    source::uprobe::cost::{BATCHES, CALLS, fastest_batch_on, own_signal_site},
    target::lock::{LockLayout, LockSeat},
};

/// A signal of the first is a release, of the second an acquisition.
type Conds = [libc::pthread_cond_t; 2];
const RELEASED: usize = 0;
const ACQUIRED: usize = 1;

fn seat_of(conds: &Conds) -> LockSeat {
    let layout =
        LockLayout { cond: 8, switch_cond: 8 + size_of::<libc::pthread_cond_t>() as u64, ..LockLayout::DEFAULT };
    let address = LiveAddress::in_target(conds.as_ptr() as u64 - layout.cond);
    LockSeat { address, layout, interpreter: None, name: "GIL".to_owned() }
}

fn our_tid() -> Tid {
    let link = fs::read_link("/proc/thread-self").unwrap();
    Tid::from_raw(link.file_name().unwrap().to_str().unwrap().parse().unwrap()).unwrap()
}

/// What a book says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    waiters: u64,
    is_held: bool,
    holder: u64,
}

fn read_book(programs: &Programs) -> Said {
    let book = programs.loaded.map("books").unwrap().get(&[0; 4]).unwrap().unwrap();
    let words: Vec<u64> = book.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect();
    Said { waiters: words[0], is_held: words[1] != 0, holder: words[4] }
}

/// Somebody waits, for good.
fn enter_waiter(programs: &Programs) {
    let books = programs.loaded.map("books").unwrap();
    let mut book = books.get(&[0; 4]).unwrap().unwrap();
    book[..8].copy_from_slice(&1_u64.to_ne_bytes());
    books.set(&[0; 4], &book, Existing::Replace).unwrap();
}

/// With room for so many threads; `None`, said aloud, where the kernel takes no programs.
fn with_room(threads: u32) -> Option<(Programs, Ring)> {
    let mut image = Image::parse(OBJECT).unwrap();
    image.maps.iter_mut().find(|map| map.name == "threads").unwrap().entries = threads;
    Programs::of(&image).map_err(|why| eprintln!("skipped: {why}")).ok()
}

fn watch_us(programs: &mut Programs) {
    programs.watch(&[own_signal_site().unwrap()], Pid::from_raw(std::process::id().cast_signed()).unwrap()).unwrap();
}

#[test]
fn a_thread_that_finds_no_room_leaves_no_wrong_holder_behind() {
    let Some((mut programs, _ring)) = with_room(1) else { return };
    let mut conds = Box::new([libc::PTHREAD_COND_INITIALIZER; 2]);
    programs.enter_locks(&[seat_of(&conds)]).unwrap();
    watch_us(&mut programs);
    enter_waiter(&programs);
    let mut steps = |step: usize| fastest_batch_on(&mut conds[step]);
    // The only one for which there is room.
    let first = u64::try_from(our_tid().raw()).unwrap();
    let by_first = Said { waiters: 1, is_held: true, holder: first };
    steps(ACQUIRED);
    assert_eq!(read_book(&programs), by_first);
    let mut steps_of_another = |step| thread::scope(|scope| scope.spawn(|| steps(step)).join().unwrap());
    // A waiter passes on a signal that it has not used.
    steps_of_another(RELEASED);
    assert_eq!(read_book(&programs), by_first);
    steps_of_another(ACQUIRED);
    assert_eq!(read_book(&programs), Said { holder: 0, ..by_first });
    steps_of_another(RELEASED);
    assert_eq!(read_book(&programs), Said { holder: 0, is_held: false, ..by_first });
    steps(ACQUIRED);
    assert_eq!(read_book(&programs), by_first);
}

#[test]
fn places_to_which_nobody_has_returned_yet_are_hit_once_after_that() {
    let Some((mut programs, mut ring)) = with_room(1) else { return };
    let mut cond = Box::new(libc::PTHREAD_COND_INITIALIZER);
    let address = std::ptr::from_ref(&*cond) as u64;
    let mut hits = || {
        fastest_batch_on(&mut cond);
        let mut hits = 0;
        ring.read(|record| hits += u32::from(record[16..24] == address.to_ne_bytes()));
        hits
    };
    programs.leave_sites();
    watch_us(&mut programs);
    assert_eq!(hits(), 0);
    for _ in 0..2 {
        programs.return_to_sites(&[]).unwrap();
    }
    assert_eq!(hits(), BATCHES * CALLS);
}
