//! The shape of `estimates`: amounts, each with the interval that it lies in.
//!
//! As in the whole schema, fields may be added, never renamed, and what cannot be known is `null`.

use serde::Serialize;

use crate::report::schema::Named;

/// What was estimated beside what is exact.
#[derive(Debug, Serialize)]
pub(in crate::report) struct Estimates {
    pub(in crate::report) method: &'static str,
    pub(in crate::report) rate_hz: Option<u32>,
    pub(in crate::report) confidence: f64,
    pub(in crate::report) parts: u64,
    pub(in crate::report) observed_ns: u64,
    pub(in crate::report) total: Named<Interval>,
    pub(in crate::report) threads: Vec<ThreadEstimate>,
    pub(in crate::report) locks: Vec<LockEstimate>,
}

#[derive(Debug, Serialize)]
pub(in crate::report) struct ThreadEstimate {
    pub(in crate::report) tid: i32,
    pub(in crate::report) classes_ns: Named<Interval>,
    pub(in crate::report) states_ns: Named<Interval>,
}

#[derive(Debug, Serialize)]
pub(in crate::report) struct LockEstimate {
    pub(in crate::report) lock: u32,
    pub(in crate::report) held_ns: Option<Interval>,
    pub(in crate::report) contended_ns: Option<Interval>,
    pub(in crate::report) waited_ns: Option<Interval>,
    pub(in crate::report) holds: Option<Interval>,
    pub(in crate::report) waits: Option<Interval>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(in crate::report) struct Interval {
    pub(in crate::report) value: u64,
    pub(in crate::report) low: u64,
    pub(in crate::report) high: u64,
}
