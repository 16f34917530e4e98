//! Events a minute as a small chart in SVG. Pure.

use super::words;
use std::fmt::Write;

/// Size in its own units. A minute has a unit of width.
const MINUTES: usize = 60;
const HEIGHT: f64 = 16.0;
/// A minute with few events is still seen.
const BAR_MIN: f64 = 0.6;

/// `minutes`: at most 60, oldest first; the newest is drawn on the right.
pub(super) fn sparkline(minutes: &[u64], out: &mut String) {
    let minutes = &minutes[minutes.len().saturating_sub(MINUTES)..];
    let highest = minutes.iter().copied().max().unwrap_or(0);
    if highest == 0 {
        return out.push_str("<p class=\"soft\">No event in the last hour.</p>");
    }
    let title = format!("Events a minute in the last hour, {} at most", words::number(highest));
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "<figure><svg viewBox=\"0 0 {MINUTES} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{title}\">"
    );
    let first = MINUTES - minutes.len();
    for (at, count) in minutes.iter().enumerate().filter(|(_, count)| **count > 0) {
        let height = (*count as f64 / highest as f64 * HEIGHT).max(BAR_MIN);
        let (left, top) = (first + at, HEIGHT - height);
        let _ = write!(out, "<rect x=\"{left}.1\" y=\"{top:.2}\" width=\".8\" height=\"{height:.2}\"/>");
    }
    let _ = write!(out, "</svg><figcaption>{title}</figcaption></figure>");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars(minutes: &[u64]) -> Vec<String> {
        let mut out = String::new();
        sparkline(minutes, &mut out);
        out.split("<rect ").skip(1).map(|bar| bar.split("/>").next().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_newest_minute_is_on_the_right() {
        let highest = "x=\"59.1\" y=\"0.00\" width=\".8\" height=\"16.00\"";
        assert_eq!(bars(&[5, 0, 10]), ["x=\"57.1\" y=\"8.00\" width=\".8\" height=\"8.00\"", highest]);
        assert_eq!(bars(&[0, 0]), [""; 0]);
        assert_eq!(bars(&[1; 500]).len(), 60);
        assert_eq!(bars(&[1, 1_000_000])[0], "x=\"58.1\" y=\"15.40\" width=\".8\" height=\"0.60\"");
    }
}
