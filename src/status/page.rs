//! The page `/` of the admin endpoint: the status as HTML in one file. It needs no script, loads nothing, and comes
//! again by itself. Pure.

use super::sparkline::sparkline;
use super::words::{bytes, counted, duration, number, rate, since, summary};
use super::{Activity, Health, Problem, SinkStatus, SourceStatus, Status};
use crate::telemetry::escape::escape_html;
use std::fmt::Write;

const STYLE: &str = include_str!("page.css");
/// How often a browser loads it again, in seconds.
const REFRESH_S: u32 = 10;

pub(crate) fn write(status: &Status) -> String {
    let mut out = String::new();
    head(status, &mut out);
    for source in &status.sources {
        source_card(source, &status.now, &mut out);
    }
    out.push_str(
        "<p class=\"soft\">Also here: <code>/status</code> as JSON, <code>/metrics</code>, \
                  <code>/readyz</code>, <code>/livez</code>.</p></main></body></html>\n",
    );
    out
}

fn head(status: &Status, out: &mut String) {
    let word = status.health.word();
    let (title, host) = (escape_html(&summary(status)), escape_html(&status.host));
    // Writing to a string does not fail.
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"refresh\" content=\"{REFRESH_S}\">\
         <title>{title}: {host}</title><style>{STYLE}</style></head><body><main>\
         <header class=\"card {word}\"><div class=\"head\"><h1>{} on {host}</h1>\
         <span class=\"state big\">{title}</span></div>",
        crate::NAME
    );
    notes(&status.warnings, out);
    let mut facts = Facts::begin(out);
    facts.text("Version", &status.version);
    facts.time("Running for", Some(&status.started), &status.now, "");
    facts.time("Positions stored", status.last_commit.as_deref(), &status.now, " ago");
    let quarantined = status.quarantined.map_or("cannot be read".to_owned(), number);
    facts.text("Events in quarantine", &quarantined);
    facts.text("Configuration", status.config.as_deref().unwrap_or("options only"));
    facts.end();
    let _ = write!(
        out,
        "<p class=\"soft\">As of {}, loaded again every {REFRESH_S} s.</p></header>",
        clock(&status.now)
    );
}

fn source_card(source: &SourceStatus, now: &str, out: &mut String) {
    card_head("section", "h2", "Source", &source.name, "", source.health, out);
    problem(source.problem.as_ref(), now, out);
    notes(&source.warnings, out);
    sparkline(&source.activity.minutes, out);
    let mut facts = Facts::begin(out);
    let input = match (source.input.as_str(), &source.fallback) {
        ("api", Some(_)) => "API, as fallback",
        ("api", None) => "API",
        (_, Some(_)) => "files; API as fallback",
        _ => "files",
    };
    facts.text("Reads", input);
    facts.text("Lag", &duration(source.lag_seconds));
    if source.input == "file" {
        let files = counted(source.backlog_files, "file", "files");
        facts.text("To read", &format!("{} in {files}", bytes(source.backlog_bytes)));
    }
    facts.text("Events read", &number(source.activity.events));
    rates(&source.activity, &mut facts);
    facts.time("Newest event", source.last_event.as_deref(), now, " ago");
    facts.time("Last good pass", source.last_success.as_deref(), now, " ago");
    if source.fallback.is_some() {
        facts.text("Switches of the input", &number(source.switches));
    }
    facts.text("Lost", &bytes(source.lost_bytes));
    facts.text("Unreadable records", &number(source.unreadable_records));
    if let Some(expires) = &source.token_expires {
        facts.text("Token expires", &clock(expires));
    }
    if !source.coverage.is_empty() {
        let levels: Vec<String> =
            source.coverage.iter().map(|(area, level)| format!("{area} {level}")).collect();
        facts.text("Coverage", &levels.join(", "));
    }
    facts.text("Ledger entries", &number(source.ledger.entries));
    facts.time("Last checkpoint", source.ledger.last_checkpoint.as_deref(), now, " ago");
    facts.end();
    changes(source, out);
    source.sinks.iter().for_each(|sink| sink_card(sink, now, out));
    out.push_str("</section>");
}

