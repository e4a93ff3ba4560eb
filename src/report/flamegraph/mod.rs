//! The flame graph: an SVG that a browser zooms and searches, one fixed colour a state, widths in time.
//!
//! `rows` decides what lies under what, inferno draws it, `polish` turns inferno's drawing into ours. The same profile
//! always gives the same bytes.

mod blank;
mod legend;
mod paint;
mod polish;
mod rows;

use std::io;

use inferno::flamegraph::{
    Direction, Options, TextTruncateDirection,
    color::{BackgroundColor, Color, PaletteMap},
};

use crate::{
    model::{
        estimate::{Estimates, Method},
        family::Family,
        profile::{Counted, Profile},
        sampled_event::{EventProfile, EventUnit, SampledEvent},
        time::Nanos,
    },
    report::{
        Report, ReportError,
        flamegraph::{
            paint::{Painted, colour_of},
            polish::polished,
            rows::{Row, rows, rows_on_base},
        },
        names::{said, shortened},
        scaled::scaled,
        text::words::{count, runtime, share},
        view::View,
    },
};

/// Longer titles would run into the words "Reset Zoom" and "Reset Search" of a picture 1000 pixels wide.
const TITLE_LIMIT: usize = 88;
/// In percent. Narrower frames cannot be seen, and files of several megabytes bring browsers to a halt.
const MIN_WIDTH: f64 = 0.05;
/// Off-white: the pale colours of the preempted states must stand out from the paper.
const PAPER: Color = Color { r: 0xfd, g: 0xfd, b: 0xfb };

/// The flame graph of one view.
#[derive(Debug, Clone, Copy)]
pub struct FlameGraph {
    view: View,
}

impl FlameGraph {
    /// The flame graph of `view`.
    pub fn of(view: View) -> Self {
        Self { view }
    }
}

impl Report for FlameGraph {
    fn write(&self, profile: &Profile, out: &mut dyn io::Write) -> Result<(), ReportError> {
        let scaled = scaled(profile);
        let profile = &*scaled;
        let view = self.view.of(&[profile]);
        let rows = rows(profile, view);
        let (title, subtitle) = (title(profile, view), subtitle(profile, view));
        let svg = if rows.is_empty() {
            blank::picture(&title, &subtitle, view.empty_words())
        } else {
            let unit = count_name(&[profile], view);
            polished(&drawn(&rows, (title, subtitle), &unit)?, &legend::of(&[profile], view))
        };
        out.write_all(svg.as_bytes())?;
        Ok(())
    }

    /// One picture of all, each process on a base of its own.
    fn write_family(&self, family: &Family, out: &mut dyn io::Write) -> Result<(), ReportError> {
        let profiles: Vec<&Profile> = family.profiles().collect();
        if profiles.len() < 2 {
            return self.write(&family.root, out);
        }
        let view = self.view.of(&profiles);
        let rows: Vec<Row> = profiles.iter().flat_map(|profile| rows_on_base(profile, view)).collect();
        let title = title(&family.root, view);
        let subtitle = family_subtitle(&profiles);
        let svg = if rows.is_empty() {
            blank::picture(&title, &subtitle, view.empty_words())
        } else {
            let unit = count_name(&profiles, view);
            polished(&drawn(&rows, (title, subtitle), &unit)?, &legend::of(&profiles, view))
        };
        out.write_all(svg.as_bytes())?;
        Ok(())
    }
}

fn drawn(rows: &[Row], (title, subtitle): (String, String), count_name: &str) -> io::Result<String> {
    let mut palette = palette(rows);
    let mut options = Options::default();
    options.title = title;
    options.subtitle = Some(subtitle);
    options.count_name = count_name.to_owned();
    options.name_type = String::new();
    options.direction = Direction::Inverted;
    options.text_truncate_direction = TextTruncateDirection::Right;
    options.bgcolors = Some(BackgroundColor::Flat(PAPER));
    options.min_width = MIN_WIDTH;
    options.palette_map = Some(&mut palette);
    // Rows come in the order in which they are to stand; this mode alone keeps it (and wants them last first).
    options.flame_chart = true;
    let lines: Vec<String> = rows.iter().rev().map(Row::line).collect();
    let mut svg = Vec::new();
    inferno::flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)?;
    String::from_utf8(svg).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn palette(rows: &[Row]) -> PaletteMap {
    let mut palette = PaletteMap::default();
    // inferno's own frame around everything has no name.
    palette.insert("", Color { r: 0xd9, g: 0xd9, b: 0xd9 });
    for frame in rows.iter().flat_map(|row| &row.frames) {
        palette.insert(frame.marked(), colour_of(frame));
    }
    palette
}

/// What widths are: nanoseconds, which become times, or how often the event has happened.
fn count_name(profiles: &[&Profile], view: View) -> String {
    let event =
        profiles.iter().filter_map(|profile| shown_event(profile, view)).find(|event| event.unit == EventUnit::Times);
    event.map_or_else(|| polish::UNIT.to_owned(), |event| said(&event.name))
}

/// The event, if it is what the picture shows.
fn shown_event(profile: &Profile, view: View) -> Option<&SampledEvent> {
    profile.event.as_ref().filter(|_| view == View::Event).map(|event| &event.event)
}

fn title(profile: &Profile, view: View) -> String {
    let words = match shown_event(profile, view) {
        None => view.words().to_owned(),
        Some(event) => {
            let instead =
                event.instead_of.as_ref().map(|gone| format!(", since {} cannot be sampled here,", said(&gone.name)));
            format!("{}{} by state", said(&event.name), instead.unwrap_or_default())
        }
    };
    shortened(&format!("gilscope: {words} — {}", said(&profile.target.command)), TITLE_LIMIT)
}

/// How much there is of the event, and in how many samples.
fn event_words(event: &EventProfile) -> String {
    let total = event.event.unit.shown(event.sums.total(), count);
    format!("{} samples of {}, {total} in all", count(event.sums.samples), said(&event.event.name))
}

fn subtitle(profile: &Profile, view: View) -> String {
    if let Some(event) = profile.event.as_ref().filter(|_| view == View::Event) {
        return format!("{} · window {} · {}", runtime(&profile.target), profile.window, event_words(event));
    }
    let exactness = match &profile.estimates {
        _ if profile.exact => "exact".to_owned(),
        Some(Estimates { method: Method::Windows, observed, .. }) => {
            format!("estimated from {} of the time", share(*observed, profile.window))
        }
        _ if profile.counted == Counted::Waits => "waits exact, holds sampled".to_owned(),
        _ => "sampled, not exact".to_owned(),
    };
    let threads = match profile.threads.len() {
        1 => "1 thread".to_owned(),
        count => format!("{count} threads"),
    };
    let lifetimes: Nanos = profile.threads.iter().map(|thread| thread.lifetime).sum();
    format!(
        "{} · window {} · {threads}, together {lifetimes} · backend {}, {exactness}",
        runtime(&profile.target),
        profile.window,
        profile.backend.name(),
    )
}

fn family_subtitle(profiles: &[&Profile]) -> String {
    let threads: usize = profiles.iter().map(|profile| profile.threads.len()).sum();
    let lifetimes: Nanos = profiles.iter().flat_map(|profile| &profile.threads).map(|thread| thread.lifetime).sum();
    format!("{} processes · {threads} threads, together {lifetimes}", profiles.len())
}

/// A frame as it stands in a folded line: its name and the mark of its state.
impl Painted {
    fn marked(&self) -> String {
        format!("{}{}", self.name, paint::mark(self.state))
    }
}
