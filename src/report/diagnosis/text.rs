//! For people: who and where, a table of rungs, what opens the shut ones, and what else a recording would have.

use crate::{
    model::diagnosis::{CounterFinding, Diagnosis, DoorFinding, Fact, Outcome, Patient, RungFinding, Value},
    report::text::table::{Lean, titled},
};

/// As wide as the widest name of a fact.
const NAMES: usize = 32;

/// The whole text, in tables at most `width` wide.
pub fn text(diagnosis: &Diagnosis, width: u16) -> String {
    let mut parts: Vec<String> = diagnosis.patient.iter().map(patient).collect();
    parts.push(rungs(diagnosis, width));
    parts.extend(remedies(&diagnosis.rungs));
    parts.push(auto(diagnosis));
    parts.push(evidence(diagnosis));
    parts.push(place(&diagnosis.place));
    parts.join("\n\n") + "\n"
}

fn patient(patient: &Patient) -> String {
    let pid = patient.pid;
    match &patient.identity {
        Ok(who) => {
            let free = if who.free_threaded { ", free-threaded" } else { "" };
            let locks = match who.locks.len() {
                0 => "no lock in use now".to_owned(),
                _ => format!("locks: {}", who.locks.join(", ")),
            };
            format!(
                "process {pid}: {}\n{} {}{free} · its memory can be read · {locks}",
                who.command, who.runtime, who.version
            )
        }
        Err(why) => format!("process {pid} cannot be observed: {why}"),
    }
}

fn rungs(diagnosis: &Diagnosis, width: u16) -> String {
    let columns = [
        ("backend", Lean::Left),
        ("works", Lean::Left),
        ("ns an event", Lean::Right),
        ("what it is, or what shuts it", Lean::Left),
    ];
    let rows = diagnosis.rungs.iter().map(row).collect();
    titled("ways to take lock events, the best first", &columns, rows, width)
}

fn row(rung: &RungFinding) -> Vec<String> {
    let (works, cost, words) = match &rung.outcome {
        Outcome::Works { cost } => {
            let only = if rung.attaches { "" } else { "; only for programs started by gilscope run" };
            let cost = cost.map_or_else(|| "not measured".to_owned(), |cost| cost.as_nanos().to_string());
            ("yes", cost, format!("{}{only}", rung.words))
        }
        Outcome::Shut { error, doors, permission } => {
            let doors: Vec<&str> = doors.iter().map(|door| door.words.as_str()).collect();
            let words = match (doors.is_empty(), permission) {
                (false, _) => doors.join("; "),
                (true, true) => format!("which rule refuses it cannot be told: {error}"),
                (true, false) => error.clone(),
            };
            ("no", String::new(), words)
        }
    };
    [rung.name.to_owned(), works.to_owned(), cost, words].into()
}

/// For each door, what opens it; doors that several rungs share stand there once.
fn remedies(rungs: &[RungFinding]) -> Option<String> {
    let mut shut: Vec<(&DoorFinding, Vec<&str>)> = Vec::new();
    for rung in rungs {
        let Outcome::Shut { doors, .. } = &rung.outcome else { continue };
        for door in doors.iter().filter(|door| !door.remedies.is_empty()) {
            match shut.iter_mut().find(|(known, _)| known.words == door.words) {
                Some((_, names)) => names.push(rung.name),
                None => shut.push((door, vec![rung.name])),
            }
        }
    }
    let lines = shut.iter().flat_map(|(door, names)| {
        let head = format!("  {}: {}", names.join(", "), door.words);
        std::iter::once(head).chain(door.remedies.iter().map(|remedy| format!("      {remedy}")))
    });
    let lines: Vec<String> = lines.collect();
    (!lines.is_empty()).then(|| format!("what opens them (one line of each will do)\n{}", lines.join("\n")))
}

fn auto(diagnosis: &Diagnosis) -> String {
    let choice = |rung: Option<&str>| rung.map_or_else(|| "nothing: no way works".to_owned(), str::to_owned);
    let lines =
        diagnosis.auto.iter().map(|auto| format!("gilscope {:6} would take {}", auto.command, choice(auto.rung)));
    let remarks = diagnosis.remarks.iter().cloned();
    lines.chain(remarks).collect::<Vec<_>>().join("\n")
}

