//! What owners of the lock did that they need not have owned it for: sleep, have no CPU, look for garbage, import, take
//! objects apart.

use std::cmp::Reverse;

use crate::{
    model::{stack::Frame, time::Nanos},
    report::{
        kind::HoldKind,
        kinds::KindCost,
        text::words::share,
        verdict::{
            Finding,
            evidence::{Evidence, Place, shown},
        },
    },
};

/// Kinds that are one finding.
#[derive(Debug, Clone, Copy)]
struct Rule {
    id: &'static str,
    fits: fn(HoldKind<'_>) -> bool,
    /// What threads did, before the figures.
    words: &'static str,
    remedy: &'static str,
}

const RULES: [Rule; 6] = [
    Rule {
        id: "held_while_blocked",
        fits: |kind| matches!(kind, HoldKind::BlockedIn(_) | HoldKind::OnOtherLock),
        words: "Threads sleep with the GIL in their hands",
        remedy: "release the GIL around that call (Py_BEGIN_ALLOW_THREADS in C, `with nogil` in Cython), or make it elsewhere",
    },
    Rule {
        id: "held_while_preempted",
        fits: |kind| kind == HoldKind::Preempted,
        words: "The owner of the GIL had no CPU: more threads want to run than there are CPUs",
        remedy: "more CPUs, or fewer processes and threads that compute",
    },
    Rule {
        id: "garbage_collection",
        fits: |kind| kind == HoldKind::GarbageCollection,
        words: "The search for garbage keeps the GIL",
        remedy: "gc.freeze() after start-up, higher thresholds, or gc.disable() where no cycles arise",
    },
    Rule {
        id: "destructor",
        fits: |kind| kind == HoldKind::Destructor,
        words: "Taking objects apart keeps the GIL",
        remedy: "drop large structures in pieces, or keep them in arrays rather than in many small objects",
    },
    Rule {
        id: "import",
        fits: |kind| kind == HoldKind::Import,
        words: "Importing modules keeps the GIL",
        remedy: "import before the threads start",
    },
    Rule {
        id: "page_fault",
        fits: |kind| kind == HoldKind::PageFault,
        words: "Owners of the GIL wait for the kernel to bring in memory",
        remedy: "use memory again instead of giving it back, huge pages, or files that are in the cache",
    },
];

/// One finding a rule that anything fits.
pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    RULES.into_iter().filter_map(|rule| finding(evidence, rule)).collect()
}

fn finding(evidence: &Evidence<'_>, rule: Rule) -> Option<Finding> {
    let costs: Vec<&KindCost<'_>> = evidence.kind_costs.iter().filter(|cost| (rule.fits)(cost.kind)).collect();
    let held: Nanos = costs.iter().map(|cost| cost.held).sum();
    let inflicted: Nanos = costs.iter().map(|cost| cost.inflicted).sum();
    let worst = costs.into_iter().max_by_key(|cost| (cost.inflicted, Reverse(cost.kind)))?;
    let all_held: Nanos = evidence.kind_costs.iter().map(|cost| cost.held).sum();
    let (call, place) = (call(worst.kind), worst.caller.map(place_of));
    let at = place.as_ref().map(shown);
    let words = format!(
        "{}{}: {held}, {} of the time held; others waited {inflicted} meanwhile, {} of all waiting",
        rule.words,
        whereabouts(call, at.as_deref()),
        share(held, all_held),
        share(inflicted, evidence.waited()),
    );
    let finding = Finding::new(rule.id, words, rule.remedy)
        .time("held_ns", held)
        .share("held_share", held, all_held)
        .time("inflicted_wait_ns", inflicted)
        .share("inflicted_share", inflicted, evidence.waited())
        .name("call", call)
        .name("function", at.as_deref());
    Some(finding.explaining(inflicted).about(place))
}

fn call(kind: HoldKind<'_>) -> Option<&str> {
    match kind {
        HoldKind::BlockedIn(call) => call,
        HoldKind::OnOtherLock => Some("futex"),
        _ => None,
    }
}

fn place_of(frame: &Frame) -> Place {
    (frame.function.clone(), frame.file.clone())
}

fn whereabouts(call: Option<&str>, place: Option<&str>) -> String {
    let call = call.map(|call| format!(" in {call}()")).unwrap_or_default();
    let place = place.map(|place| format!(", mostly in {place}")).unwrap_or_default();
    format!("{call}{place}")
}
