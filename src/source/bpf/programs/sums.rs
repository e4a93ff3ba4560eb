//! What the programs have added up, over all CPUs.
//!
//! Invariant: each sum only grows, from the moment at which the programs were loaded.

use crate::{
    model::time::Nanos,
    source::bpf::{error::BpfSourceError, programs::Programs},
};

impl Programs {
    /// Records that found no room so far.
    pub(in crate::source::bpf) fn losses(&self) -> Result<u64, BpfSourceError> {
        self.sum("losses")
    }

    /// How often a thread whose counters are read had a CPU, and the kernel had not told of its coming.
    pub(in crate::source::bpf) fn unseen(&self) -> Result<u64, BpfSourceError> {
        self.sum("unseen")
    }

    fn sum(&self, map: &str) -> Result<u64, BpfSourceError> {
        let value = self.loaded.map(map)?.get(&[0; 4])?.unwrap_or_default();
        Ok(value.first_chunk().copied().map_or(0, u64::from_ne_bytes))
    }

    /// The time that threads of the target have spent reading stacks so far.
    pub(in crate::source::bpf) fn spent(&self) -> Result<Nanos, BpfSourceError> {
        self.sum("spent").map(Nanos::from_nanos)
    }

    /// The same at samples of an event.
    pub(in crate::source::bpf) fn spent_on_event(&self) -> Result<Nanos, BpfSourceError> {
        self.sum("sampled").map(Nanos::from_nanos)
    }

    /// The time that switches to and from threads of the target have taken to read counters so far: one in some sixty is timed.
    pub(in crate::source::bpf) fn spent_at_switches(&self) -> Result<Nanos, BpfSourceError> {
        self.sum("switching").map(Nanos::from_nanos)
    }
}
