//! The whole profile as JSON for programs. Owns the way from the model to the schema; the names live in `schema`.

mod counting;
mod estimates;
mod event;
mod parking;

use std::io;

use crate::{
    model::{
        estimate::{Estimates, Method},
        family::{Family, Reach, Record, Relative},
        ids::{Pid, Tid},
        profile::{
            Blame, Counted, HoldSite, HoldTally, LockProfile, LongHold, Profile, Spread, TargetSummary, ThreadProfile,
        },
        quality::Quality,
        stack::{Frame, FrameKind, StackId, StackTable},
        state::StateClass,
        surroundings::Surroundings,
        time::{MonoNanos, Nanos},
    },
    report::{
        Report, ReportError,
        charge::frames_of,
        functions::{FunctionCost, function_costs},
        json::counting::Counting,
        kind::HoldKind,
        kinds::{KindCost, Kinds},
        matrix::Matrix,
        scaled::scaled,
        schema,
        verdict::{Finding, findings},
    },
};

/// Waiters and holders in a matrix; squared, that is its size.
const MOST_IN_MATRIX: usize = 64;

/// The JSON report.
#[derive(Debug, Clone, Copy)]
pub struct Json;

impl Report for Json {
    fn write(&self, profile: &Profile, out: &mut dyn io::Write) -> Result<(), ReportError> {
        write_out(profile, (Reach::Root, &[]), out)
    }

    fn write_family(&self, family: &Family, out: &mut dyn io::Write) -> Result<(), ReportError> {
        write_out(&family.root, (family.reach, &family.relatives), out)
    }
}

fn write_out(
    root: &Profile,
    (reach, relatives): (Reach, &[Relative]),
    out: &mut dyn io::Write,
) -> Result<(), ReportError> {
    let document = schema::FamilyDocument {
        root: document(root),
        subprocesses: reach == Reach::Descendants,
        processes: relatives.iter().map(process).collect(),
    };
    serde_json::to_writer_pretty(&mut *out, &document)?;
    writeln!(out)?;
    Ok(())
}

fn process(relative: &Relative) -> schema::Process<'_> {
    let not_recorded = match &relative.record {
        Record::Profile(_) => None,
        Record::NoInterpreter => Some("it used no interpreter lock"),
        Record::Missed { why } => Some(why.as_str()),
    };
    schema::Process {
        pid: relative.pid.raw(),
        parent_pid: relative.parent.map(Pid::raw),
        command: &relative.command,
        began: relative.began.name(),
        start_ns: relative.start.as_nanos(),
        lifetime_ns: relative.lifetime.as_nanos(),
        end: relative.end.name(),
        recorded: not_recorded.is_none(),
        not_recorded,
        profile: relative.profile().map(document),
    }
}

/// How much of each sort of time is known.
fn exactness(profile: &Profile) -> schema::Exactness {
    let word = |exact| if exact { "exact" } else { "sampled" };
    schema::Exactness { waits: word(profile.exact || profile.counted == Counted::Waits), holds: word(profile.exact) }
}

fn document(profile: &Profile) -> schema::Document<'_> {
    let (kinds, counting) = (Kinds::of(profile), Counting::of_profile(profile));
    schema::Document {
        schema: schema::SCHEMA,
        target: target(&profile.target),
        window_ns: profile.window.as_nanos(),
        backend: profile.backend.name(),
        exact: profile.exact,
        exactness: exactness(profile),
        native: profile.native,
        counters: profile.counters.iter().map(|counter| counter.name(&profile.measured)).collect(),
        counters_missing: schema::Named(
            profile.gone.iter().map(|event| (event.name.as_str(), event.why.as_str())).collect(),
        ),
        ratios: profile.counts().map(|counts| counting.ratios_by_class(&counts)),
        fault_ns: profile.fault_cost.map(Nanos::as_nanos),
        event: profile.event.as_ref().map(|part| event::document(part, &profile.stacks)),
        locks: profile.locks.iter().map(|part| lock(part, counting)).collect(),
        threads: profile
            .threads
            .iter()
            .map(|part| thread((part, counting), (profile.start, &profile.target.surroundings)))
            .collect(),
        blame: profile.blame.iter().map(|part| blame(part, &profile.stacks)).collect(),
        matrix: profile.locks.iter().map(|lock| matrix(&Matrix::of(profile, lock.id, MOST_IN_MATRIX))).collect(),
        hold_sites: profile.hold_sites.iter().map(|site| hold_site((site, counting), &profile.stacks)).collect(),
        long_hold_threshold_ns: profile.long_hold_threshold.as_nanos(),
        long_holds: counting.of(profile
            .long_holds
            .iter()
            .map(|hold| long_hold(hold, &profile.stacks, kinds.long_hold(hold)))
            .collect()),
        holds_by_kind: kinds.costs().iter().map(held_for).collect(),
        functions: function_costs(profile).iter().map(|cost| function(cost, counting)).collect(),
        findings: findings(&scaled(profile)).into_iter().map(finding).collect(),
        parking: profile.parking.as_ref().map(|part| parking::document(part, &profile.stacks)),
        estimates: profile.estimates.as_ref().map(estimates::document),
        quality: quality(profile),
    }
}

