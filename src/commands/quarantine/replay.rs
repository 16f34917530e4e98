//! The command `quarantine replay`.

use super::index::QuarantineIndex;
use super::{QuarantineFailure, events, exit_code, open, print_error, unknown};
use crate::cli::{Options, QuarantineReplay};
use crate::commands::output::OptionalOutput;
use crate::config::{self, Config, OnPoison, RemoteSinkConfig, SinkConfig, SinkKind};
use crate::exit;
use crate::record::EventId;
use crate::sink::remote::{DeliverySettings, Refused};
use crate::sink::{self, Batch, BatchEvent, HeaderFields, Message, Report, SinkError};
use crate::telemetry::{self, escape::escape};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Write};
use tokio::sync::mpsc::unbounded_channel;

/// How much is sent before delivered events are removed. Bounds the memory, and the number of duplicates
/// after a kill.
const ROUND_BYTES: u64 = 8 << 20;
/// Maximum number of printed reasons. `list` prints all.
const REASONS_PRINTED_MAX: usize = 20;
/// Name of the sink that prints instead of sending.
const STDOUT: &str = "stdout";

/// Sends events again. Returns the exit code.
///
/// # Errors
/// Errors of `out` only.
pub fn replay(args: &QuarantineReplay, out: &mut impl Write) -> io::Result<u8> {
    let options = Options { config: args.config.clone(), state: args.state.clone(), ..Options::default() };
    let config = match config::load_file(&options) {
        Ok(config) => config,
        Err(errors) => {
            let _ = writeln!(io::stderr(), "{errors}");
            return Ok(errors.exit_code());
        }
    };
    let log = telemetry::log::init(&config.log);
    let code = exit_code(replay_all(args, &config, out));
    log.write_due();
    code
}

fn replay_all(
    args: &QuarantineReplay,
    config: &Config,
    out: &mut impl Write,
) -> Result<u8, QuarantineFailure> {
    let directory = match open(&config.state_dir)? {
        Ok(directory) => directory,
        Err(code) => return Ok(code),
    };
    let Some(directory) = directory else {
        if let Some(code) = unknown(&args.selection.id, std::iter::empty()) {
            return Ok(code);
        }
        print_error("the quarantine is empty");
        return Ok(exit::OK);
    };
    directory.lock()?;
    let mut index = QuarantineIndex::of(&directory, &args.selection)?;
    let ids: Vec<String> =
        index.groups.iter().flat_map(|group| group.events.iter().map(|event| event.id.to_string())).collect();
    if let Some(code) = unknown(&args.selection.id, ids.iter().map(String::as_str)) {
        return Ok(code);
    }
    let is_remote = |sink: &&SinkConfig| matches!(sink.kind, SinkKind::Remote(_));
    let named_stdout = config.sinks.iter().filter(is_remote).any(|sink| sink.name == STDOUT);
    if args.to.as_deref() == Some(STDOUT) && !named_stdout {
        return print(&index, out);
    }
    // Events are sent even if the output is closed.
    let out = &mut OptionalOutput::new(out);
    let mut targets = Vec::new();
    for group in 0..index.groups.len() {
        match target_sink(&index, group, args, config) {
            Ok(target_sink) => targets.push(target_sink),
            Err(reason) => print_error(&reason),
        }
    }
    // A wrong name or format is reported before anything is sent.
    if targets.len() < index.groups.len() {
        return Ok(exit::CONFIG);
    }
    let (mut left, mut reasons) = (0, 0);
    for (group, (sink, remote)) in targets.into_iter().enumerate() {
        let sent = send(&mut index, group, sink, remote)?;
        let (of, source) = (index.groups[group].events.len() as u64, &index.groups[group].source);
        let kept = of - sent.delivered;
        left += kept;
        for (id, reason) in sent.refused.iter().take(REASONS_PRINTED_MAX - reasons) {
            writeln!(out, "{id} is refused: {}", escape(reason))?;
            reasons += 1;
        }
        write!(
            out,
            "source {}, sink {}: delivered {}",
            escape(source),
            escape(sink),
            events(sent.delivered)
        )?;
        match kept {
            0 => writeln!(out)?,
            kept => writeln!(out, ", {kept} stay in quarantine")?,
        }
        if let Some(reason) = sent.stopped {
            writeln!(out, "source {}, sink {}: {}", escape(source), escape(sink), escape(&reason))?;
        }
    }
    if index.count() == 0 {
        print_error("there is nothing to send");
    }
    let damaged = args.selection.id.is_empty() && index.damaged > 0;
    Ok(match left == 0 && !damaged {
        true => exit::OK,
        false => exit::TRY_AGAIN,
    })
}

