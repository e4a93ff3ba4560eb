//! Typed words against the plans they must give.

use std::{ffi::OsString, fs, num::NonZeroU32, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use tempfile::TempDir;

use super::{BackendChoice, Plan, PlanError, RunPlan, Surroundings};
use crate::{
    cli::{args::Args, messages::Verbosity},
    model::{profile::Backend, sampled_event::Pace},
    report::{Format, outlet::Destination, view::View},
    session::{chosen::EventError, event_choice::EventChoice},
};

/// A folder with a `python3`, a `tool`, a script and a toy program.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, mode) in [("python3", 0o755), ("tool", 0o755), ("x.py", 0o644), ("x.toy", 0o644)] {
            let path = folder.path().join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The plan for `words`, in which `@` stands for the folder.
    fn plan(&self, words: &str) -> Result<Plan, PlanError> {
        let typed = format!("gilscope {words}").replace('@', self.folder.path().to_str().unwrap());
        let words: Vec<OsString> = typed.split(' ').map(OsString::from).collect();
        let args = Args::from_words(&words).unwrap_or_else(|error| panic!("{typed}: {error}"));
        let path = self.folder.path().as_os_str().to_owned();
        Plan::of(args, &Surroundings { exe: "/opt/gilscope".into(), path })
    }

    fn run(&self, words: &str) -> RunPlan {
        match self.plan(words) {
            Ok(Plan::Run(plan)) => plan,
            other => panic!("{words}: {other:?}"),
        }
    }

    /// The command line that `words` lead to, in which the folder is written `@`.
    fn launched(&self, words: &str) -> String {
        let plan = self.run(words);
        let words = plan.arguments.iter().map(|word| word.to_str().unwrap());
        let line: Vec<&str> = std::iter::once(plan.program.to_str().unwrap()).chain(words).collect();
        line.join(" ").replace(self.folder.path().to_str().unwrap(), "@")
    }
}

/// What the parser complains about, in its first line.
fn complaint(words: &str) -> String {
    let words: Vec<OsString> = format!("gilscope {words}").split(' ').map(OsString::from).collect();
    Args::from_words(&words).unwrap_err().to_string().lines().next().unwrap().to_owned()
}

#[test]
fn options_after_the_script_are_the_scripts_own() {
    let place = Place::new();
    for (typed, launched) in [
        ("run @/x.py", "@/python3 @/x.py"),
        ("run @/x.py --flag", "@/python3 @/x.py --flag"),
        ("run -d 5 @/x.py -d 7 -o y", "@/python3 @/x.py -d 7 -o y"),
        ("run @/x.py -- -- z", "@/python3 @/x.py -- -- z"),
        ("run @/x.py --help", "@/python3 @/x.py --help"),
        ("run -m http.server 8000", "@/python3 -m http.server 8000"),
        ("run -d 5 -m mod --bind x -d 7 -- y", "@/python3 -m mod --bind x -d 7 -- y"),
        ("run --module mod -h", "@/python3 -m mod -h"),
        ("run -mmod a", "@/python3 -m mod a"),
        ("run - a", "@/python3 - a"),
        ("run --python @/tool @/x.py", "@/tool @/x.py"),
        ("run --python tool -m mod", "@/tool -m mod"),
        ("run -- python3 x.py --flag", "@/python3 x.py --flag"),
        ("run -- tool -- -d 5", "@/tool -- -d 5"),
        ("run -d 5 -- @/tool run", "@/tool run"),
        ("run @/x.toy", "/opt/gilscope toyvm @/x.toy"),
        ("run @/x.toy --truth t", "/opt/gilscope toyvm @/x.toy --truth t"),
    ] {
        assert_eq!(place.launched(typed), launched, "{typed}");
    }
    assert_eq!(place.run("run -d 5 @/x.py -d 7").record.duration, Some(Duration::from_secs(5)));
}

#[test]
fn what_cannot_be_run_is_refused_before_anything_starts() {
    let place = Place::new();
    let refused = |words: &str| place.plan(words).unwrap_err();
    assert_eq!(refused("run y.py"), PlanError::NoScript { path: "y.py".into() });
    assert_eq!(refused("run tool"), PlanError::NoScript { path: "tool".into() });
    assert_eq!(refused("run -- nowhere"), PlanError::NoCommand { name: "nowhere".into() });
    assert_eq!(refused("run -- @/x.py"), PlanError::NotExecutable { path: place.path("x.py") });
    assert_eq!(refused("run --python py @/x.py"), PlanError::NoInterpreter { name: "py".into() });
    assert_eq!(refused("attach --backend preload 7"), PlanError::PreloadCannotAttach);
    assert_eq!(refused("toyvm @/y.toy"), PlanError::NoScript { path: place.path("y.toy") });
}

