//! Who waited for whom, as a table of waiters × holders that fits the terminal.

use crate::{
    model::{
        ids::Tid,
        profile::{LockProfile, Profile},
        time::Nanos,
    },
    report::{
        matrix::Matrix,
        names::{ThreadNames, clean},
        text::table::{Lean, titled},
    },
};

/// Threads named at the most; the others are summed up.
const MOST: usize = 8;
/// Longer names are cut.
const NAME: usize = 9;
/// With fewer pairs the list of pairs says it all.
const FEWEST_PAIRS: usize = 3;

/// One matrix a lock that more than a few pairs of threads contended for.
pub(super) fn section(profile: &Profile, names: &ThreadNames<'_>, width: u16) -> String {
    let of_lock = |lock: &LockProfile| {
        if Matrix::of(profile, lock.id, MOST).pairs() < FEWEST_PAIRS {
            return None;
        }
        let mut sizes = (1..=MOST).rev().map(|most| Table::of(&Matrix::of(profile, lock.id, most), names));
        let table = sizes.find(|table| table.width() <= usize::from(width))?;
        Some(table.drawn(&heading(lock, profile), width))
    };
    profile.locks.iter().filter_map(of_lock).collect::<Vec<_>>().join("\n\n")
}

fn heading(lock: &LockProfile, profile: &Profile) -> String {
    let which = if profile.locks.len() > 1 { format!(" ({})", clean(&lock.name)) } else { String::new() };
    format!("Who waited for whom{which}: rows waited, columns held the lock meanwhile")
}

/// The matrix in words.
struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn of(matrix: &Matrix, names: &ThreadNames<'_>) -> Self {
        let columns = matrix.holders.iter().map(|holder| names.short(*holder, NAME, "\n"));
        let header = std::iter::once("waiter".to_owned()).chain(columns).chain(["all".to_owned()]);
        let row = |(index, waiter): (usize, Option<Tid>)| {
            let name = names.short(waiter, NAME, " ");
            let cells = matrix.wait[index].iter().map(|wait| cell(*wait));
            std::iter::once(name).chain(cells).chain([cell(matrix.of_row(index))]).collect()
        };
        let mut rows: Vec<Vec<String>> = matrix.waiters.iter().copied().enumerate().map(row).collect();
        let sums: Vec<Nanos> = (0..matrix.holders.len()).map(|column| matrix.of_column(column)).collect();
        let all = sums.iter().copied().sum();
        rows.push(std::iter::once("all".to_owned()).chain(sums.into_iter().chain([all]).map(cell)).collect());
        Self { header: header.collect(), rows }
    }

    fn width(&self) -> usize {
        let lines = |column: usize| {
            let cells = self.rows.iter().map(move |row| &row[column]);
            cells.chain([&self.header[column]]).flat_map(|cell| cell.lines()).map(|line| line.chars().count())
        };
        (0..self.header.len()).map(|column| lines(column).max().unwrap_or(0) + 3).sum::<usize>() + 1
    }

    fn drawn(self, heading: &str, width: u16) -> String {
        let lean = |column| if column == 0 { Lean::Left } else { Lean::Right };
        let columns: Vec<_> = self.header.iter().enumerate().map(|(at, name)| (name.as_str(), lean(at))).collect();
        titled(heading, &columns, self.rows, width)
    }
}

fn cell(wait: Nanos) -> String {
    if wait == Nanos::ZERO { "·".to_owned() } else { wait.to_string() }
}
