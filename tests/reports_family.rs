//! Reports of several processes: what each says, and that the sums are those of the profiles.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use gilscope::{
    model::{
        family::{Began, Family, Reach, Record, Relative, RelativeEnd},
        ids::Pid,
        profile::Profile,
        time::Nanos,
    },
    report::{Format, view::View},
};
use serde_json::Value;

#[allow(dead_code, reason = "made for several test programs")]
mod support;

fn relative(raw: i32, record: Record) -> Relative {
    Relative {
        pid: Pid::from_raw(raw).unwrap(),
        parent: Pid::from_raw(4242),
        command: format!("worker {raw}"),
        began: Began::Forked,
        start: Nanos::from_millis(5),
        lifetime: Nanos::from_millis(700),
        end: RelativeEnd::Exited,
        record,
    }
}

/// The shop, its twin, a shell, and one that could not be recorded.
fn family() -> Family {
    let mut twin = support::shop();
    twin.target.pid = Pid::from_raw(5001).unwrap();
    let missed = Record::Missed { why: "it ended too soon".to_owned() };
    let records = [Record::Profile(Box::new(twin)), Record::NoInterpreter, missed];
    let relatives = (5001..).zip(records).map(|(pid, record)| relative(pid, record)).collect();
    Family { root: support::shop(), relatives, reach: Reach::Descendants }
}

fn render(format: Format, view: View) -> String {
    let mut bytes = Vec::new();
    format.report(view).write_family(&family(), &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn threads_time(profile: &Profile) -> u64 {
    profile.threads.iter().map(|thread| thread.lifetime.as_nanos()).sum()
}

#[test]
fn json_keeps_the_root_where_it_was_and_lists_the_others() {
    let json: Value = serde_json::from_str(&render(Format::Json, View::All)).unwrap();
    assert_eq!((&json["target"]["pid"], &json["subprocesses"]), (&4242.into(), &true.into()));
    let others = json["processes"].as_array().unwrap();
    let told: Vec<_> = others.iter().map(|it| (it["pid"].as_i64().unwrap(), it["recorded"] == true)).collect();
    assert_eq!(told, [(5001, true), (5002, false), (5003, false)]);
    assert_eq!(others[0]["threads"], json["threads"]);
    assert_eq!(others[2]["not_recorded"], "it ended too soon");
    let documentation = std::fs::read_to_string("docs/output.md").unwrap();
    for name in others.iter().flat_map(|other| other.as_object().unwrap().keys()) {
        assert!(documentation.contains(&format!("`{name}`")), "{name} is not documented");
    }
}

#[test]
fn folded_lines_name_their_process_and_add_up() {
    let folded = render(Format::Folded, View::All);
    let of = |pid: &str| -> u64 {
        let lines = folded.lines().filter(|line| line.starts_with(&format!("pid {pid}: ")));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    let whole = threads_time(&support::shop());
    assert_eq!([of("4242"), of("5001")], [whole, whole]);
}

#[test]
fn the_picture_stands_on_processes() {
    let svg = render(Format::Svg, View::All);
    for pid in [4242, 5001] {
        assert!(svg.contains(&format!("<title>pid {pid}: ")), "{pid}");
    }
    assert!(svg.contains("2 processes"));
    let whole = Nanos::from_nanos(2 * threads_time(&support::shop()));
    assert!(svg.contains(&format!("together {whole}")), "{whole}");
}

#[test]
fn the_text_begins_with_all_and_goes_on_with_each() {
    let text = render(Format::Text, View::All);
    let (head, sections) = text.split_once("── pid ").unwrap();
    assert!(head.contains("4 processes, 2 of them recorded"), "{head}");
    assert!(head.contains("not recorded: it ended too") && head.contains("used no interpreter lock"), "{head}");
    assert_eq!(sections.matches("Locks: share of the window").count(), 2);
    let lines = text.lines().map(|line| line.chars().count());
    assert!(lines.max().unwrap() <= 110);
}

/// What one process alone says does not change by asking for others when there are none.
#[test]
fn a_family_of_one_is_that_one() {
    let alone = Family::alone(support::shop());
    for format in Format::ALL {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        format.report(View::All).write(&alone.root, &mut one).unwrap();
        format.report(View::All).write_family(&alone, &mut other).unwrap();
        assert_eq!(one, other, "{format}");
    }
}