fn sink_card(sink: &SinkStatus, now: &str, out: &mut String) {
    card_head("article", "h3", "Sink", &sink.name, &sink.kind, sink.health, out);
    problem(sink.problem.as_ref(), now, out);
    notes(&sink.warnings, out);
    sparkline(&sink.activity.minutes, out);
    let mut facts = Facts::begin(out);
    facts.text("Delivered", &number(sink.delivered));
    rates(&sink.activity, &mut facts);
    facts.text("Waiting", &number(sink.waiting));
    if let Some(delay) = sink.delay_seconds {
        facts.text("Delay", &duration(delay));
    }
    facts.text("In quarantine", &number(sink.quarantined));
    facts.time("Last success", sink.last_success.as_deref(), now, " ago");
    let reconciled = sink.last_reconcile.as_ref().map(|found| found.time.as_str());
    facts.time("Last reconcile", reconciled, now, " ago");
    facts.end();
    if let Some(error) = sink.last_error.as_ref().filter(|_| sink.problem.is_none()) {
        let (time, message) = (clock(&error.time), escape_html(&error.message));
        let _ = write!(out, "<p class=\"soft\">Last problem, {time}: {message}</p>");
    }
    out.push_str("</article>");
}

fn card_head(tag: &str, heading: &str, what: &str, name: &str, kind: &str, health: Health, out: &mut String) {
    let (word, name, kind) = (health.word(), escape_html(name), escape_html(kind));
    let _ = write!(
        out,
        "<{tag} class=\"card {word}\"><div class=\"head\"><{heading}>{what} {name}</{heading}>\
         <span class=\"state\">{word}</span><span class=\"soft\">{kind}</span></div>"
    );
}

fn problem(problem: Option<&Problem>, now: &str, out: &mut String) {
    if let Some(Problem { message, since: begun, action }) = problem {
        let (message, action) = (marked(message), marked(action));
        let since = since(begun, now);
        let _ = write!(out, "<p class=\"problem\">For {since}: {message}</p><p>What to do: {action}</p>");
    }
}

fn notes(notes: &[String], out: &mut String) {
    for note in notes {
        let _ = write!(out, "<p class=\"note\">{}</p>", marked(note));
    }
}

fn rates(activity: &Activity, facts: &mut Facts) {
    facts.text("Rate, last minute", &rate(activity.rate_minute));
    facts.text("Rate, last hour", &rate(activity.rate_hour));
}

fn changes(source: &SourceStatus, out: &mut String) {
    if source.changes.is_empty() {
        return;
    }
    out.push_str("<details><summary>Switches, gaps and other events of the agent</summary><ul>");
    for change in &source.changes {
        let (time, message) = (clock(&change.time), marked(&change.message));
        let _ = write!(
            out,
            "<li><time>{time}</time> <code>{}</code> {message}</li>",
            escape_html(&change.action)
        );
    }
    out.push_str("</ul></details>");
}

/// Escapes a text, with what is in backticks as code.
fn marked(text: &str) -> String {
    let mut out = String::new();
    let parts: Vec<&str> = text.split('`').collect();
    for (at, part) in parts.iter().enumerate() {
        // A backtick without a second one is a character like any other.
        match (at % 2 == 1, at + 1 == parts.len()) {
            (true, false) => out.extend(["<code>", &escape_html(part), "</code>"]),
            (true, true) => out.extend(["`", &escape_html(part)]),
            (false, _) => out.push_str(&escape_html(part)),
        }
    }
    out
}

/// A time without fractions, for people.
fn clock(time: &str) -> String {
    let seconds = time.split('.').next().unwrap_or(time);
    escape_html(&format!("{} UTC", seconds.replace('T', " ")))
}

