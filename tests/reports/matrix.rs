//! Who waited for whom, of few threads and of many: the cells sum to the blame, and the table fits its width.

use gilscope::{
    model::{
        profile::{Blame, Profile},
        time::Nanos,
    },
    report::{Format, Report, text::Text, view::View},
};
use serde_json::Value;

use crate::{render_only, support};

/// Blame of `threads` threads that all wait for each other, more of it for the later ones.
fn everybody_waits_for_everybody(threads: i32) -> Profile {
    let mut profile = support::shop();
    let model = profile.blame[0];
    let pairs = (1..=threads).flat_map(|waiter| (1..=threads).map(move |holder| (waiter, holder)));
    let charge = |(waiter, holder): (i32, i32)| {
        let wait = Nanos::from_nanos(u64::try_from(1_000 * waiter + holder).unwrap());
        Blame { waiter: Some(support::tid(waiter)), holder: Some(support::tid(holder)), wait, ..model }
    };
    profile.blame = pairs.filter(|(waiter, holder)| waiter != holder).map(charge).collect();
    profile.blame.push(Blame { waiter: None, ..model });
    profile
}

#[test]
fn the_matrix_sums_to_the_blame_however_much_of_it_is_summed_up() {
    for threads in [1, 3, 64, 70] {
        let profile = everybody_waits_for_everybody(threads);
        let json: Value = serde_json::from_str(&render_only(&profile, Format::Json, View::All)).unwrap();
        let matrix = &json["matrix"][0];
        let list = |name: &str| matrix[name].as_array().unwrap().clone();
        let (waiters, holders, cells) = (list("waiters"), list("holders"), list("wait_ns"));
        assert!(waiters.len() <= 65 && waiters.last() == Some(&Value::Null), "{threads}");
        let cell = |row: usize, column: usize| cells[row][column].as_u64().unwrap();
        let whole = |of: &dyn Fn(&Blame) -> bool| -> u64 {
            profile.blame.iter().filter(|blame| of(blame)).map(|blame| blame.wait.as_nanos()).sum()
        };
        let all: u64 =
            (0..waiters.len()).flat_map(|r| (0..holders.len()).map(move |c| (r, c))).map(|(r, c)| cell(r, c)).sum();
        assert_eq!(all, whole(&|_| true), "{threads}");
        for (row, waiter) in waiters.iter().enumerate().filter(|(_, waiter)| !waiter.is_null()) {
            let sum: u64 = (0..holders.len()).map(|column| cell(row, column)).sum();
            let tid = i32::try_from(waiter.as_i64().unwrap()).unwrap();
            assert_eq!(sum, whole(&|blame| blame.waiter == Some(support::tid(tid))), "waiter {tid} of {threads}");
        }
        for (column, holder) in holders.iter().enumerate().filter(|(_, holder)| !holder.is_null()) {
            let sum: u64 = (0..waiters.len()).map(|row| cell(row, column)).sum();
            let tid = i32::try_from(holder.as_i64().unwrap()).unwrap();
            assert_eq!(sum, whole(&|blame| blame.holder == Some(support::tid(tid))), "holder {tid} of {threads}");
        }
    }
}

#[test]
fn the_matrix_of_the_summary_fits_its_width() {
    let profile = everybody_waits_for_everybody(70);
    for width in [60, 80, 100, 200] {
        let mut bytes = Vec::new();
        Text::fitting(width).write(&profile, &mut bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let matrix = text.split("Who waited for whom").nth(1).unwrap().split("\n\n").next().unwrap();
        let widest = matrix.lines().skip(1).map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= usize::from(width) && widest > usize::from(width.min(120)) - 16, "{widest}:\n{matrix}");
        assert!(matrix.contains("others"), "{matrix}");
    }
}
