//! The findings in words, each with what usually helps.

use crate::{
    model::profile::Profile,
    report::{
        names::clean,
        text::words::wrapped,
        verdict::{Finding, findings},
    },
};

/// The section; empty when there is nothing to say.
pub(super) fn section(profile: &Profile, width: u16) -> String {
    let findings = findings(profile);
    if findings.is_empty() {
        return String::new();
    }
    let paragraphs = (1..).zip(&findings).map(|(number, finding)| paragraph(number, finding, width.into()));
    format!("What this means\n{}", paragraphs.collect::<Vec<_>>().join("\n"))
}

fn paragraph(number: usize, finding: &Finding, width: usize) -> String {
    let words = wrapped(&format!("  {number}. "), &clean(&finding.words), width);
    match finding.remedy.as_str() {
        "" => words,
        remedy => format!("{words}\n{}", wrapped("     -> ", remedy, width)),
    }
}