#[test]
fn the_output_chooses_its_format_unless_forced() {
    let place = Place::new();
    let record = |options: &str| place.run(&format!("run {options} @/x.py")).record;
    let file = |path: &str| Destination::File(path.into());
    for (options, output, format) in [
        ("-r 9", file("gilscope.svg"), Format::Svg),
        ("-o a.json", file("a.json"), Format::Json),
        ("-o a.txt", file("a.txt"), Format::Text),
        ("-o a.collapsed", file("a.collapsed"), Format::Folded),
        ("-o a.json -f svg", file("a.json"), Format::Svg),
        ("-f folded", file("gilscope.folded"), Format::Folded),
        ("-f txt", file("gilscope.txt"), Format::Text),
        ("-o -", Destination::Stdout, Format::Text),
        ("-o - -f json", Destination::Stdout, Format::Json),
    ] {
        let plan = record(options);
        assert_eq!((plan.output, plan.format), (output, format), "{options}");
    }
    let refused = |options: &str| place.plan(&format!("run {options} @/x.py")).unwrap_err();
    assert_eq!(refused("-o a.png"), PlanError::UnknownFormat { path: "a.png".into() });
    assert_eq!(refused("-o a"), PlanError::UnknownFormat { path: "a".into() });
    assert_eq!(refused("-o a.json --json a.json"), PlanError::SameFileTwice { path: "a.json".into() });
    assert_eq!(refused("-f json --view held"), PlanError::NoViews { view: View::Held, format: Format::Json });
}

#[test]
fn every_option_reaches_the_plan() {
    let place = Place::new();
    let words = "attach -o w.svg -d 1.5 -r 250 --long-hold 2.5ms --backend uprobe --view blame --json p.json -v 4242";
    let Ok(Plan::Attach(plan)) = place.plan(words) else { panic!("no plan") };
    assert_eq!(plan.pid.raw(), 4242);
    assert_eq!(plan.record.duration, Some(Duration::from_millis(1500)));
    assert_eq!(plan.record.rate, NonZeroU32::new(250));
    assert_eq!(plan.record.long_hold, Duration::from_micros(2500));
    assert_eq!(plan.record.backend, BackendChoice::Only(Backend::Uprobe));
    assert_eq!(plan.record.view, View::Blame);
    assert_eq!(plan.record.json, Some(Destination::File("p.json".into())));
    assert_eq!(plan.record.verbosity, Verbosity::Verbose);
    assert_eq!(place.run("run -r 0 -q @/x.py").record.rate, None);
    assert_eq!(place.run("run -q @/x.py").record.verbosity, Verbosity::Quiet);
    let defaults = place.run("run @/x.py").record;
    assert_eq!((defaults.rate, defaults.backend), (NonZeroU32::new(100), BackendChoice::Auto));
    assert_eq!(defaults.long_hold, Duration::from_millis(10));
    assert_eq!((defaults.duration, defaults.view, defaults.json), (None, View::All, None));
}

#[test]
fn an_event_is_sampled_at_a_pace_and_shown() {
    let place = Place::new();
    let record = |options: &str| place.run(&format!("run {options} @/x.py")).record;
    let usual = Pace::Frequency(EventChoice::USUAL_FREQUENCY);
    for (options, name, pace, view) in [
        ("-e page-faults", "page-faults", usual, View::Event),
        ("-e cycles:u -F 49", "cycles:u", Pace::Frequency(49), View::Event),
        ("--event r01c2 --count 1000 --view held", "r01c2", Pace::Period(1000), View::Held),
        ("-e task-clock -f json", "task-clock", usual, View::Event),
    ] {
        let plan = record(options);
        assert_eq!(plan.event, Some(EventChoice::named(name, pace).unwrap()), "{options}");
        assert_eq!(plan.view, view, "{options}");
    }
    let refused = |options: &str| place.plan(&format!("run {options} @/x.py")).unwrap_err();
    assert_eq!(refused("-e page-faults -r 0"), PlanError::EventWithoutStacks);
    assert_eq!(refused("--view event"), PlanError::NoEvent);
    assert_eq!(refused("-e page-fault"), PlanError::UnknownEvent { word: "page-fault".to_owned() });
    assert!(matches!(refused("-e cycles:pp"), PlanError::Event(EventError::Modifier { .. })));
    assert!(matches!(refused("-e gilscope:nothing"), PlanError::Event(EventError::Tracepoint { .. })));
}

#[test]
fn the_toy_vm_and_the_sweep_have_their_own_plans() {
    let place = Place::new();
    let Ok(Plan::ToyVm(plan)) = place.plan("toyvm @/x.toy --truth t.json --switch-interval 2ms --announce") else {
        panic!("no plan")
    };
    assert_eq!((plan.program, plan.truth), (place.path("x.toy"), Some("t.json".into())));
    assert_eq!((plan.switch_interval, plan.announce), (Duration::from_millis(2), true));
    assert_eq!(place.plan("__sweep gilscope_7"), Ok(Plan::Sweep { group: "gilscope_7".to_owned() }));
}

#[test]
fn the_parser_says_what_is_wrong() {
    for (words, expected) in [
        ("run -d 5x x.py", "`5x` is not a duration; examples: 5 (seconds), 1.5, 500ms, 2m, 1h"),
        ("run -r 20000 x.py", "20000 is not in 0..=10000"),
        ("run --bogus x.py", "unexpected argument '--bogus'"),
        ("attach 0", "a process id is a whole number above 0"),
        ("attach python3", "a process id is a whole number above 0"),
        ("run -q -v x.py", "cannot be used with"),
        ("run -e cycles -c 0 x.py", "0 is not in 1..="),
        ("run -e cycles -F 0 x.py", "0 is not in 1..="),
        ("run -e cycles -c 5 -F 5 x.py", "cannot be used with"),
        ("run -c 5 x.py", "required arguments were not provided"),
        ("run --view some x.py", "invalid value 'some' for '--view"),
        ("run", "required arguments were not provided"),
    ] {
        let said = complaint(words);
        assert!(said.contains(expected), "{words}: {said}");
    }
}
