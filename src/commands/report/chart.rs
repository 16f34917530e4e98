//! The chart of events a day by input: bars in SVG, without a script. Pure.

use super::markup::{date, heading};
use super::{DAY_MS, DayCounts, Report};
use crate::commands::findings::number;
use std::fmt::Write;
use std::ops::RangeInclusive;

/// Size of the chart, in its own units.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 160.0;
/// A bar of a short period is not wider than this.
const BAR_WIDTH_MAX: f64 = 24.0;
/// Longer periods are drawn from the first day with events to the last one.
const DAYS_MAX: i64 = 3 * 366;

pub(super) fn chart(report: &Report, out: &mut String) {
    let Some(shown) = shown(report) else { return };
    let total = |day: &DayCounts| day.file + day.api + day.agent;
    let highest = report.days.values().map(total).max().unwrap_or(0).max(1);
    let width = WIDTH / (shown.end() - shown.start() + 1) as f64;
    let bar = (width * 0.85).clamp(0.5, BAR_WIDTH_MAX);
    heading(out, "Events a day");
    out.push_str(
        "<p class=\"legend\"><span class=\"file\"></span> files <span class=\"api\"></span> API \
         <span class=\"agent\"></span> the agent itself</p>",
    );
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>Events a day by input, {} at most</title>",
        number(highest)
    );
    for (day, counts) in report.days.range(shown.clone()) {
        let left = (day - shown.start()) as f64 * width + (width - bar) / 2.0;
        let mut top = HEIGHT;
        for (class, count) in [("file", counts.file), ("api", counts.api), ("agent", counts.agent)] {
            if count == 0 {
                continue;
            }
            let height = count as f64 / highest as f64 * HEIGHT;
            top -= height;
            let _ = write!(
                out,
                "<rect class=\"{class}\" x=\"{left:.2}\" y=\"{top:.2}\" width=\"{bar:.2}\" height=\"{height:.2}\">\
                 <title>{}, {class}: {}</title></rect>",
                date(*day),
                number(count)
            );
        }
    }
    let _ = write!(
        out,
        "</svg><p class=\"axis\"><span>{}</span><span>highest: {}</span><span>{}</span></p>",
        date(*shown.start()),
        number(highest),
        date(*shown.end())
    );
}

/// The days of the period, so that days without events are seen.
fn shown(report: &Report) -> Option<RangeInclusive<i64>> {
    let (first, last) = (*report.days.keys().next()?, *report.days.keys().next_back()?);
    let day = |ms: i64| ms.div_euclid(DAY_MS);
    let begin = Some(report.times.start).filter(|start| *start != i64::MIN).map_or(first, day).min(first);
    let end = day(report.times.end.min(report.made_ms).saturating_sub(1)).max(last);
    Some(if end - begin < DAYS_MAX { begin..=end } else { first..=last })
}
