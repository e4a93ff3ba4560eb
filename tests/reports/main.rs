//! Reports of a profile made by hand, against its own totals. Rendered files stay in the test folder of `target` for
//! a look at them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod counters;
mod json;
mod matrix;
mod pictures;
#[path = "../support/mod.rs"]
mod support;
mod text;

use std::{fs, path::Path};

use gilscope::{
    model::{profile::Profile, stack::StackTable, state::State},
    report::{Format, view::View},
};

fn render(profile: &Profile, format: Format, view: View) -> String {
    let text = render_only(profile, format, view);
    let name = format!("shop-{view}.{}", format.extensions()[0]);
    fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), &text).unwrap();
    text
}

fn render_only(profile: &Profile, format: Format, view: View) -> String {
    let mut bytes = Vec::new();
    format.report(view).write(profile, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn total(profile: &Profile, state: State) -> u64 {
    profile.threads.iter().map(|thread| thread.states.get(state).as_nanos()).sum()
}

/// `shop` with everything that could have happened taken out.
fn nothing() -> Profile {
    let mut profile = support::shop();
    profile.threads.clear();
    profile.blame.clear();
    profile.long_holds.clear();
    profile.stacks = StackTable::default();
    profile.locks[0].holds = 0;
    profile
}