fn target(target: &TargetSummary) -> schema::Target<'_> {
    schema::Target {
        pid: target.pid.raw(),
        command: &target.command,
        runtime: &target.runtime,
        runtime_version: &target.runtime_version,
        free_threaded: target.free_threaded,
        inner_pid: target.surroundings.inner_pid(target.pid),
        namespaces: &target.surroundings.namespaces,
        root: target.surroundings.root.as_deref(),
    }
}

fn lock<'a>(lock: &'a LockProfile, counting: Counting<'a>) -> schema::Lock<'a> {
    schema::Lock {
        id: lock.id.index(),
        name: &lock.name,
        interpreter: lock.interpreter,
        held_ns: lock.held.as_nanos(),
        contended_ns: lock.contended.as_nanos(),
        free_ns: lock.free.as_nanos(),
        unknown_ns: lock.unknown.as_nanos(),
        handoff_ns: lock.handoff.as_nanos(),
        wait_total_ns: lock.wait_total.as_nanos(),
        blamed_ns: lock.blamed.as_nanos(),
        wait_unknown_ns: lock.wait_unknown.as_nanos(),
        holds: counting.of(lock.holds),
        waits: counting.of_waits(lock.waits),
        forced_releases: counting.of(lock.forced_releases),
        long_holds: counting.of(lock.long_holds),
        switch_interval_ns: lock.switch_interval.map(Nanos::as_nanos),
        counted: lock.counted.map(|counted| schema::Counted { holds: counted.holds, waits: counted.waits }),
        unseen: tally(lock.unseen, counting),
        hold_ns: spread(lock.holds, lock.hold_spread),
        wait_ns: spread(lock.waits, lock.wait_spread),
    }
}

/// Percentiles of nothing are unknown, not zero.
fn spread(count: u64, spread: Spread) -> schema::Spread {
    let known = |value: Nanos| (count > 0).then_some(value.as_nanos());
    schema::Spread { p50: known(spread.p50), p90: known(spread.p90), p99: known(spread.p99), max: known(spread.max) }
}

fn thread<'a>(
    (thread, counting): (&'a ThreadProfile, Counting<'a>),
    (start, surroundings): (MonoNanos, &Surroundings),
) -> schema::Thread<'a> {
    let class = |class: StateClass| (class.name(), thread.class(class).as_nanos());
    let counts = thread.counts.filter(|_| !counting.counters.is_empty());
    schema::Thread {
        tid: thread.tid.raw(),
        inner_tid: surroundings.inner_tid(thread.tid),
        name: known(&thread.name),
        start_ns: thread.first_seen.saturating_since(start).as_nanos(),
        lifetime_ns: thread.lifetime.as_nanos(),
        holds: counting.of(thread.holds),
        waits: counting.of_waits(thread.waits),
        forced_releases: counting.of(thread.forced_releases),
        states_ns: schema::StatesNs(thread.states),
        classes_ns: schema::Named(StateClass::ALL.map(class).to_vec()),
        counters: counts.map(|counts| counting.by_class(&counts)),
        ratios: counts.map(|counts| counting.ratios_by_class(&counts)),
    }
}

fn blame<'a>(blame: &Blame, stacks: &'a StackTable) -> schema::Blame<'a> {
    schema::Blame {
        lock: blame.lock.index(),
        waiter_tid: blame.waiter.map(Tid::raw),
        holder_tid: blame.holder.map(Tid::raw),
        wait_ns: blame.wait.as_nanos(),
        stack: stack(stacks, blame.stack),
    }
}

fn matrix(matrix: &Matrix) -> schema::Matrix {
    let tids = |threads: &[Option<Tid>]| threads.iter().map(|thread| thread.map(Tid::raw)).collect();
    schema::Matrix {
        lock: matrix.lock.index(),
        waiters: tids(&matrix.waiters),
        holders: tids(&matrix.holders),
        wait_ns: matrix.wait.iter().map(|row| row.iter().map(|wait| wait.as_nanos()).collect()).collect(),
    }
}

fn hold_site<'a>((site, counting): (&HoldSite, Counting<'a>), stacks: &'a StackTable) -> schema::HoldSite<'a> {
    schema::HoldSite { lock: site.lock.index(), tally: tally(site.tally, counting), stack: stack(stacks, site.stack) }
}

