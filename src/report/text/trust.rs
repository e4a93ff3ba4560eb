//! How far to trust a report: what was lost, what is unknown, what observing cost, and every broken invariant.

use crate::{
    model::{
        profile::{Counted, Profile},
        quality::{Quality, SchedulerRung},
        time::Nanos,
    },
    report::{
        names::clean,
        text::words::{self, count, share},
    },
};

/// The section; broken invariants come first and cannot be overlooked.
pub(super) fn section(profile: &Profile) -> String {
    let quality = &profile.quality;
    let mut lines = alarms(quality);
    lines.push("How far to trust this".to_owned());
    lines.push(fact("lock events", &exactness(profile)));
    if profile.quality.scheduler != SchedulerRung::Records {
        lines.push(fact("scheduling", scheduling(profile.quality.scheduler)));
    }
    lines.push(fact("lost events", &doubtful(quality.lost_events, "their threads are unknown up to their next event")));
    lines.push(fact(
        "unmatched events",
        &doubtful(quality.unmatched_events, "they fit no legal order and were set aside"),
    ));
    lines.push(fact("unknown time", &unknown(profile)));
    lines.push(fact("stacks", &stacks(quality)));
    lines.push(fact("cost of the probe", &probe_cost(profile)));
    lines.push(fact("own CPU time", &own_cpu(profile)));
    if quality.invariants_broken.is_empty() {
        lines.push(fact(
            "invariants",
            "all hold: states sum to lifetimes, holds to the window, blame to waits, sites to holds",
        ));
    }
    lines.extend(quality.notes.iter().map(|note| fact("note", &clean(note))));
    lines.join("\n")
}

fn alarms(quality: &Quality) -> Vec<String> {
    let broken = &quality.invariants_broken;
    if broken.is_empty() {
        return Vec::new();
    }
    let mut lines =
        vec!["!! THESE NUMBERS CONTRADICT EACH OTHER. Do not rely on this report; please report a bug.".to_owned()];
    lines.extend(broken.iter().map(|words| format!("!! broken: {}", clean(words))));
    lines.push(String::new());
    lines
}

fn fact(name: &str, words: &str) -> String {
    format!("  {name:<18} {words}")
}

fn exactness(profile: &Profile) -> String {
    match profile.exact {
        true => "all were taken; totals of states, holds and waits are exact".to_owned(),
        false if profile.counted == Counted::Waits => {
            format!("{}; totals of waits are exact, all others are estimates", words::exactness(profile))
        }
        false if profile.estimates.is_some() => format!("{}; totals are estimates", words::exactness(profile)),
        false => "sampled; totals are estimates".to_owned(),
    }
}

fn scheduling(rung: SchedulerRung) -> &'static str {
    match rung {
        SchedulerRung::Records => "every switch was recorded",
        SchedulerRung::Sampled => {
            "sampled: running, preempted and blocked are the kernel's counts, divided by what was seen"
        }
        SchedulerRung::None => "unknown: whether threads ran was not seen; inside, waiting and outside were",
    }
}

fn doubtful(number: u64, consequence: &str) -> String {
    match number {
        0 => "none".to_owned(),
        number => format!("{}: {consequence}", count(number)),
    }
}

fn unknown(profile: &Profile) -> String {
    let lifetimes: Nanos = profile.threads.iter().map(|thread| thread.lifetime).sum();
    match profile.quality.unknown {
        Nanos::ZERO => "none".to_owned(),
        unknown => format!("{unknown}, {} of the threads' lifetime", share(unknown, lifetimes)),
    }
}

fn stacks(quality: &Quality) -> String {
    let (read, failed) = (quality.stack_samples, quality.stack_failures);
    if read + failed == 0 {
        return "none were read: times are charged to no function".to_owned();
    }
    format!("{} read, {} could not be; times are spread over functions by these samples", count(read), count(failed))
}

fn probe_cost(profile: &Profile) -> String {
    match profile.quality.probe_cost {
        None => "unknown: not measured".to_owned(),
        Some(cost) => {
            format!("{cost} added to the program, {} of the window{}", share(cost, profile.window), allowed(profile))
        }
    }
}

fn allowed(profile: &Profile) -> String {
    profile
        .quality
        .overhead
        .budget
        .map_or_else(String::new, |part| format!(" (--max-overhead {}%)", f64::from(part) / 10_000.0))
}

fn own_cpu(profile: &Profile) -> String {
    match profile.quality.overhead.own_cpu {
        None => "unknown: not measured".to_owned(),
        Some(used) => {
            format!("{used} used by gilscope beside the program, {} of one CPU", share(used, profile.window))
        }
    }
}
