//! From the rings to records in order of time.
//!
//! Invariants: records come out in order of time up to the watermark; none is delivered twice; none belongs to a process that was not
//! asked for.

use crate::{
    model::time::{MonoNanos, Nanos},
    perf::{
        decoding::Records,
        lineage::RootId,
        measured::Measured,
        record::Body,
        stream::{
            PerfStream, PlacedReading, Record,
            telling::{follow, has_migrated, is_birth, is_exec, pending, sample},
        },
    },
};

/// A record's time is taken a little before it can be read; a CPU taken away by a hypervisor in between makes it longer.
pub(super) const SLACK: Nanos = Nanos::from_millis(1);

#[derive(Debug)]
pub(super) struct Pending {
    pub(super) record: Record,
    /// Its CPU, by its place in [`PerfStream::cpus`].
    pub(super) place: usize,
    /// `None` for a loss, and for what we tell ourselves.
    pub(super) from: Option<(usize, RootId)>,
}

impl PerfStream {
    /// Appends to `out` all records up to the returned watermark, in order of time. `now` is the time just before the call.
    pub fn drain(&mut self, now: MonoNanos, out: &mut Vec<Record>) -> MonoNanos {
        self.read_rings();
        self.release(now.earlier_by(SLACK));
        out.append(&mut self.ready);
        self.watermark
    }

    pub(super) fn read_rings(&mut self) {
        for (place, cpu) in self.cpus.iter_mut().enumerate() {
            self.bytes.clear();
            cpu.ring.take(&mut self.bytes);
            for record in Records::new(&self.bytes, |event| self.roles.get(&event).map(|role| role.layout)) {
                let Ok(raw) = record else {
                    self.malformed += 1;
                    continue;
                };
                if let Body::Lost { count } = raw.body {
                    cpu.lost += count;
                }
                let before = std::mem::replace(&mut cpu.last, raw.at);
                if let Body::Sampled(_) = raw.body {
                    self.samples.extend(sample(raw, (self.pid, self.kin), (&self.roles, &self.families)));
                    continue;
                }
                if let Body::Sampling { .. } = raw.body {
                    self.sampled.push(raw);
                    continue;
                }
                let since = before.max(self.watermark);
                self.pending.extend(pending(raw, place, since, (self.pid, self.kin), &self.roles));
            }
        }
    }

    /// Losses after which no record came to tell of them: their date is that of the ring's last record.
    pub(super) fn report_silent_losses(&mut self, lost: &[u64]) {
        for (place, (cpu, lost)) in self.cpus.iter().zip(lost).enumerate() {
            let count = lost.saturating_sub(cpu.lost);
            if count > 0 {
                let (at, tid) = (cpu.last.max(self.watermark), self.pid.main_thread());
                let record = Record { at, pid: self.pid, tid, body: Body::Lost { count }, probe: None, reading: None };
                self.pending.push(Pending { record, place, from: None });
            }
        }
    }

    /// Makes ready what is pending and earlier than `before`.
    pub(super) fn release(&mut self, before: MonoNanos) {
        // What has ended by then is known now, what has begun will be.
        self.sort_samples();
        self.make_ready(before);
        self.sort_samples();
    }

    fn make_ready(&mut self, before: MonoNanos) {
        self.watermark = self.watermark.max(before);
        self.pending.sort_by_key(|pending| pending.record.at);
        let count = self.pending.partition_point(|pending| pending.record.at < self.watermark);
        for Pending { mut record, place, from } in self.pending.drain(..count) {
            let believed = from.is_none_or(|(family, root)| self.families[family].lineage.believes(root, record.tid));
            if is_exec(&record) && !believed {
                self.families.iter_mut().for_each(|family| family.lineage.on_renumbered());
            } else if !believed {
                continue;
            }
            follow(&mut self.families, &record);
            let size = from.map(|(family, _)| self.families[family].first_size());
            record.reading.take_if(|reading| !counts(&self.measured, reading, record.at, size));
            if record.body == Body::CountersEnded {
                // Of all others everything was told when they lost the CPU.
                let Some(tid) = self.running[place] else { continue };
                record.tid = tid;
            } else if from.is_some() {
                let goes_on = !matches!(record.body, Body::SwitchedOut(_) | Body::Exited);
                self.running[place] = goes_on.then_some(record.tid);
            }
            // To whoever reads this, such a thread was there when watching began.
            if record.at >= self.complete || !is_birth(&record) {
                let migrated = has_migrated(&mut self.places, &record, place);
                self.ready.extend(migrated.then(|| Record {
                    body: Body::Migrated,
                    probe: None,
                    reading: None,
                    ..record.clone()
                }));
                self.ready.push(record);
            }
        }
    }
}

/// Whether what a group said at this time counts. While one set of groups takes over from another, the kernel gives samples of both that
/// are made in one stroke the number of the new one's event: they are told apart by how many events the groups have: the
/// new one had `size` at first.
fn counts(measured: &Measured, reading: &mut PlacedReading, at: MonoNanos, size: Option<usize>) -> bool {
    if measured.has_begun(reading.group, at) {
        return true;
    }
    let is_other = size.is_some_and(|size| size != reading.said.events);
    let Some(before) = measured.before(reading.group).filter(|_| is_other) else { return false };
    reading.group = before;
    true
}
