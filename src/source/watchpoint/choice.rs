//! Which of a program's locks are watched, and how much of each: a processor can watch four words. Pure.

use crate::{
    model::ids::LockId,
    source::watchpoint::writes::{LockWord, Role},
    target::lock::LockSeat,
};

/// How many locks can be watched at a time, with two words each.
const MOST_LOCKS: usize = 2;

/// How much of each lock is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coverage {
    /// Acquisitions, releases, waits, and how one gives way.
    Whole,
    /// All but how one gives way.
    WithoutYields,
}

impl Coverage {
    const fn roles(self) -> &'static [Role] {
        match self {
            Self::Whole => &[Role::Locked, Role::Waits, Role::Yields],
            Self::WithoutYields => &[Role::Locked, Role::Waits],
        }
    }
}

/// Some locks and how much of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Which, by their places in the list that was chosen from.
    pub locks: Vec<usize>,
    /// How much of each.
    pub coverage: Coverage,
}

/// What can be watched of `live` locks, best first; the later ones need fewer words, for when others have some. Locks that are
/// `watched` already stay.
pub fn choices(live: &[LockSeat], watched: &[LockSeat]) -> Vec<Choice> {
    let is_watched = |place: &usize| watched.iter().any(|seat| seat.address == live[*place].address);
    let (kept, new): (Vec<usize>, Vec<usize>) = (0..live.len()).partition(is_watched);
    let all: Vec<usize> = kept.into_iter().chain(new).take(MOST_LOCKS).collect();
    let one = all[..all.len().min(1)].to_vec();
    let choice = |locks: &[usize], coverage| Choice { locks: locks.to_vec(), coverage };
    match all.len() {
        0 => Vec::new(),
        1 => [Coverage::Whole, Coverage::WithoutYields].map(|coverage| choice(&one, coverage)).into(),
        _ => vec![
            choice(&all, Coverage::WithoutYields),
            choice(&one, Coverage::Whole),
            choice(&one, Coverage::WithoutYields),
        ],
    }
}

/// The words by which a lock is watched.
pub fn words(lock: LockId, seat: &LockSeat, coverage: Coverage) -> impl Iterator<Item = LockWord> {
    coverage.roles().iter().map(move |role| {
        let address = match role {
            Role::Locked => seat.address.plus(seat.layout.locked),
            Role::Waits => seat.cond(),
            Role::Yields => seat.switch_cond(),
        };
        LockWord { lock, role: *role, address }
    })
}

#[cfg(test)]
mod tests {
    use super::{Coverage, choices, words};
    use crate::{
        model::{address::LiveAddress, ids::LockId},
        source::watchpoint::writes::Role,
        target::lock::{LockLayout, LockSeat},
    };

    fn seat(address: u64) -> LockSeat {
        let address = LiveAddress::in_target(address);
        LockSeat { address, layout: LockLayout::DEFAULT, interpreter: None, name: "GIL".to_owned() }
    }

    fn chosen(live: &[u64], watched: &[u64]) -> Vec<(Vec<usize>, Coverage)> {
        let seats = |addresses: &[u64]| addresses.iter().map(|address| seat(*address)).collect::<Vec<_>>();
        let choices = choices(&seats(live), &seats(watched));
        choices.into_iter().map(|choice| (choice.locks, choice.coverage)).collect()
    }

    #[test]
    fn one_lock_is_watched_whole_and_two_by_halves() {
        use Coverage::{Whole, WithoutYields};
        assert_eq!(chosen(&[], &[]), []);
        assert_eq!(chosen(&[1], &[]), [(vec![0], Whole), (vec![0], WithoutYields)]);
        let two = [(vec![0, 1], WithoutYields), (vec![0], Whole), (vec![0], WithoutYields)];
        assert_eq!(chosen(&[1, 2], &[]), two);
        assert_eq!(chosen(&[1, 2, 3], &[]), two);
    }

    #[test]
    fn what_is_watched_stays_watched() {
        assert_eq!(chosen(&[1, 2, 3, 4], &[4, 2])[0].0, [1, 3]);
        assert_eq!(chosen(&[1, 2, 3], &[9, 3])[0].0, [2, 0]);
    }

    #[test]
    fn the_words_are_those_of_cpython() {
        let seat = seat(0x1000);
        let found = words(LockId::from_index(0), &seat, Coverage::Whole);
        let found: Vec<_> = found.map(|word| (word.role, word.address.raw())).collect();
        assert_eq!(found, [(Role::Locked, 0x1010), (Role::Waits, 0x1020), (Role::Yields, 0x1078)]);
    }
}
