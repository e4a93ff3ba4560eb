//! One function that makes others wait more than all the rest.

use std::collections::BTreeMap;

use crate::{
    model::{profile::Blame, time::Nanos},
    report::{
        charge::acting_frame,
        functions::FunctionCost,
        kind::{CCode, HoldKind},
        native::short_name,
        text::words::share,
        verdict::{
            Finding,
            evidence::{Evidence, Place, contended_hold, shown},
        },
    },
};

/// Below this share of all blame there is no one culprit.
const CULPRIT: f64 = 0.3;
/// C code that makes up this share of a function's blame, while it had a CPU, is named with it.
const MOSTLY: f64 = 0.5;
/// A pattern says why, a function only where; so of a pattern that explains nearly as much the function comes second.
const WEIGHT: f64 = 0.8;
/// The function, if there is one.
pub(super) fn finding(evidence: &Evidence<'_>) -> Option<Finding> {
    let cost = evidence.functions.iter().find(|cost| !cost.function.starts_with('['))?;
    let whole = evidence.blamed();
    if cost.inflicted.share_of(whole) < CULPRIT {
        return None;
    }
    let place: Place = (cost.function.to_owned(), cost.file.to_owned());
    let code = c_code(evidence, cost);
    let at = shown(&place);
    let who = match code {
        Some(code) => format!("{}() of {}, called in {at},", code.function, short_name(code.object)),
        None => at.clone(),
    };
    let (each, keeps) = (contended_hold(cost), evidence.is_kept_in(cost));
    let words = format!(
        "{who} {}caused {} of all waiting ({})",
        manner(cost, each, keeps),
        share(cost.inflicted, evidence.waited()),
        cost.inflicted
    );
    let mut finding = Finding::new("one_function", words, remedy(evidence, code, keeps))
        .name("function", Some(&at))
        .name("c_function", code.map(|code| code.function))
        .name("object", code.map(|code| code.object))
        .time("inflicted_wait_ns", cost.inflicted)
        .share("inflicted_share", cost.inflicted, evidence.waited())
        .count("holds_seen", cost.seen.holds);
    if let Some(each) = each {
        finding = finding.time("mean_contended_hold_ns", each).time("longest_hold_ns", cost.seen.longest);
    }
    let weight = WEIGHT * cost.inflicted.as_seconds();
    let weighed = std::time::Duration::from_secs_f64(weight).as_nanos();
    let explains = Nanos::from_nanos(u64::try_from(weighed).unwrap_or(u64::MAX));
    Some(finding.explaining(explains).about(Some(place)))
}

fn manner(cost: &FunctionCost<'_>, each: Option<Nanos>, keeps: bool) -> String {
    match each {
        Some(each) if keeps => {
            format!("keeps the GIL {each} at a time while others wait, {} at the longest, and ", cost.seen.longest)
        }
        Some(each) => format!("owns the GIL {each} at a time while others wait, and "),
        None => String::new(),
    }
}

fn remedy(evidence: &Evidence<'_>, code: Option<CCode<'_>>, keeps: bool) -> &'static str {
    match (keeps, code) {
        (true, None) if !evidence.kinds.show_machine_code() => {
            "that long only C code keeps it (--native names which): release the GIL there, give it smaller pieces, or move it to \
             a process"
        }
        (true, _) | (_, Some(_)) => "release the GIL in that C code, give it smaller pieces, or move it to a process",
        (false, None) => "do less of it, make it faster, or move it to a process",
    }
}

/// The C code that most of the function's blame is for; without a CPU it cannot be told.
fn c_code<'a>(evidence: &Evidence<'a>, cost: &FunctionCost<'a>) -> Option<CCode<'a>> {
    let mut sums: BTreeMap<CCode<'a>, Nanos> = BTreeMap::new();
    let mut on_cpu = Nanos::ZERO;
    let of_function = |blame: &&Blame| {
        let frame = acting_frame(&evidence.profile.stacks, Some(blame.stack));
        (frame.function.as_str(), frame.file.as_str()) == (cost.function, cost.file)
    };
    for blame in evidence.profile.blame.iter().filter(of_function) {
        for (kind, wait) in evidence.kinds.inflicted((blame.holder, blame.stack), blame.wait) {
            match kind {
                HoldKind::CCode(code) => *sums.entry(CCode { innermost: code.function, ..code }).or_default() += wait,
                HoldKind::Preempted => continue,
                _ => {}
            }
            on_cpu += wait;
        }
    }
    let (code, wait) = sums.into_iter().max_by_key(|(_, wait)| *wait)?;
    (wait.share_of(on_cpu) >= MOSTLY).then_some(code)
}