fn tally(tally: HoldTally, counting: Counting) -> schema::HoldTally {
    schema::HoldTally {
        holds: counting.of(tally.holds),
        held_ns: tally.held.as_nanos(),
        longest_ns: (tally.holds > 0).then_some(tally.longest.as_nanos()),
        contended_ns: tally.contended.as_nanos(),
        forced: counting.of(tally.forced),
        counters: counting.of_holds(&tally.counts),
        counters_per_hold: counting.per_hold(&tally),
        ratios: counting.ratios_of_holds(&tally.counts),
    }
}

fn long_hold<'a>(hold: &LongHold, stacks: &'a StackTable, held_for: HoldKind<'a>) -> schema::LongHold<'a> {
    schema::LongHold {
        lock: hold.lock.index(),
        tid: hold.tid.raw(),
        start_ns: hold.start.as_nanos(),
        duration_ns: hold.duration.as_nanos(),
        states_ns: schema::StatesNs(hold.states),
        kind: kind(held_for),
        waiters: hold.waiters,
        waited_ns: hold.waited.as_nanos(),
        stack: stack(stacks, hold.stack),
    }
}

fn held_for<'a>(cost: &KindCost<'a>) -> schema::HeldFor<'a> {
    schema::HeldFor {
        kind: kind(cost.kind),
        caller: cost.caller.map(frame),
        held_ns: cost.held.as_nanos(),
        inflicted_wait_ns: cost.inflicted.as_nanos(),
    }
}

fn kind(kind: HoldKind<'_>) -> schema::Kind<'_> {
    let (detail, object, function) = match kind {
        HoldKind::CCode(code) => (Some(code.innermost), Some(code.object), Some(code.function)),
        HoldKind::BlockedIn(call) => (call, None, None),
        _ => (None, None, None),
    };
    schema::Kind { kind: kind.name(), detail, object, function }
}

fn stack(stacks: &StackTable, stack: StackId) -> Vec<schema::Frame<'_>> {
    frames_of(stacks, Some(stack)).into_iter().map(frame).collect()
}

fn frame(frame: &Frame) -> schema::Frame<'_> {
    let kind = match frame.kind {
        FrameKind::Script => "script",
        FrameKind::Native => "native",
        FrameKind::Kernel => "kernel",
        FrameKind::Marker => "marker",
    };
    schema::Frame { function: &frame.function, file: known(&frame.file), line: frame.line, kind }
}

fn function<'a>(cost: &FunctionCost<'a>, counting: Counting<'a>) -> schema::Function<'a> {
    schema::Function {
        function: cost.function,
        file: known(cost.file),
        held_ns: cost.held().as_nanos(),
        wait_ns: cost.waited().as_nanos(),
        inflicted_wait_ns: cost.inflicted.as_nanos(),
        seen: tally(cost.seen, counting),
        states_ns: schema::StatesNs(cost.states),
    }
}

fn finding(finding: Finding) -> schema::Finding {
    let Finding { id, words, remedy, figures, .. } = finding;
    let remedy = (!remedy.is_empty()).then_some(remedy);
    schema::Finding { id, words, remedy, figures: schema::Figures(figures) }
}

fn quality(profile: &Profile) -> schema::Quality<'_> {
    let quality = &profile.quality;
    schema::Quality {
        lost_events: quality.lost_events,
        unmatched_events: quality.unmatched_events,
        unknown_ns: quality.unknown.as_nanos(),
        stack_samples: quality.stack_samples,
        stack_failures: quality.stack_failures,
        probe_cost_ns: quality.probe_cost.map(Nanos::as_nanos),
        overhead: overhead(profile),
        scheduler: quality.scheduler.name(),
        invariants_broken: &quality.invariants_broken,
        notes: &quality.notes,
    }
}

fn overhead(profile: &Profile) -> schema::Overhead {
    let Quality { overhead, probe_cost, .. } = &profile.quality;
    let observed = match &profile.estimates {
        Some(Estimates { method: Method::Windows, observed, .. }) => Some(*observed),
        Some(_) => None,
        None => profile.exact.then_some(profile.window),
    };
    schema::Overhead {
        budget: overhead.budget.map(|part| f64::from(part) / 1e6),
        share: probe_cost.map(|cost| rounded(cost.share_of(profile.window))),
        duty: observed.map(|observed| rounded(observed.share_of(profile.window))),
        own_cpu_ns: overhead.own_cpu.map(Nanos::as_nanos),
    }
}

fn rounded(share: f64) -> f64 {
    (share * 1e6).round() / 1e6
}

fn known(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
