//! Several processes: what they spent together, and a table of all, the busiest first.

use std::cmp::Reverse;

use crate::{
    model::{
        family::{Began, Family, Record, Relative, RelativeEnd, class_time},
        profile::Profile,
        state::{State, StateClass, StateTimes},
        time::Nanos,
    },
    report::{
        names::{clean, process_label, said, shortened},
        text::{
            table::{Lean, omitted, titled},
            words::{counted, share},
        },
    },
};

/// More processes than this make a summary unreadable; JSON has them all.
const MOST: usize = 40;

const COLUMNS: [(&str, Lean); 6] = [
    ("process", Lean::Left),
    ("start\nlifetime", Lean::Right),
    ("threads", Lean::Right),
    ("inside", Lean::Right),
    ("waiting", Lean::Right),
    ("outside\nunknown", Lean::Right),
];

/// The head of the report.
pub(super) fn summary(family: &Family, width: u16) -> String {
    let recorded = family.profiles().count();
    let all = family.relatives.len() + 1;
    let command = shortened(&clean(&family.root.target.command), usize::from(width).saturating_sub(10));
    let headline = format!(
        "gilscope: {command}\n{}, {recorded} of them recorded · window {}",
        counted(all, "process").replace("processs", "processes"),
        family.root.window,
    );
    [headline, together(family), table(family, width)].join("\n\n")
}

/// The recorded processes, those that used and wanted the lock most first.
pub(super) fn busiest(family: &Family) -> Vec<&Profile> {
    let mut profiles: Vec<&Profile> = family.profiles().collect();
    profiles.sort_by_key(|profile| Reverse(business(profile)));
    profiles
}

/// The line above a process's own section.
pub(super) fn rule(profile: &Profile, width: u16) -> String {
    let label = format!("── {} ", clean(&process_label(profile)));
    let rest = usize::from(width).saturating_sub(label.chars().count());
    label + &"─".repeat(rest)
}

fn business(profile: &Profile) -> Nanos {
    class_time(profile, StateClass::Inside) + class_time(profile, StateClass::Waiting)
}

fn together(family: &Family) -> String {
    let states = family.states();
    let whole = states.total();
    let part = |class| share(states.class(class), whole);
    let parts = |class| {
        let states = states.iter().filter(|(state, time)| state.class() == class && *time > Nanos::ZERO);
        states.map(|(state, time)| format!("{} {time}", short(state))).collect::<Vec<_>>().join(", ")
    };
    let lines = [
        (StateClass::Inside, "inside (owned their lock)"),
        (StateClass::Waiting, "waiting (wanted it)"),
        (StateClass::Outside, "outside (neither)"),
        (StateClass::Unknown, "unknown"),
    ];
    let lines = lines.into_iter().filter(|(class, _)| states.class(*class) > Nanos::ZERO);
    let lines: Vec<String> = lines
        .map(|(class, words)| format!("  {words}: {}, {}: {}", states.class(class), part(class), parts(class)))
        .collect();
    format!("All threads of all recorded processes lived {whole} together:\n{}", lines.join("\n"))
}

fn short(state: State) -> String {
    state.name().rsplit('_').next().unwrap_or_default().to_owned()
}

fn table(family: &Family, width: u16) -> String {
    let root = &family.root;
    let mut rows = vec![(business(root), root_row(root))];
    rows.extend(family.relatives.iter().map(|it| (it.profile().map_or(Nanos::ZERO, business), row(it))));
    rows.sort_by_key(|(business, _)| Reverse(*business));
    let total = rows.len();
    let rows = rows.into_iter().take(MOST).map(|(_, row)| row).collect();
    let heading = "Processes: the busiest first; shares of the lifetimes of each one's threads";
    titled(heading, &COLUMNS, rows, width) + &omitted(total, MOST, "processe")
}

fn root_row(root: &Profile) -> Vec<String> {
    let label = format!("pid {}\n{}", root.target.pid, shortened(&said(&root.target.command), 40));
    described(label, (Nanos::ZERO, root.window), Some(root))
}

fn row(relative: &Relative) -> Vec<String> {
    let parent = relative.parent.map_or_else(|| "of unknown parent".to_owned(), |parent| format!("by {parent}"));
    let began = match relative.began {
        Began::Existed => "was there".to_owned(),
        Began::Forked => format!("forked {parent}"),
        Began::Executed => format!("started {parent}"),
    };
    let end = match relative.end {
        RelativeEnd::Exited => "",
        RelativeEnd::Executed => ", executed another program",
        RelativeEnd::Alive => ", was still alive at the end",
    };
    let record = match &relative.record {
        Record::Profile(_) => String::new(),
        Record::NoInterpreter => "\nused no interpreter lock".to_owned(),
        Record::Missed { why } => format!("\nnot recorded: {}", clean(why)),
    };
    let command = shortened(&said(&relative.command), 40);
    let label = format!("pid {}, {began}{end}\n{command}{record}", relative.pid);
    described(label, (relative.start, relative.lifetime), relative.profile())
}

fn described(label: String, (start, lifetime): (Nanos, Nanos), profile: Option<&Profile>) -> Vec<String> {
    let mut states = StateTimes::default();
    for (state, time) in profile.into_iter().flat_map(|it| &it.threads).flat_map(|thread| thread.states.iter()) {
        states.add(state, time);
    }
    let whole = states.total();
    let part = |class| if profile.is_some() { share(states.class(class), whole) } else { "–".to_owned() };
    vec![
        label,
        format!("{start}\n{lifetime}"),
        profile.map_or_else(|| "–".to_owned(), |profile| profile.threads.len().to_string()),
        part(StateClass::Inside),
        part(StateClass::Waiting),
        format!("{}\n{}", part(StateClass::Outside), part(StateClass::Unknown)),
    ]
}
