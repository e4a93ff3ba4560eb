//! Numbers and names as a person reads them.

use std::time::Duration;

use crate::{
    model::{
        estimate::{Estimates, Method},
        profile::{Counted, Profile, TargetSummary},
        time::Nanos,
    },
    report::names::clean,
};

/// `41 %`, `4.1 %`, `< 0.1 %`, `0 %`; `–` when there is no whole to be a share of.
pub(in crate::report) fn share(part: Nanos, whole: Nanos) -> String {
    if whole == Nanos::ZERO {
        return "–".to_owned();
    }
    let percent = part.share_of(whole) * 100.0;
    match percent {
        _ if part == Nanos::ZERO => "0 %".to_owned(),
        ..0.05 => "< 0.1 %".to_owned(),
        ..9.95 => format!("{percent:.1} %"),
        _ => format!("{percent:.0} %"),
    }
}

/// `share` without its unit, for places where several stand side by side.
pub(super) fn bare_share(part: Nanos, whole: Nanos) -> String {
    share(part, whole).trim_end_matches(" %").replace("< ", "<")
}

/// The same of a share from 0 to 1.
pub(in crate::report) fn percent(share: f64) -> String {
    let part = Duration::try_from_secs_f64(share).map_or(Nanos::ZERO, |part| saturated(part.as_nanos()));
    self::share(part, Nanos::from_millis(1000))
}

fn saturated(nanos: u128) -> Nanos {
    Nanos::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// `0.41`, `2.1`, `31`, `1 234`: two digits, or all before the point.
pub(in crate::report) fn figure(number: f64) -> String {
    match number {
        _ if number == 0.0 => "0".to_owned(),
        ..0.01 => "< 0.01".to_owned(),
        ..0.995 => format!("{number:.2}"),
        ..9.95 => format!("{number:.1}"),
        _ => count(number.round() as u64),
    }
}

/// A count as such, or in millions and more: `123 456`, `1.23 M`, `45.6 G`.
pub(super) fn amount(number: u64) -> String {
    let unit = [(1e12, "T"), (1e9, "G"), (1e6, "M")].into_iter().find(|(size, _)| number as f64 >= *size * 0.9995);
    let Some((size, unit)) = unit else {
        return count(number);
    };
    match number as f64 / size {
        shown @ ..9.995 => format!("{shown:.2} {unit}"),
        shown @ ..99.95 => format!("{shown:.1} {unit}"),
        shown => format!("{} {unit}", count(shown.round() as u64)),
    }
}

/// `1 234 567`.
pub(in crate::report) fn count(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let (head, tail) = digits.split_at(first);
    let groups = tail.as_bytes().chunks(3).map(|group| String::from_utf8_lossy(group).into_owned());
    let head = (!head.is_empty()).then(|| head.to_owned());
    head.into_iter().chain(groups).collect::<Vec<_>>().join(" ")
}

/// `1 thread`, `3 threads`.
pub(super) fn counted(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(u64::try_from(number).unwrap_or(u64::MAX)))
}

/// `CPython 3.12.1`.
pub(in crate::report) fn runtime(target: &TargetSummary) -> String {
    let name = match target.runtime.as_str() {
        "cpython" => "CPython",
        "pypy" => "PyPy",
        "toyvm" => "toy VM",
        other => other,
    };
    let build = if target.free_threaded { " (free-threaded build)" } else { "" };
    format!("{} {}{build}", clean(name), clean(&target.runtime_version)).trim_end().to_owned()
}

/// Whether all lock events were taken, and if not, which.
pub(in crate::report) fn exactness(profile: &Profile) -> String {
    match &profile.estimates {
        _ if profile.exact => "exact: every lock event was taken".to_owned(),
        Some(Estimates { method: Method::Windows, observed, .. }) => {
            format!("estimated: lock events were taken in {} of the time", share(*observed, profile.window))
        }
        _ if profile.counted == Counted::Waits => "waits exact, holds sampled".to_owned(),
        _ => "not exact: lock events were sampled".to_owned(),
    }
}