fn evidence(diagnosis: &Diagnosis) -> String {
    let row = |name: &str, words: String| format!("  {name:16} {words}");
    let found = diagnosis
        .evidence
        .iter()
        .map(|evidence| row(evidence.name, format!("{}: {}", evidence.source, evidence.words)));
    let counters = row("counters", counters(&diagnosis.counters));
    let lines: Vec<String> = found.chain([counters]).collect();
    format!("besides lock events\n{}", lines.join("\n"))
}

fn counters(counters: &[CounterFinding]) -> String {
    let (here, missing): (Vec<_>, Vec<_>) = counters.iter().partition(|counter| counter.missing.is_none());
    let names = |of: &[&CounterFinding]| of.iter().map(|counter| counter.name).collect::<Vec<_>>().join(", ");
    let why = missing.first().and_then(|counter| counter.missing.clone()).unwrap_or_default();
    match (here.is_empty(), missing.is_empty()) {
        (_, true) => names(&here),
        (true, false) => format!("none: {why}"),
        (false, false) => format!("{}; without {}: {why}", names(&here), names(&missing)),
    }
}

fn place(facts: &[Fact]) -> String {
    let lines: Vec<String> =
        facts.iter().map(|fact| format!("  {:NAMES$} {}", fact.name, shown(&fact.value))).collect();
    format!("this place\n{}", lines.join("\n"))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::List(words) if words.is_empty() => "none that matter here".to_owned(),
        Value::List(words) => words.join(" "),
        Value::Absent => "not there".to_owned(),
        Value::Unknown => "cannot be told".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::text;
    use crate::{
        model::{
            diagnosis::{
                AutoChoice, CounterFinding, Diagnosis, DoorFinding, Evidence, Fact, Outcome, RungFinding, Value,
            },
            time::Nanos,
        },
        report::diagnosis::json,
    };

    fn rung(name: &'static str, attaches: bool, outcome: Outcome) -> RungFinding {
        RungFinding { name, words: "kernel probes", backend: "uprobe", attaches, outcome }
    }

    fn diagnosis() -> Diagnosis {
        let door = DoorFinding {
            key: "yama",
            words: "kernel.yama.ptrace_scope is 1".to_owned(),
            remedies: vec!["sudo sysctl kernel.yama.ptrace_scope=0".to_owned()],
        };
        let shut = |doors| Outcome::Shut { error: "EPERM".to_owned(), doors, permission: true };
        Diagnosis {
            place: vec![Fact { key: "lockdown", name: "lockdown", value: Value::Unknown }],
            patient: None,
            rungs: vec![
                rung("preload", false, Outcome::Works { cost: Some(Nanos::from_nanos(21)) }),
                rung("uprobe-bpf", true, shut(vec![door])),
                rung("uprobe-tracefs", true, shut(Vec::new())),
            ],
            evidence: vec![Evidence {
                key: "scheduler",
                name: "scheduling",
                source: "none",
                words: "refused".to_owned(),
            }],
            counters: vec![CounterFinding { name: "cycles", missing: Some("no PMU".to_owned()) }],
            auto: vec![AutoChoice { command: "attach", rung: None }],
            remarks: Vec::new(),
        }
    }

    #[test]
    fn people_see_what_shuts_a_rung_and_what_opens_it() {
        let text = text(&diagnosis(), 100);
        for expected in [
            "│ preload        │ yes   │          21 │ kernel probes; only for programs started by gilscope run",
            "  uprobe-bpf: kernel.yama.ptrace_scope is 1\n      sudo sysctl kernel.yama.ptrace_scope=0\n",
            "which rule refuses it cannot be told: EPERM",
            "gilscope attach would take nothing: no way works",
            "counters         none: no PMU",
            "lockdown                         cannot be told",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
    }

    #[test]
    fn programs_get_every_field_and_null_for_what_is_unknown() {
        let read: serde_json::Value = serde_json::from_str(&json(&diagnosis())).unwrap();
        assert_eq!(read["schema"], "gilscope-doctor/1");
        assert_eq!(read["rungs"][0]["cost_per_event_ns"], 21);
        assert_eq!(read["rungs"][1]["doors"][0]["enable"][0], "sudo sysctl kernel.yama.ptrace_scope=0");
        assert_eq!((&read["rungs"][1]["works"], &read["place"]["lockdown"]), (&false.into(), &serde_json::Value::Null));
        assert_eq!((&read["auto"]["attach"], &read["target"]), (&serde_json::Value::Null, &serde_json::Value::Null));
        assert_eq!(read["counters"]["cycles"]["missing"], "no PMU");
    }
}