/// A list of facts in writing.
struct Facts<'a>(&'a mut String);

impl<'a> Facts<'a> {
    fn begin(out: &'a mut String) -> Facts<'a> {
        out.push_str("<dl>");
        Facts(out)
    }

    fn text(&mut self, name: &str, value: &str) {
        let _ = write!(self.0, "<div><dt>{name}</dt><dd>{}</dd></div>", escape_html(value));
    }

    /// How long ago a time was; the time itself is in the tooltip.
    fn time(&mut self, name: &str, time: Option<&str>, now: &str, suffix: &str) {
        let Some(time) = time else {
            return self.text(name, "never");
        };
        let (title, text) = (clock(time), since(time, now));
        let _ = write!(self.0, "<div><dt>{name}</dt><dd title=\"{title}\">{text}{suffix}</dd></div>");
    }

    fn end(self) {
        self.0.push_str("</dl>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Change;

    /// Relative luminance of a colour such as `#1a1d21`, as WCAG 2 defines it.
    fn luminance(colour: &str) -> f64 {
        let long = match colour.len() {
            4 => colour.chars().skip(1).flat_map(|digit| [digit, digit]).collect(),
            _ => colour[1..].to_owned(),
        };
        let part = |at: usize| {
            let value = f64::from(u8::from_str_radix(&long[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(0) + 0.7152 * part(2) + 0.0722 * part(4)
    }

    /// Level AA of WCAG 2 for text of any size, in the light and in the dark scheme.
    #[test]
    fn each_colour_of_text_has_contrast() {
        let schemes: Vec<&str> =
            STYLE.split(":root{").skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
        assert_eq!(schemes.len(), 2);
        for scheme in schemes {
            let colour = |name: &str| {
                let (_, rest) = scheme.split_once(&format!("--{name}:")).unwrap();
                luminance(rest.split(';').next().unwrap())
            };
            for text in ["text", "soft", "ok", "warning", "failure", "starting"] {
                for ground in ["page", "card"] {
                    let (a, b) = (colour(text), colour(ground));
                    let contrast = (a.max(b) + 0.05) / (a.min(b) + 0.05);
                    assert!(contrast >= 4.5, "{text} on {ground}: {contrast:.2} in {scheme}");
                }
            }
        }
    }

    #[test]
    fn everything_from_elsewhere_is_escaped() {
        let evil = "<script>alert(1)</script>\"'&`<b>`\u{1b}[2J".to_owned();
        let problem = Problem { message: evil.clone(), since: evil.clone(), action: evil.clone() };
        let sink = SinkStatus {
            name: evil.clone(),
            kind: evil.clone(),
            problem: Some(problem.clone()),
            last_success: Some(evil.clone()),
            ..SinkStatus::default()
        };
        let source = SourceStatus {
            name: evil.clone(),
            problem: Some(problem),
            warnings: vec![evil.clone()],
            coverage: [(evil.clone(), evil.clone())].into(),
            token_expires: Some(evil.clone()),
            last_event: Some(evil.clone()),
            changes: vec![Change { time: evil.clone(), action: evil.clone(), message: evil.clone() }],
            sinks: vec![sink],
            ..SourceStatus::default()
        };
        let status = Status {
            version: evil.clone(),
            host: evil.clone(),
            config: Some(evil.clone()),
            started: evil.clone(),
            now: evil.clone(),
            stuck: Some(evil.clone()),
            warnings: vec![evil],
            sources: vec![source],
            ..Status::default()
        };
        let page = write(&status);
        assert!(!page.contains("<script") && !page.contains("<b>") && !page.contains('\u{1b}'), "{page}");
        assert!(page.contains("<code>&lt;b&gt;</code>"));
        let quotes = page.split("title=\"").skip(1).map(|rest| rest.split('>').next().unwrap());
        quotes.for_each(|rest| assert_eq!(rest.matches('"').count(), 1, "{rest}"));
    }
}
