//! The HTML of a report: one file without scripts, for screens, light and dark, and for paper. Pure.

use super::{DAY_MS, DayCounts, Report};
use crate::commands::findings::{number, time};
use std::fmt::Write;

const STYLE: &str = include_str!("report.css");
/// Size of the chart, in its own units.
const CHART_WIDTH: f64 = 720.0;
const CHART_HEIGHT: f64 = 160.0;
/// Events of the agent itself that are listed.
const NOTICES_MAX: usize = 1_000;

/// The controls that a ledger serves.
const CONTROLS: [(&str, &str); 4] = [
    (
        "NIST SP 800-53 AU-9(3)",
        "cryptographic protection of audit information: signed Merkle tree over each event",
    ),
    ("NIST SP 800-53 AU-10", "non-repudiation: signed checkpoints, published away from the host"),
    ("PCI DSS 10.3.4", "change detection on audit logs: each event is compared with its entry"),
    ("ISO 27001 A.8.15", "logs are produced, stored and protected: counts, gaps and their reasons"),
];

pub(super) fn write(report: &Report) -> String {
    let mut out = String::new();
    head(report, &mut out);
    ledgers(report, &mut out);
    chart(report, &mut out);
    days(report, &mut out);
    export(report, &mut out);
    gaps(report, &mut out);
    history(report, &mut out);
    out.push_str("<h2>Controls</h2><table><tbody>");
    for (control, text) in CONTROLS {
        row(&mut out, &[control, text]);
    }
    out.push_str("</tbody></table></main></body></html>\n");
    out
}

fn head(report: &Report, out: &mut String) {
    let from =
        if report.times.start == i64::MIN { "the beginning".to_owned() } else { time(report.times.start) };
    let to = if report.times.end == i64::MAX { "now".to_owned() } else { time(report.times.end) };
    let (class, result) = match report.findings() {
        0 => ("good", "Nothing was found".to_owned()),
        count => ("bad", format!("{} found", number(count))),
    };
    let made = time(report.made_ms);
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>Confluence audit evidence</title><style>{STYLE}</style></head><body><main>\
         <h1>Confluence audit evidence</h1><p>{from} to {to}, UTC. Made {made} by {} {}.</p>\
         <p class=\"result {class}\">{result}</p>",
        crate::NAME,
        escaped(crate::VERSION)
    );
}

fn ledgers(report: &Report, out: &mut String) {
    out.push_str("<h2>Ledgers and checkpoints</h2>");
    table(out, &["Source", "Entries", "Checkpoints", "From the export", "Vouched for", "Key", "Findings"]);
    for source in &report.sources {
        let check = &source.check;
        let keys = check.checkpoints.last().map(|last| last.signed_by.join(", ")).unwrap_or_default();
        let cells = [
            escaped(&source.source),
            number(check.entries.end - check.entries.start),
            number(check.checkpoints.len() as u64),
            number(source.published as u64),
            number(check.vouched),
            escaped(if keys.is_empty() { "not verified" } else { &keys }),
            number(check.findings.len() as u64),
        ];
        html_row(out, &cells);
    }
    out.push_str("</tbody></table>");
    for source in &report.sources {
        for finding in &source.check.findings {
            let (source, text) = (escaped(&source.source), escaped(&finding.to_string()));
            let _ = write!(out, "<p class=\"bad\">{source}: {text}</p>");
        }
    }
}

/// Events a day by input: bars without a script.
fn chart(report: &Report, out: &mut String) {
    let (Some(first), Some(last)) = (report.days.keys().next(), report.days.keys().next_back()) else {
        return;
    };
    let count = (last - first + 1) as f64;
    let total = |day: &DayCounts| day.file + day.api + day.agent;
    let highest = report.days.values().map(total).max().unwrap_or(0).max(1) as f64;
    let width = CHART_WIDTH / count;
    out.push_str("<h2>Events a day</h2><p class=\"legend\"><span class=\"file\"></span> files <span class=\"api\"></span> API <span class=\"agent\"></span> the agent itself</p>");
    let _ = write!(
        out,
        "<svg viewBox=\"0 0 {CHART_WIDTH} {CHART_HEIGHT}\" role=\"img\"><title>Events a day by input</title>"
    );
    for (day, counts) in &report.days {
        let (mut top, left) = (CHART_HEIGHT, (day - first) as f64 * width);
        for (class, count) in [("file", counts.file), ("api", counts.api), ("agent", counts.agent)] {
            let height = count as f64 / highest * CHART_HEIGHT;
            top -= height;
            if count > 0 {
                let bar = (width * 0.85).max(0.5);
                let _ = write!(
                    out,
                    "<rect class=\"{class}\" x=\"{left:.2}\" y=\"{top:.2}\" width=\"{bar:.2}\" height=\"{height:.2}\"><title>{}: {count}</title></rect>",
                    date(*day)
                );
            }
        }
    }
    let _ = write!(
        out,
        "</svg><p class=\"axis\"><span>{}</span><span>{} at most</span><span>{}</span></p>",
        date(*first),
        number(highest as u64),
        date(*last)
    );
}

