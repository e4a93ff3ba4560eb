//! A clock on every CPU at whose ticks a program runs, whichever thread it interrupts.

use perf_event::{Builder, Counter, events::Software};

use crate::{
    bpf::{
        error::BpfError,
        loaded::{Link, Loaded},
    },
    model::time::Nanos,
};

/// The clock of one CPU; it stops when this is dropped.
#[derive(Debug)]
pub struct Clock {
    _link: Link,
    _event: Counter,
}

impl Clock {
    /// Runs `program` on `cpu` once every `period` of its time.
    pub fn start(loaded: &Loaded, program: &str, cpu: u32, period: Nanos) -> Result<Self, BpfError> {
        let index = usize::try_from(cpu).expect("a CPU number fits a word");
        let mut builder = Builder::new(Software::CPU_CLOCK);
        builder.any_pid().one_cpu(index).sample_period(period.as_nanos().max(1)).enabled(true);
        builder.exclude_kernel(false).exclude_hv(false);
        let event = builder.build().map_err(|source| BpfError::Clock { cpu, source })?;
        let link = loaded.link_event(program, &event, cpu)?;
        Ok(Self { _link: link, _event: event })
    }
}
