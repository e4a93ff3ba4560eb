//! Moments that cannot fall into step with the target.

use crate::model::time::{MonoNanos, Nanos};

/// Spreads ticks between half and one and a half periods.
#[derive(Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// One that begins differently each time.
    pub fn seeded(now: MonoNanos) -> Self {
        Self(now.as_nanos() | 1)
    }

    /// The time to the next tick. Xorshift: cheap, and good enough to break any rhythm.
    pub fn around(&mut self, period: Nanos) -> Nanos {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let period = period.as_nanos().max(1);
        Nanos::from_nanos(period / 2 + self.0 % period)
    }
}
