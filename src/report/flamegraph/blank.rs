//! The picture of a view that has nothing to show: a valid SVG that says so.

use crate::report::flamegraph::polish::escaped;

/// Title, subtitle and one sentence.
pub(super) fn picture(title: &str, subtitle: &str, sentence: &str) -> String {
    let line = |y: u32, size: u32, text: &str| {
        format!("<text x=\"50%\" y=\"{y}\" font-size=\"{size}\" text-anchor=\"middle\">{}</text>\n", escaped(text))
    };
    format!(
        "<?xml version=\"1.0\" standalone=\"no\"?>\n\
         <svg version=\"1.1\" width=\"1200\" height=\"140\" font-family=\"monospace\" \
         xmlns=\"http://www.w3.org/2000/svg\">\n\
         <rect width=\"100%\" height=\"140\" fill=\"rgb(253,253,251)\"/>\n{}{}{}</svg>\n",
        line(24, 17, title),
        line(48, 12, subtitle),
        line(96, 14, sentence),
    )
}
