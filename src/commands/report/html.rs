//! The HTML of a report: one file without scripts, for screens, light and dark, and for paper. Pure.

use super::chart::chart;
use super::markup::{Table, bad, date, escaped, heading, paragraph, verbatim};
use super::switches::{ApiTime, is_switch};
use super::{Comparison, DayCounts, Report, SourceReport};
use crate::commands::findings::{counted, detail, number, time};
use crate::evidence::finding::Counts;
use crate::ledger::{CheckpointName, Verifier};
use std::fmt::Write;

const STYLE: &str = include_str!("report.css");
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
    chart(report, &mut out);
    days(report, &mut out);
    on_the_api(report, &mut out);
    compared(report, &mut out);
    gaps(report, &mut out);
    history(report, &mut out);
    ledgers(report, &mut out);
    check(report, &mut out);
    heading(&mut out, "Controls that this report serves");
    let mut table = Table::begin(&mut out, &["Control", "What serves it"], &[]);
    CONTROLS.iter().for_each(|(control, text)| table.row(&[control, text], &[]));
    table.end();
    out.push_str("</main></body></html>\n");
    out
}

fn head(report: &Report, out: &mut String) {
    let from =
        if report.times.start == i64::MIN { "the beginning".to_owned() } else { time(report.times.start) };
    let to = if report.times.end == i64::MAX { "now".to_owned() } else { time(report.times.end) };
    let (class, result) = match report.findings() {
        0 => ("good", "No findings".to_owned()),
        count => ("bad", counted(count, "finding", "findings")),
    };
    let sources: Vec<String> = report.sources.iter().map(|source| escaped(&source.source)).collect();
    let made = time(report.made_ms);
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>Confluence audit evidence</title><style>{STYLE}</style></head><body><main>\
         <h1>Confluence audit evidence</h1><p>{from} to {to}, UTC. Source: {}.</p>\
         <p>Made {made} by {} {}.</p><p class=\"result {class}\">{result}</p>",
        sources.join(", "),
        crate::NAME,
        escaped(crate::VERSION)
    );
    for source in &report.sources {
        for finding in &source.check.findings {
            bad(out, &format!("Ledger of {}: {finding}", source.source));
        }
    }
    for Comparison { name, days, export, .. } in &report.compared {
        let count = days.total().findings() + export.cut;
        if count > 0 {
            bad(out, &format!("{name}: {}", counted(count, "finding", "findings")));
        }
    }
    if !report.unchecked.is_empty() {
        out.push_str("<p>Not checked:</p><ul>");
        for text in &report.unchecked {
            let _ = write!(out, "<li>{}</li>", escaped(&text.replace('\n', " ")));
        }
        out.push_str("</ul>");
    }
}

fn days(report: &Report, out: &mut String) {
    heading(out, "Counts by day");
    if report.days.is_empty() {
        return paragraph(out, "No event of this period is in the ledger.");
    }
    let heads = ["From files", "From the API", "Of the agent", "In quarantine", "Left out"];
    let mut table = Table::begin(out, &["Day"], &heads);
    let mut total = [0; 5];
    for (day, DayCounts { file, api, agent, quarantined, left_out }) in &report.days {
        let counts = [*file, *api, *agent, *quarantined, *left_out];
        total.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
        table.row(&[&date(*day)], &counts);
    }
    table.total(&["All"], &total);
    table.end();
    paragraph(
        out,
        "From the ledger. Days that are not listed have no events. Events in quarantine were refused by a sink, and \
         are also counted by their input.",
    );
    if report.without_time > 0 {
        let events = counted(report.without_time, "event", "events");
        paragraph(out, &format!("{events} without a time on no day."));
    }
}