/// `function (file.py)`.
pub(in crate::report) fn place(function: &str, file: &str) -> String {
    match file.rsplit('/').next() {
        Some(file) if !file.is_empty() => clean(&format!("{function} ({file})")),
        _ => clean(function),
    }
}

/// What stays on one line with the number before it.
const UNITS: [&str; 5] = ["ns", "µs", "ms", "s", "%"];

/// `text` in lines of at most `width` characters where words allow it, the first after `first`, the others as far in.
pub(super) fn wrapped(first: &str, text: &str, width: usize) -> String {
    let indent = first.chars().count();
    let (mut out, mut at) = (first.to_owned(), indent);
    for word in unbroken(text) {
        let length = word.chars().count();
        if at > indent && at + 1 + length > width {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            at = indent;
        }
        if at > indent {
            out.push(' ');
            at += 1;
        }
        out.push_str(&word);
        at += length;
    }
    out
}

/// The words of `text`, a number together with its unit.
fn unbroken(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let is_unit = UNITS.contains(&word.trim_end_matches(|shown: char| ",.;:)".contains(shown)));
        match words.last_mut().filter(|last| is_unit && last.ends_with(|shown: char| shown.is_ascii_digit())) {
            Some(number) => number.extend([" ", word]),
            None => words.push(word.to_owned()),
        }
    }
    words
}

/// A number of holds, where the source sees each of them.
pub(in crate::report) fn holds_of(profile: &Profile, number: u64) -> String {
    if profile.counted.holds() { count(number) } else { "unknown".to_owned() }
}

/// A number of waits, likewise.
pub(in crate::report) fn waits_of(profile: &Profile, number: u64) -> String {
    if profile.counted.waits() { count(number) } else { "unknown".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::{amount, bare_share, count, figure, percent, share, wrapped};
    use crate::model::time::Nanos;

    #[test]
    fn shares_keep_two_digits_and_never_round_something_to_nothing() {
        let of = |part, whole| share(Nanos::from_nanos(part), Nanos::from_nanos(whole));
        assert_eq!(of(0, 10), "0 %");
        assert_eq!(of(1, 100_000), "< 0.1 %");
        assert_eq!(of(41, 1_000), "4.1 %");
        assert_eq!(of(996, 10_000), "10 %");
        assert_eq!(of(10, 10), "100 %");
        assert_eq!(of(1, 0), "–");
        assert_eq!(bare_share(Nanos::from_nanos(1), Nanos::from_nanos(100_000)), "<0.1");
    }

    #[test]
    fn figures_and_amounts_are_short() {
        assert_eq!([0.0, 0.001, 0.404, 0.999, 2.13, 31.2].map(figure), ["0", "< 0.01", "0.40", "1.0", "2.1", "31"]);
        assert_eq!([0.0, 0.041, 0.31, 2.0].map(percent), ["0 %", "4.1 %", "31 %", "200 %"]);
        let amounts = [999_499, 999_999, 1_234_567, 45_600_000_000, 7_000_000_000_000].map(amount);
        assert_eq!(amounts, ["999 499", "1.00 M", "1.23 M", "45.6 G", "7.00 T"]);
    }

    #[test]
    fn long_lines_are_wrapped_below_their_beginning() {
        assert_eq!(wrapped("1. ", "aa bb cc", 8), "1. aa bb\n   cc");
        assert_eq!(wrapped("1. ", "much-too-long-a-word b", 8), "1. much-too-long-a-word\n   b");
        assert_eq!(wrapped("", "of 5.89 ms, 7 %; s", 9), "of\n5.89 ms,\n7 %; s");
    }

    #[test]
    fn counts_are_grouped_by_three() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1 000");
        assert_eq!(count(12_345_678), "12 345 678");
    }
}
