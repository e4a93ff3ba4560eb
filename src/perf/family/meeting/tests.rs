//! Old and new groups with counters made up: nothing is lost, nothing counts twice, and each began between its readings.

use std::collections::VecDeque;

use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

use super::{GroupEnd, Meeting, begun, read_together};
use crate::{
    model::ids::Tid,
    perf::{
        lineage::{Lineage, RootId},
        reading::GroupReading,
    },
};

fn tid(raw: i32) -> Tid {
    Tid::from_raw(raw).unwrap()
}

fn reading(value: u64, enabled: u64) -> GroupReading {
    let mut reading = GroupReading { enabled, running: enabled, count: 1, ..GroupReading::default() };
    reading.values[0] = value;
    reading
}

fn roots() -> [RootId; 2] {
    let mut lineage = Lineage::default();
    [lineage.begin_root(), lineage.begin_root()]
}

fn end(root: RootId, place: usize, said: GroupReading) -> GroupEnd {
    GroupEnd { root, place, said }
}

#[test]
fn what_both_have_counted_is_what_the_old_one_has_since() {
    let [root, other] = roots();
    let meeting = |place, old, new| Meeting { root, place, old, new: vec![(tid(1), new)] };
    // On its CPU the thread went on for long, and then the old group was stopped; on the other one it did not run.
    let meetings = [meeting(0, reading(1000, 50), reading(3, 4)), meeting(1, reading(70, 9), reading(0, 0))];
    let ends = [end(root, 0, reading(1900, 95)), end(root, 1, reading(70, 9)), end(other, 0, reading(7, 7))];
    let later = vec![(tid(1), 0, reading(1203, 64)), (tid(1), 1, reading(0, 0)), (tid(2), 0, reading(5, 5))];
    let begun = begun(&meetings, &ends, later);
    // A thread that no old group had begins with what its group says.
    assert_eq!(begun, [(tid(1), 0, reading(903, 49)), (tid(1), 1, reading(0, 0)), (tid(2), 0, reading(5, 5))]);
}

#[test]
fn descendants_share_by_what_they_have_counted_since() {
    let [root, _] = roots();
    let new = vec![(tid(1), reading(10, 0)), (tid(2), reading(0, 0)), (tid(3), reading(6, 0))];
    let meetings = [Meeting { root, place: 0, old: reading(0, 0), new }];
    let later = vec![(tid(1), 0, reading(40, 0)), (tid(2), 0, reading(10, 0)), (tid(3), 0, reading(6, 0))];
    let begun = begun(&meetings, &[end(root, 0, reading(20, 0))], later);
    assert_eq!(begun.iter().map(|(.., said)| said.values[0]).collect::<Vec<_>>(), [25, 5, 6]);
}

/// The clock of a group that goes whenever its thread runs goes by what the thread has run, on whatever CPU.
#[test]
fn each_clock_goes_by_its_own_thread() {
    let [root, _] = roots();
    let clocks = |enabled, running| GroupReading { running, ..reading(0, enabled) };
    // Before the old group was stopped the first thread ran 5 on CPU 0; after it the second ran 5 on CPU 1.
    let met =
        |place| Meeting { root, place, old: clocks(0, 0), new: vec![(tid(1), clocks(0, 0)), (tid(2), clocks(0, 0))] };
    let ends = [end(root, 0, clocks(5, 5)), end(root, 1, clocks(5, 0))];
    let later = vec![
        (tid(1), 0, clocks(5, 5)),
        (tid(2), 0, clocks(5, 0)),
        (tid(1), 1, clocks(5, 0)),
        (tid(2), 1, clocks(5, 5)),
    ];
    let begun = begun(&[met(0), met(1)], &ends, later);
    let clocks: Vec<(u64, u64)> = begun.iter().map(|(.., said)| (said.enabled, said.running)).collect();
    assert_eq!(clocks, [(5, 5), (0, 0), (5, 0), (0, 0)]);
}

#[test]
fn readings_are_repeated_until_nothing_came_between() {
    let mut olds = VecDeque::from([5, 9, 9, 30].map(|value| reading(value, 0)));
    let mut news = 0..;
    let together = read_together(|| olds.pop_front(), || news.next());
    assert_eq!(together, Some((reading(9, 0), Some(1))));
    // Where something always does, the least doubtful one counts.
    let mut olds = VecDeque::from([0, 100, 104, 200].map(|value| reading(value, 0)));
    let mut news = 0..;
    assert_eq!(read_together(|| olds.pop_front(), || news.next()), Some((reading(102, 0), Some(1))));
    assert_eq!(read_together(|| None, || ()), None);
}

proptest! {
    /// Whatever one thread counts before the old group is stopped, and after it, until the new one is read: nothing is missing, and
    /// nothing counts twice.
    #[test]
    fn nothing_is_lost_and_nothing_counts_twice(old in 0_u64..1 << 40, new in 0_u64..1 << 40, both in 0_u64..1 << 30, more in 0_u64..1 << 30) {
        let [root, _] = roots();
        let meetings = [Meeting { root, place: 0, old: reading(old, 0), new: vec![(tid(1), reading(new, 0))] }];
        let later = vec![(tid(1), 0, reading(new + both + more, 0))];
        let begun = begun(&meetings, &[end(root, 0, reading(old + both, 0))], later);
        prop_assert_eq!(begun[0].2.values[0], new + both);
    }

    /// Nor does any input lead out of what the new group has said.
    #[test]
    fn it_began_between_its_readings(numbers in proptest::collection::vec(proptest::num::u64::ANY, 6)) {
        let [root, _] = roots();
        let numbers: [u64; 6] = numbers.try_into().unwrap();
        let new = vec![(tid(1), reading(numbers[0], 0)), (tid(2), reading(numbers[1], 0))];
        let meetings = [Meeting { root, place: 0, old: reading(numbers[2], 0), new }];
        let later = vec![(tid(1), 0, reading(numbers[3], 0)), (tid(2), 0, reading(numbers[4], 0))];
        for ((.., said), (before, later)) in begun(&meetings, &[end(root, 0, reading(numbers[5], 0))], later).into_iter().zip([(0, 3), (1, 4)]) {
            prop_assert!((numbers[before]..=numbers[later].max(numbers[before])).contains(&said.values[0]));
        }
    }
}