/// How long each source read the API.
fn on_the_api(report: &Report, out: &mut String) {
    heading(out, "Time on the API");
    let known = report.known_notices();
    let unknown = report.notices.len().saturating_sub(known.len()) as u64;
    let period = report.times.start..report.times.end.min(report.made_ms);
    out.push_str("<ul>");
    for (at, source) in report.sources.iter().enumerate() {
        let of_source = known.iter().filter(|(entry, notice)| entry.source == at && is_switch(notice));
        let switches: Vec<_> = of_source.map(|(_, notice)| *notice).collect();
        let all = report.notices.values().filter(|entry| entry.source == at).count();
        let words_known = all == 0 || known.iter().any(|(entry, _)| entry.source == at);
        let text = api_text(source, ApiTime::of(&switches, &period), words_known);
        let _ = write!(out, "<li>{}: {}</li>", escaped(&source.source), escaped(&text));
    }
    out.push_str("</ul>");
    if unknown > 0 && !known.is_empty() {
        let events = counted(unknown, "event", "events");
        let text = "in nothing that was compared. Switches among them are not counted.";
        paragraph(out, &format!("{events} of the agent itself in the ledger: {text}"));
    }
}

fn api_text(source: &SourceReport, api: ApiTime, words_known: bool) -> String {
    let events = format!("{} by the API", counted(source.api, "event", "events"));
    if source.file == 0 && source.api > 0 && api.switches == 0 {
        return format!("all {events}; no record of an audit file was delivered.");
    }
    if !words_known {
        return format!(
            "{events}. The minutes are not known: the ledger has only digests of the agent's own events. Their words \
             come from the file sink (`--config`) or from an export (`--export`)."
        );
    }
    let minutes = counted(api.minutes(), "minute", "minutes");
    let switches = counted(api.switches, "switch", "switches");
    let mut text = format!("{minutes} on the API, {switches}, {events}.");
    if api.since_unknown {
        text.push_str(" It read the API before the first known switch; since when is not known.");
    }
    if api.lasts {
        text.push_str(" It still read the API at the end of the period.");
    }
    text
}

fn compared(report: &Report, out: &mut String) {
    heading(out, "Compared with sinks");
    if report.compared.is_empty() {
        return paragraph(
            out,
            "No sink was compared. `--config` compares file sinks, `--export` what a sink exported.",
        );
    }
    let heads = ["Expected", "Intact", "By id", "Altered", "Missing", "Extra", "Doubled", "In quarantine"];
    let mut table = Table::begin(out, &["Compared"], &heads);
    for Comparison { name, days, .. } in &report.compared {
        let Counts { expected, intact, present, altered, missing, extra, doubled, quarantined, .. } =
            days.total();
        table.row(&[name], &[expected, intact, present, altered, missing, extra, doubled, quarantined]);
    }
    table.end();
    for Comparison { name, export, findings: (findings, left_out), .. } in &report.compared {
        let files: Vec<String> =
            export.files.iter().map(|file| file.to_string_lossy().into_owned()).collect();
        paragraph(out, &format!("{name}: {}.", files.join(", ")));
        if findings.is_empty() {
            continue;
        }
        let mut table = Table::begin(out, &["Finding", "Event", "Time", "Where"], &[]);
        for finding in findings {
            let time = finding.time.as_deref().unwrap_or("without a time");
            table.row(&[finding.finding, &finding.id, time, &detail(finding)], &[]);
        }
        table.end();
        if *left_out > 0 {
            paragraph(out, &format!("… and {} more; `verify --json` prints all.", number(*left_out)));
        }
    }
}

fn gaps(report: &Report, out: &mut String) {
    heading(out, "Gaps");
    if report.gaps.is_empty() {
        return paragraph(out, "No byte of an audit file is known to be lost.");
    }
    let mut table = Table::begin(out, &["Time", "Source", "File"], &["From byte", "Bytes"]);
    for gap in &report.gaps {
        let bytes = gap.bytes.end - gap.bytes.start;
        table.row(&[&time(gap.at_ms), &gap.source, &gap.file.to_string()], &[gap.bytes.start, bytes]);
    }
    table.end();
    if report.gaps_left_out > 0 {
        paragraph(out, &format!("… and {} more.", number(report.gaps_left_out)));
    }
}