/// The sink of a group, or why there is none.
fn target_sink<'a>(
    index: &QuarantineIndex,
    group: usize,
    args: &QuarantineReplay,
    config: &'a Config,
) -> Result<(&'a str, &'a RemoteSinkConfig), String> {
    let group = &index.groups[group];
    let name = args.to.as_ref().unwrap_or(&group.sink);
    let Some(sink) = config.sinks.iter().find(|sink| sink.name == *name) else {
        return Err(format!(
            "there is no sink `{name}` in the configuration for {}; name another one with `--to`",
            events(group.events.len() as u64)
        ));
    };
    let SinkKind::Remote(remote) = &sink.kind else {
        return Err(format!(
            "sink `{name}` has no server, and only the running agent may write to its output; name another sink with `--to`, or \
             print the events with `--to stdout`"
        ));
    };
    let now = sink.format.as_str();
    let others = group.events.iter().map(|event| index.format(event));
    if let Some(other) = others.into_iter().find(|format| *format != now).filter(|_| !args.force) {
        return Err(format!(
            "sink `{name}` has `format = \"{now}\"` and events of source `{}` are stored as `{other}`; \
             `--force` sends them unchanged",
            group.source
        ));
    }
    Ok((&sink.name, remote))
}

fn print(index: &QuarantineIndex, out: &mut impl Write) -> Result<u8, QuarantineFailure> {
    for event in index.groups.iter().flat_map(|group| &group.events) {
        writeln!(out, "{}", index.entry(event)?.event)?;
    }
    out.flush()?;
    print_error(&format!("printed {}; they stay in quarantine until you drop them", events(index.count())));
    Ok(exit::OK)
}

/// The result of sending a group.
#[derive(Default)]
struct ReplayResult {
    delivered: u64,
    refused: Vec<(EventId, String)>,
    /// Why the rest was not sent.
    stopped: Option<String>,
}

/// Sends the events of a group. Removes the delivered ones after each round.
fn send(
    index: &mut QuarantineIndex,
    group: usize,
    sink: &str,
    remote: &RemoteSinkConfig,
) -> Result<ReplayResult, QuarantineFailure> {
    let settings = DeliverySettings {
        sink: sink.to_owned(),
        source: index.groups[group].source.clone(),
        batch: remote.batch,
        concurrency: remote.concurrency,
        on_poison: OnPoison::Quarantine,
        once: true,
        quarantine_unproven: true,
    };
    let (mut sent, mut next) = (ReplayResult::default(), 0);
    while next < index.groups[group].events.len() && sent.stopped.is_none() {
        // Cannot grow: it gets the batches of one round, up to `ROUND_BYTES`, before the sink starts.
        let (messages, receiver) = unbounded_channel();
        let mut bytes = 0;
        while let Some(event) = index.groups[group].events.get(next) {
            bytes += index.bytes(event);
            // The receiver exists, so the message is not lost.
            let _ = messages.send(Message::Batch(batch(index, event, next as u64)?));
            next += 1;
            if bytes >= ROUND_BYTES {
                break;
            }
        }
        let _ = messages.send(Message::End);
        let finals = RefCell::new(Vec::new());
        let refused = RefCell::new(HashMap::new());
        let report = |report: Report| {
            if let Report::Final { number, .. } = report {
                finals.borrow_mut().push(number as usize);
            }
        };
        let keep = |events: &[Refused]| {
            let events = events.iter().map(|event| (event.id, event.reason.clone()));
            refused.borrow_mut().extend(events);
            Ok(())
        };
        let result = sink::deliver(remote.destination.clone(), settings.clone(), receiver, &report, &keep);
        let refused = refused.into_inner();
        let is_delivered = |at: &usize| !refused.contains_key(&index.groups[group].events[*at].id);
        let delivered: Vec<usize> = finals.into_inner().into_iter().filter(is_delivered).collect();
        index.remove(group, &delivered)?;
        sent.delivered += delivered.len() as u64;
        sent.refused.extend(refused);
        sent.stopped = match result {
            Ok(()) => None,
            Err(SinkError::GaveUp { reason }) => Some(reason),
            Err(error) => Some(telemetry::chain(&error)),
        };
    }
    Ok(sent)
}

fn batch(
    index: &QuarantineIndex,
    event: &super::index::QuarantinedEvent,
    number: u64,
) -> Result<Batch, QuarantineFailure> {
    let entry = index.entry(event)?;
    let mut bytes = entry.event.into_bytes();
    bytes.push(b'\n');
    Ok(Batch {
        number: Some(number),
        events: vec![BatchEvent {
            end: bytes.len() as u32,
            id: event.id,
            time_ms: entry.time_ms,
            header_fields: HeaderFields::new(entry.severity, &entry.action),
        }],
        bytes,
        keep_output_position: false,
    })
}