fn days(report: &Report, out: &mut String) {
    out.push_str("<h2>Counts by day</h2>");
    table(out, &["Day", "From files", "From the API", "Of the agent", "In quarantine", "Left out"]);
    for (day, counts) in &report.days {
        let DayCounts { file, api, agent, quarantined, left_out } = *counts;
        let cells =
            [date(*day), number(file), number(api), number(agent), number(quarantined), number(left_out)];
        html_row(out, &cells);
    }
    out.push_str("</tbody></table>");
    if report.without_time > 0 {
        let _ = write!(out, "<p>{} events without a time are on no day.</p>", number(report.without_time));
    }
}

fn export(report: &Report, out: &mut String) {
    out.push_str("<h2>Compared with a sink</h2>");
    let Some((export, _)) = &report.compared else {
        out.push_str("<p>No export was given, so no sink was compared.</p>");
        return;
    };
    let counts = report.counts();
    let files =
        export.files.iter().map(|file| escaped(&file.to_string_lossy())).collect::<Vec<_>>().join(", ");
    let _ = write!(out, "<p>{files}</p>");
    table(out, &["Expected", "Intact", "By id", "Altered", "Missing", "Extra", "Doubled", "In quarantine"]);
    let cells = [
        counts.expected,
        counts.intact,
        counts.present,
        counts.altered,
        counts.missing,
        counts.extra,
        counts.doubled,
        counts.quarantined,
    ];
    html_row(out, &cells.map(number));
    out.push_str("</tbody></table>");
}

fn gaps(report: &Report, out: &mut String) {
    out.push_str("<h2>Gaps</h2>");
    if report.gaps.is_empty() {
        out.push_str("<p>No byte of an audit file is known to be lost.</p>");
        return;
    }
    table(out, &["Time", "Source", "File", "From byte", "Bytes"]);
    for gap in &report.gaps {
        let bytes = gap.bytes.end - gap.bytes.start;
        let cells = [
            time(gap.at_ms),
            escaped(&gap.source),
            gap.file.to_string(),
            number(gap.bytes.start),
            number(bytes),
        ];
        html_row(out, &cells);
    }
    out.push_str("</tbody></table>");
}

/// What the agent has reported: switches, gaps, tampering, coverage.
fn history(report: &Report, out: &mut String) {
    out.push_str("<h2>What the agent has reported</h2>");
    let Some((export, _)) = &report.compared else {
        let count = number(report.notices.len() as u64);
        let _ = write!(
            out,
            "<p>{count} events of the agent itself are in the ledger, which has their digests only. Give an export, and their words stand here.</p>"
        );
        return;
    };
    let is_listed = |id: &u128| report.notices.contains(id);
    let mut notices: Vec<_> = export.notices.iter().filter(|notice| is_listed(&notice.id)).collect();
    notices.retain(|notice| notice.action != crate::notice::LEDGER_SEALED);
    notices.sort_by_key(|notice| notice.time_ms);
    if notices.is_empty() {
        out.push_str("<p>Nothing but checkpoints.</p>");
        return;
    }
    table(out, &["Time", "Event", "Message"]);
    for notice in notices.iter().take(NOTICES_MAX) {
        let cells = [
            notice.time_ms.map_or_else(String::new, time),
            escaped(&notice.action),
            escaped(&notice.message),
        ];
        html_row(out, &cells);
    }
    out.push_str("</tbody></table>");
}

fn table(out: &mut String, heads: &[&str]) {
    out.push_str("<table><thead><tr>");
    for head in heads {
        let _ = write!(out, "<th>{head}</th>");
    }
    out.push_str("</tr></thead><tbody>");
}

fn row(out: &mut String, cells: &[&str]) {
    let cells: Vec<String> = cells.iter().map(|cell| escaped(cell)).collect();
    html_row(out, &cells);
}

/// The cells are HTML.
fn html_row(out: &mut String, cells: &[String]) {
    out.push_str("<tr>");
    for cell in cells {
        let is_number = cell.bytes().all(|byte| byte.is_ascii_digit() || byte == b',');
        let _ = write!(out, "<td{}>{cell}</td>", if is_number { " class=\"n\"" } else { "" });
    }
    out.push_str("</tr>");
}

fn date(day: i64) -> String {
    time(day.saturating_mul(DAY_MS)).get(..10).unwrap_or_default().to_owned()
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}
