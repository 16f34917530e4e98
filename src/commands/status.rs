//! The command `status`: whether the running agent works, and what to do if not.

use super::admin_client;
use super::verdict::{self, painted};
use crate::config::AdminEndpoint;
use crate::exit;
use crate::status::words::{self, since, sink_facts, source_facts, summary};
use crate::status::{Health, Problem, Status};
use crate::telemetry::escape::escape;
use std::io::{self, Write};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// How often `--watch` asks the agent.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// The cursor to the upper left corner.
const HOME: &str = "\x1b[H";
/// Deletes the rest of the line, or of the screen.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_REST: &str = "\x1b[J";

/// How a status is shown.
#[derive(Clone, Copy)]
pub struct View {
    pub json: bool,
    /// Of standard output.
    pub colour: bool,
    /// Of standard error, where it says why no agent answers.
    pub error_colour: bool,
    pub is_terminal: bool,
}

/// Prints the status. `Ok` is the exit code: 0, 1 if something fails, or 75 if no agent answers.
pub fn show(endpoint: &AdminEndpoint, view: View, out: &mut impl Write) -> io::Result<u8> {
    match runtime()?.block_on(fetch(endpoint)) {
        Ok((status, json)) => print(&status, &json, view, out),
        Err(reason) => {
            print_unreachable(&reason, view.error_colour, &mut io::stderr());
            Ok(exit::TRY_AGAIN)
        }
    }
}

/// Prints the status again and again, on a terminal in place, until SIGINT or SIGTERM. The exit code is 0.
pub fn watch(endpoint: &AdminEndpoint, view: View, out: &mut impl Write) -> io::Result<u8> {
    runtime()?.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let stop = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        tokio::pin!(stop);
        loop {
            let fetched = tokio::select! {
                fetched = fetch(endpoint) => fetched,
                () = &mut stop => break,
            };
            let mut shown = Vec::new();
            match fetched {
                Ok((status, json)) => drop(print(&status, &json, view, &mut shown)?),
                Err(reason) if view.json => print_unreachable(&reason, view.error_colour, &mut io::stderr()),
                Err(reason) => print_unreachable(&reason, view.colour, &mut shown),
            }
            redraw(&String::from_utf8_lossy(&shown), view, out)?;
            tokio::select! {
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
                () = &mut stop => break,
            }
        }
        Ok(exit::OK)
    })
}

/// On a terminal over what was there; else after it.
fn redraw(text: &str, view: View, out: &mut impl Write) -> io::Result<()> {
    if view.is_terminal && !view.json {
        write!(out, "{HOME}{}", text.replace('\n', &format!("{CLEAR_LINE}\n")))?;
        writeln!(out, "{CLEAR_LINE}\nEvery {} s, until Ctrl-C.{CLEAR_REST}", WATCH_INTERVAL.as_secs())?;
    } else {
        out.write_all(text.as_bytes())?;
        if !view.json {
            writeln!(out)?;
        }
    }
    out.flush()
}

/// A standard error that is closed is not a failure.
fn print_unreachable(reason: &str, colour: bool, out: &mut impl Write) {
    let _ = verdict::print(out, colour, Health::Failure, &format!("agent: {reason}"));
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// The status and its JSON. The error is for a person.
async fn fetch(endpoint: &AdminEndpoint) -> Result<(Status, String), String> {
    let answer = admin_client::get(endpoint, "/status").await?;
    if !answer.status.is_success() {
        let body = answer.body.trim();
        return Err(format!(
            "the agent refuses to show its status (status {}): {body}",
            answer.status.as_u16()
        ));
    }
    let status = serde_json::from_str(&answer.body);
    let status = status
        .map_err(|error| format!("what answers is not an agent, or one of another version: {error}"))?;
    Ok((status, answer.body))
}

fn print(status: &Status, json: &str, view: View, out: &mut impl Write) -> io::Result<u8> {
    if view.json {
        out.write_all(json.as_bytes())?;
    } else {
        head(status, view.colour, out)?;
        parts(status, view.colour, out)?;
    }
    Ok(if status.health == Health::Failure { exit::FINDINGS } else { exit::OK })
}

fn head(status: &Status, colour: bool, out: &mut impl Write) -> io::Result<()> {
    let version = status.version.split(' ').next().unwrap_or_default();
    let running = since(&status.started, &status.now);
    writeln!(out, "{} {} on {}, running for {running}", crate::NAME, escape(version), escape(&status.host))?;
    writeln!(out, "{}\n", painted(&escape(&summary(status)), status.health, colour))
}

fn parts(status: &Status, colour: bool, out: &mut impl Write) -> io::Result<()> {
    if let Some(stage) = &status.stuck {
        let text = format!("agent: {stage} makes no progress; {}", words::STUCK_ACTION);
        verdict::print(out, colour, Health::Failure, &text)?;
    }
    for warning in &status.warnings {
        verdict::print(out, colour, Health::Warning, &format!("agent: {warning}"))?;
    }
    for source in &status.sources {
        let facts = source_facts(source, &status.now).join(", ");
        let text =
            described(&format!("source {}", source.name), source.problem.as_ref(), &facts, &status.now);
        verdict::print(out, colour, source.health, &(text + &notes(&source.warnings)))?;
        for sink in &source.sinks {
            let subject = words::sink_subject(status, source, sink);
            let text = described(&subject, sink.problem.as_ref(), &sink_facts(sink).join(", "), &status.now);
            verdict::print(out, colour, sink.health, &(text + &notes(&sink.warnings)))?;
        }
    }
    Ok(())
}

fn notes(warnings: &[String]) -> String {
    warnings.iter().map(|warning| format!("; {warning}")).collect()
}

fn described(subject: &str, problem: Option<&Problem>, facts: &str, now: &str) -> String {
    match problem {
        None => format!("{subject}: {facts}"),
        Some(Problem { message, since: begun, action }) => {
            format!("{subject}, for {}: {message}; {action}; {facts}", since(begun, now))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_written_over_and_a_pipe_is_not() {
        let view = View { json: false, colour: false, error_colour: false, is_terminal: true };
        let mut out = Vec::new();
        redraw("one\ntwo\n", view, &mut out).unwrap();
        let expected = "\x1b[Hone\x1b[K\ntwo\x1b[K\n\x1b[K\nEvery 2 s, until Ctrl-C.\x1b[J\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        redraw("one\n", View { is_terminal: false, ..view }, &mut out).unwrap();
        redraw("{}\n", View { json: true, ..view }, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "one\n\n{}\n");
    }
}
