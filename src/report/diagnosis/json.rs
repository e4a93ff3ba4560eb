//! For programs: the schema `gilscope-doctor/1` of docs/output.md.

use serde_json::{Map, Value as Json, json as object};

use crate::model::diagnosis::{Diagnosis, DoorFinding, Outcome, Patient, RungFinding, Value};

/// The whole document, and a line feed.
pub fn json(diagnosis: &Diagnosis) -> String {
    let place = diagnosis.place.iter().map(|fact| (fact.key.to_owned(), value(&fact.value)));
    let evidence = diagnosis.evidence.iter();
    let evidence =
        evidence.map(|found| (found.key.to_owned(), object!({"source": found.source, "words": found.words})));
    let counters = diagnosis.counters.iter();
    let counters = counters.map(|counter| {
        (counter.name.to_owned(), object!({"present": counter.missing.is_none(), "missing": counter.missing}))
    });
    let auto = diagnosis.auto.iter().map(|auto| (auto.command.to_owned(), Json::from(auto.rung)));
    let document = object!({
        "schema": "gilscope-doctor/1",
        "target": diagnosis.patient.as_ref().map(target),
        "rungs": diagnosis.rungs.iter().map(rung).collect::<Vec<_>>(),
        "auto": auto.collect::<Map<_, _>>(),
        "evidence": evidence.collect::<Map<_, _>>(),
        "counters": counters.collect::<Map<_, _>>(),
        "place": place.collect::<Map<_, _>>(),
        "remarks": diagnosis.remarks,
    });
    format!("{document:#}\n")
}

fn target(patient: &Patient) -> Json {
    match &patient.identity {
        Ok(who) => object!({
            "pid": patient.pid.raw(),
            "command": who.command,
            "runtime": who.runtime,
            "runtime_version": who.version,
            "free_threaded": who.free_threaded,
            "locks": who.locks,
            "problem": null,
        }),
        Err(why) => object!({"pid": patient.pid.raw(), "problem": why}),
    }
}

fn rung(rung: &RungFinding) -> Json {
    let (cost, error, doors, permission) = match &rung.outcome {
        Outcome::Works { cost } => (cost.map(|cost| cost.as_nanos()), None, &[][..], None),
        Outcome::Shut { error, doors, permission } => (None, Some(error), &doors[..], Some(*permission)),
    };
    object!({
        "rung": rung.name,
        "backend": rung.backend,
        "attaches": rung.attaches,
        "works": rung.outcome.works(),
        "cost_per_event_ns": cost,
        "error": error,
        "permission": permission,
        "doors": doors.iter().map(door).collect::<Vec<_>>(),
    })
}

fn door(door: &DoorFinding) -> Json {
    object!({"door": door.key, "words": door.words, "enable": door.remedies})
}

fn value(value: &Value) -> Json {
    match value {
        Value::Number(number) => Json::from(*number),
        Value::Text(text) => Json::from(text.as_str()),
        Value::List(words) => Json::from(words.clone()),
        Value::Absent | Value::Unknown => Json::Null,
    }
}
