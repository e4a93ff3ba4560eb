//! What the counters of a group say, as the kernel puts it into samples and gives it to who reads the group.
//!
//! A group's first event tells of switches alone; behind it come those that are counted, in the order in which they were opened,
//! and then those that only make records. Invariant: any bytes are survived.

use crate::{model::counts::Slot, perf::fields::u64_at};

/// What a group's counters have counted of one thread on one CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupReading {
    /// For how long they were to count, in nanoseconds of the thread's time on whatever CPU; zero where that is not told.
    pub enabled: u64,
    /// For how long they did.
    pub running: u64,
    /// By their places; no more of them are there than `count`.
    pub values: [u64; Slot::COUNT],
    /// How many events of the group stand behind the first, at most as many as there are places.
    pub count: usize,
    /// How many events the group has.
    pub events: usize,
    /// Records that all its events have lost; zero where that is not told.
    pub lost: u64,
}

impl GroupReading {
    /// What it said when this share of the time between two readings had passed.
    pub(super) fn on_the_way_to(&self, later: &Self, share: f64) -> Self {
        self.zip(later, |before, after| before.saturating_add(part(after.saturating_sub(before), share)))
    }

    /// What it has counted since an earlier reading.
    pub(super) fn beyond(&self, earlier: &Self) -> Self {
        self.zip(earlier, u64::saturating_sub)
    }

    /// Its numbers joined with those of another reading of the same events.
    pub(super) fn zip(&self, other: &Self, join: impl Fn(u64, u64) -> u64) -> Self {
        let mut joined = *self;
        joined.enabled = join(self.enabled, other.enabled);
        joined.running = join(self.running, other.running);
        joined.values.iter_mut().zip(other.values).for_each(|(own, other)| *own = join(*own, other));
        joined
    }

    /// And what another group of the same events has counted.
    pub(super) fn add(&mut self, other: &Self) {
        let (count, lost) = (self.count.min(other.count), self.lost.saturating_add(other.lost));
        *self = Self { count, lost, ..self.zip(other, u64::saturating_add) };
    }
}

/// How a group's values are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadFormat {
    /// One number each.
    Values,
    /// The same behind the group's two times.
    TimesAndValues,
    /// Behind the two times, and behind each number how many records its event has lost.
    TimesValuesAndLosses,
}

impl ReadFormat {
    /// Words in front of all values, and of each.
    const fn words(self) -> (usize, usize) {
        match self {
            Self::Values => (1, 1),
            Self::TimesAndValues => (3, 1),
            Self::TimesValuesAndLosses => (3, 2),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the share is no better known"
)]
fn part(whole: u64, share: f64) -> u64 {
    (whole as f64 * share.clamp(0.0, 1.0)) as u64
}

/// The number of events, the times, and the values; then whatever follows them. `None` when the bytes end before.
pub(super) fn decode(bytes: &[u8], format: ReadFormat) -> Option<(GroupReading, &[u8])> {
    let (in_front, each) = format.words();
    let events = usize::try_from(u64_at(bytes, 0)?).ok()?;
    let length = events.checked_mul(each)?.checked_mul(8)?;
    let (values, rest) = bytes.get(8 * in_front..)?.split_at_checked(length)?;
    let mut reading = GroupReading { events, ..GroupReading::default() };
    if format != ReadFormat::Values {
        (reading.enabled, reading.running) = (u64_at(bytes, 8)?, u64_at(bytes, 16)?);
    }
    for (index, words) in values.chunks_exact(8 * each).enumerate() {
        reading.lost = reading.lost.saturating_add(u64_at(words, 8).unwrap_or(0));
        if let Some(value) = index.checked_sub(1).and_then(|place| reading.values.get_mut(place)) {
            *value = u64_at(words, 0)?;
            reading.count = index;
        }
    }
    Some((reading, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, proptest};

    use super::{GroupReading, ReadFormat, decode};

    fn bytes(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn reading(values: &[u64], lost: u64) -> GroupReading {
        let mut reading = GroupReading { enabled: 50, running: 40, count: values.len(), lost, ..Default::default() };
        reading.events = values.len() + 1;
        reading.values[..values.len()].copy_from_slice(values);
        reading
    }

    #[test]
    fn the_first_event_is_passed_over() {
        let all = bytes(&[3, 50, 40, 9, 11, 22, 77]);
        assert_eq!(decode(&all, ReadFormat::TimesAndValues), Some((reading(&[11, 22], 0), &all[48..])));
        let plain = bytes(&[2, 9, 11, 22]);
        let untimed = GroupReading { enabled: 0, running: 0, ..reading(&[11], 0) };
        assert_eq!(decode(&plain, ReadFormat::Values), Some((untimed, &plain[24..])));
        let all = bytes(&[3, 50, 40, 9, 1, 11, 2, 22, 4]);
        assert_eq!(decode(&all, ReadFormat::TimesValuesAndLosses), Some((reading(&[11, 22], 7), &[][..])));
        assert_eq!(decode(&bytes(&[3, 50, 40, 9, 11]), ReadFormat::TimesAndValues), None);
        assert_eq!(decode(&bytes(&[1, 50, 40, 9]), ReadFormat::TimesAndValues).unwrap().0, reading(&[], 0));
    }

    #[test]
    fn between_two_readings_counters_have_counted_evenly() {
        let between = reading(&[100, 7], 0).on_the_way_to(&reading(&[300, 7], 9), 0.25);
        assert_eq!(between, reading(&[150, 7], 0));
        // One that goes back is taken for no later than it was.
        assert_eq!(reading(&[100], 0).on_the_way_to(&reading(&[50], 0), 0.5), reading(&[100], 0));
    }

    #[test]
    fn more_events_than_places_are_passed_over() {
        let mut words = vec![20, 50, 40];
        words.extend(100..120);
        let (reading, rest) =
            decode(&bytes(&words), ReadFormat::TimesAndValues).map(|(reading, rest)| (reading, rest.len())).unwrap();
        assert_eq!((reading.count, reading.values, rest), (8, [101, 102, 103, 104, 105, 106, 107, 108], 0));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>().prop_map(|byte| byte % 12), 0..200)) {
            for format in [ReadFormat::Values, ReadFormat::TimesAndValues, ReadFormat::TimesValuesAndLosses] {
                decode(&bytes, format);
            }
            decode(&[0xff; 64], ReadFormat::TimesValuesAndLosses);
        }
    }
}
