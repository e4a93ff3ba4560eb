//! The legend: every state of the view with its colour, time and share, in one column a class.

use std::fmt::Write;

use crate::{
    model::{
        profile::Profile,
        sampled_event::{EventSums, EventUnit},
        state::{State, StateClass, StateTimes},
        time::Nanos,
    },
    report::{
        flamegraph::{paint::state_colour, polish::escaped, rows::running},
        text::words::{count, share, share_of},
        view::View,
    },
};

/// Distance between two lines of the legend.
const LINE: u32 = 17;
/// The legend's first base line: below title and subtitle.
const TOP: u32 = 72;

/// The drawn legend.
#[derive(Debug)]
pub(super) struct Legend {
    /// SVG elements.
    pub(super) svg: String,
    /// By how much the frames must move down.
    pub(super) height: u32,
}

struct Column {
    heading: String,
    entries: Vec<Entry>,
}

struct Entry {
    state: State,
    text: String,
    meaning: &'static str,
}

/// The legend of `view` over all `profiles`.
pub(super) fn of(profiles: &[&Profile], view: View) -> Legend {
    let sampled = profiles.iter().find_map(|profile| profile.event.as_ref()).filter(|_| view == View::Event);
    let columns = match view {
        View::Event if sampled.is_some() => {
            sampled.map(|event| event_columns(profiles, event.event.unit)).unwrap_or_default()
        }
        View::Blame => vec![blame_column(profiles)],
        view => state_columns(profiles, view),
    };
    let lines = columns.iter().map(|column| 1 + column.entries.len()).max().unwrap_or(0);
    let mut svg = String::from("<g id=\"legend\">");
    for (column, x) in columns.iter().zip([0_u32, 26, 51, 79]) {
        column.draw(x, &mut svg);
    }
    svg.push_str("</g>");
    Legend { svg, height: LINE * (u32::try_from(lines).unwrap_or(0) + 1) }
}

fn state_columns(profiles: &[&Profile], view: View) -> Vec<Column> {
    let mut times = StateTimes::default();
    let threads = profiles.iter().flat_map(|profile| &profile.threads);
    for (state, time) in threads.flat_map(|thread| thread.states.iter()) {
        times.add(state, time);
    }
    let whole: Nanos = times.iter().filter(|(state, _)| view.shows(*state)).map(|(_, time)| time).sum();
    [StateClass::Inside, StateClass::Waiting, StateClass::Outside, StateClass::Unknown]
        .into_iter()
        .filter(|class| State::ALL.iter().any(|state| state.class() == *class && view.shows(*state)))
        .map(|class| class_column(class, &times, whole))
        .collect()
}

fn class_column(class: StateClass, times: &StateTimes, whole: Nanos) -> Column {
    let part = times.class(class);
    let entries = times.iter().filter(|(state, _)| state.class() == class).map(|(state, time)| Entry {
        state,
        text: format!("{state} {} {time}", share(time, whole)),
        meaning: meaning(state),
    });
    Column { heading: format!("{} {}", class_words(class), share(part, whole)), entries: entries.collect() }
}

fn event_columns(profiles: &[&Profile], unit: EventUnit) -> Vec<Column> {
    let sums = || profiles.iter().filter_map(|profile| profile.event.as_ref()).map(|event| &event.sums);
    let whole: u64 = sums().map(EventSums::total).sum();
    let column = |class: StateClass| {
        let part = sums().map(|sums| sums.class(class)).sum();
        let amount = format!("{} {}", share_of(part, whole), unit.shown(part, count));
        let entry = Entry { state: running(class), text: amount, meaning: meaning_of(class) };
        Column { heading: class_words(class).to_owned(), entries: vec![entry] }
    };
    StateClass::ALL.into_iter().map(column).collect()
}

fn blame_column(profiles: &[&Profile]) -> Column {
    let blamed: Nanos = profiles.iter().flat_map(|profile| &profile.blame).map(|blame| blame.wait).sum();
    let entry = |state, text: &str| Entry { state, text: text.to_owned(), meaning: "" };
    Column {
        heading: format!("{blamed} of waiting, charged to whoever owned the lock meanwhile"),
        entries: vec![
            entry(State::HeldRunning, "owned the lock: for what, which thread, its stack at that time"),
            entry(State::WaitQueued, "waited for it meanwhile"),
        ],
    }
}

impl Column {
    fn draw(&self, x: u32, svg: &mut String) {
        let heading = escaped(&self.heading);
        write!(svg, "<text x=\"{x}%\" dx=\"10\" y=\"{TOP}\" font-weight=\"bold\">{heading}</text>").expect(INFALLIBLE);
        for (y, entry) in (TOP + LINE..).step_by(LINE.try_into().expect("a small number")).zip(&self.entries) {
            entry.draw(x, y, svg);
        }
    }
}

const INFALLIBLE: &str = "writing to a string cannot fail";

impl Entry {
    fn draw(&self, x: u32, y: u32, svg: &mut String) {
        let (text, meaning, fill) = (escaped(&self.text), escaped(self.meaning), state_colour(self.state));
        write!(
            svg,
            "<g><title>{meaning}</title><rect x=\"{x}%\" y=\"{}\" width=\"11\" height=\"11\" \
             transform=\"translate(10 0)\" fill=\"rgb({},{},{})\"/>\
             <text x=\"{x}%\" dx=\"27\" y=\"{y}\">{text}</text></g>",
            y - 10,
            fill.r,
            fill.g,
            fill.b,
        )
        .expect(INFALLIBLE);
    }
}

const fn class_words(class: StateClass) -> &'static str {
    match class {
        StateClass::Inside => "Inside (owns the lock)",
        StateClass::Waiting => "Waiting (wants it)",
        StateClass::Outside => "Outside (neither)",
        StateClass::Unknown => "Unknown",
    }
}

const fn meaning_of(class: StateClass) -> &'static str {
    match class {
        StateClass::Inside => "its thread owned the lock",
        StateClass::Waiting => "its thread wanted the lock",
        StateClass::Outside => "its thread neither owned nor wanted the lock",
        StateClass::Unknown => meaning(State::Unknown),
    }
}

const fn meaning(state: State) -> &'static str {
    match state {
        State::HeldRunning => "owns the lock, on a CPU",
        State::HeldPreempted => "owns the lock, runnable, but has no CPU",
        State::HeldBlocked => "owns the lock, asleep in the kernel",
        State::WaitQueued => "wants the lock, another thread owns it",
        State::WaitHandoff => "wants the lock, nobody owns it: wake-up latency",
        State::OutsideRunning => "neither owns nor wants the lock, on a CPU",
        State::OutsidePreempted => "neither owns nor wants the lock, runnable, but has no CPU",
        State::OutsideBlocked => "neither owns nor wants the lock, asleep",
        State::Unknown => "before the first evidence, or after lost events",
    }
}
