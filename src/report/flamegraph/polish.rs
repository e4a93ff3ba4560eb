//! From inferno's drawing to ours: marks out, nanoseconds into times, room for the legend.
//!
//! Works on the text of the SVG. It relies on how inferno 0.12 writes its elements; where an expected piece is
//! missing the drawing stays as it is, which is still a valid picture.

use crate::{
    model::time::Nanos,
    report::flamegraph::{legend::Legend, paint::is_mark},
};

/// The unit inferno is told to write; `retitled` looks for it.
pub(super) const UNIT: &str = "ns";

/// inferno's drawing with times and `legend`.
pub(super) fn polished(svg: &str, legend: &Legend) -> String {
    let mut out = String::with_capacity(svg.len() + legend.svg.len());
    let (head, frames) = svg.split_at(svg.find("<svg id=\"frames\"").unwrap_or(svg.len()));
    out.push_str(&roomier_head(head, legend.height));
    out.push_str(&legend.svg);
    push_retitled(
        &frames.replacen("<svg id=\"frames\" ", &format!("<svg id=\"frames\" y=\"{}\" ", legend.height), 1),
        &mut out,
    );
    out.retain(|shown| !is_mark(shown));
    out
}

/// `text` inside an XML element or attribute.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Everything before the frames, with the picture higher and what stood below the legend's place moved down.
fn roomier_head(head: &str, by: u32) -> String {
    let Some(height) = between(head, " height=\"", "\"").and_then(|text| text.parse::<u32>().ok()) else {
        return head.to_owned();
    };
    let tall = format!("height=\"{height}\"");
    let taller = head.replace(&tall, &format!("height=\"{}\"", height + by)).replacen(
        &format!(" {height}\" xmlns="),
        &format!(" {}\" xmlns=", height + by),
        1,
    );
    // At inferno's opacity of 0.1 nobody finds the search.
    let taller = taller.replacen("opacity:0.1;", "opacity:0.6;", 1);
    lowered(&lowered(&taller, "id=\"details\"", by), "id=\"matched\"", by)
}

/// Moves the element that `id` belongs to down.
fn lowered(head: &str, id: &str, by: u32) -> String {
    let Some((before, element)) = head.find(id).map(|at| head.split_at(at)) else {
        return head.to_owned();
    };
    let Some(y) = between(element, " y=\"", "\"") else {
        return head.to_owned();
    };
    let Ok(lower) = y.parse::<f64>().map(|y| y + f64::from(by)) else {
        return head.to_owned();
    };
    format!("{before}{}", element.replacen(&format!(" y=\"{y}\""), &format!(" y=\"{lower:.2}\""), 1))
}

fn push_retitled(frames: &str, out: &mut String) {
    let mut rest = frames;
    while let Some((before, from_title)) = rest.split_once("<title>") {
        let (title, after) = from_title.split_once("</title>").unwrap_or((from_title, ""));
        out.push_str(before);
        out.push_str("<title>");
        out.push_str(&retitled(title));
        out.push_str("</title>");
        rest = after;
    }
    out.push_str(rest);
}

/// `name (1,234,567 ns, 12.34%)` as `name (1.23 ms, 12.34%)`.
fn retitled(title: &str) -> String {
    let time = title.rsplit_once(" (").and_then(|(name, amount)| {
        let (count, share) = amount.split_once(&format!(" {UNIT}, "))?;
        let nanos: u64 = count.replace(',', "").parse().ok()?;
        Some(format!("{name} ({}, {share}", Nanos::from_nanos(nanos)))
    });
    time.unwrap_or_else(|| title.to_owned())
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, after) = text.split_once(start)?;
    after.split_once(end).map(|(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use super::{lowered, retitled};

    #[test]
    fn counts_of_nanoseconds_become_times() {
        assert_eq!(retitled("f (a.py:3) (1,234,567 ns, 12.34%)"), "f (a.py:3) (1.23 ms, 12.34%)");
        assert_eq!(retitled("all (41,234,000,000 ns, 100%)"), "all (41.2 s, 100%)");
        assert_eq!(retitled("no amount"), "no amount");
    }

    #[test]
    fn only_the_named_element_moves() {
        let head = r#"<text id="a" x="1" y="5.00"></text><text id="b" x="1" y="5.00"></text>"#;
        assert_eq!(
            lowered(head, r#"id="b""#, 10),
            r#"<text id="a" x="1" y="5.00"></text><text id="b" x="1" y="15.00"></text>"#
        );
    }
}