/// What the agent has reported: switches, gaps, tampering, coverage.
fn history(report: &Report, out: &mut String) {
    heading(out, "What the agent has reported");
    let all = report.notices.values().filter(|entry| entry.is_in_period).count();
    let mut known = report.known_notices();
    known.retain(|(entry, _)| entry.is_in_period);
    if known.len() < all {
        let events = counted((all - known.len()) as u64, "event", "events");
        let text = "known by digest only. Their words come from the file sink (`--config`) or from an export (`--export`).";
        paragraph(out, &format!("{events} of the agent itself: {text}"));
    }
    let before = known.len();
    known.retain(|(_, notice)| notice.action != crate::notice::LEDGER_SEALED);
    let sealed = counted((before - known.len()) as u64, "signed checkpoint", "signed checkpoints");
    if known.is_empty() {
        match before {
            0 if all == 0 => paragraph(out, "Nothing in this period."),
            0 => {}
            _ => paragraph(out, &format!("Nothing but {sealed}.")),
        }
        return;
    }
    let mut table = Table::begin(out, &["Time", "Source", "Event", "Message"], &[]);
    for (entry, notice) in known.iter().take(NOTICES_MAX) {
        let time = notice.time_ms.map_or_else(String::new, time);
        let source = report.sources.get(entry.source).map_or("", |source| &source.source);
        table.row(&[&time, source, &notice.action, &notice.message], &[]);
    }
    table.end();
    let more = known.len().saturating_sub(NOTICES_MAX);
    if more > 0 {
        paragraph(out, &format!("… and {} more.", number(more as u64)));
    }
    if before > known.len() {
        paragraph(out, &format!("And {sealed}."));
    }
}

fn ledgers(report: &Report, out: &mut String) {
    heading(out, "Ledgers and checkpoints");
    let heads = ["Entries", "Checkpoints", "From exports", "Vouched for", "Findings"];
    let mut table = Table::begin(out, &["Source"], &heads);
    for SourceReport { source, check, published, .. } in &report.sources {
        let counts = [
            check.entries.end - check.entries.start,
            check.checkpoints.len() as u64,
            *published as u64,
            check.vouched,
            check.findings.len() as u64,
        ];
        table.row(&[source], &counts);
    }
    table.end();
    for SourceReport { source, newest, .. } in &report.sources {
        let Some(newest) = newest else {
            paragraph(out, &format!("Source {source}: no checkpoint that its entries match."));
            continue;
        };
        let from = match newest.name {
            CheckpointName::Ledger(_) => "in the ledger",
            CheckpointName::Given(_) => "in what was compared",
        };
        let entries = counted(newest.size, "entry", "entries");
        paragraph(out, &format!("Newest checkpoint of source {source}, {from}, over {entries}:"));
        verbatim(out, &newest.note);
    }
}

/// How a reader checks the numbers.
fn check(report: &Report, out: &mut String) {
    heading(out, "How to check this report");
    let keys: Vec<String> = report.keys.iter().map(Verifier::to_string).collect();
    match &keys[..] {
        [] => paragraph(out, "No key was known, so no signature was verified."),
        _ => {
            paragraph(out, "Signed with, and verified by, the verifier key:");
            verbatim(out, &keys.join("\n"));
            paragraph(
                out,
                "Compare it with the key that was noted away from the host, as `ledger key` printed it.",
            );
        }
    }
    let mut options = match &keys[..] {
        [] => " --key KEY".to_owned(),
        _ => format!(" --key {}", keys.iter().map(|key| format!("'{key}'")).collect::<Vec<_>>().join(" ")),
    };
    if report.times.start != i64::MIN {
        let _ = write!(options, " --from {}", time(report.times.start));
    }
    if report.times.end != i64::MAX {
        let _ = write!(options, " --to {}", time(report.times.end));
    }
    paragraph(
        out,
        "The ledger is exported on the host, and checked on any machine with events from the sink:",
    );
    let name = crate::NAME;
    verbatim(
        out,
        &format!("{name} ledger export tiles\n{name} verify --tiles tiles --export events.ndjson{options}"),
    );
    match &report.signer {
        Ok(signer) => {
            paragraph(
                out,
                "This file is signed. The signature is in the file beside it, whose name ends with `.sig`. With \
                 REPORT as the name of this file:",
            );
            verbatim(out, &format!("{name} verify --report REPORT --key '{}'", signer.verifier()));
        }
        Err(reason) => paragraph(
            out,
            &format!(
                "This file itself is not signed: {reason}. The checkpoints above are, and what it says follows from \
                 the ledger and the events that they vouch for."
            ),
        ),
    }
}
