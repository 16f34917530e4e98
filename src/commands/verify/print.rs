//! What `verify` prints, for people and for programs.

use super::{Verified, VerifyFailure};
use crate::commands::findings::{DescribedFinding, PrintedFindings, counted, number, print_days};
use crate::commands::{check::files::human_size, layout};
use crate::evidence::export::{CUT, Export, ExportFormat, ExportProblem, FOREIGN};
use crate::evidence::finding::Days;
use crate::evidence::ledgers::{LedgerPlace, SourceLedger};
use crate::exit;
use crate::ledger::Verifier;
use crate::telemetry::escape::{escape, escape_path};
use serde_json::{Value, json};
use std::io::{self, Write};

/// Problems of an export that are printed.
const PROBLEMS_PRINTED_MAX: usize = 5;

pub(super) struct Output<'o, W> {
    json: bool,
    out: &'o mut W,
    findings: PrintedFindings,
    ledgers: Vec<Value>,
    /// What could not be checked, and why.
    unchecked: Vec<String>,
}

impl<'o, W: Write> Output<'o, W> {
    pub(super) fn new(json: bool, out: &'o mut W) -> Output<'o, W> {
        Output { json, out, findings: PrintedFindings::default(), ledgers: Vec::new(), unchecked: Vec::new() }
    }

    /// Prints which ledgers there are.
    pub(super) fn ledgers(
        &mut self,
        ledgers: &[SourceLedger],
        keys: &[Verifier],
        place: &LedgerPlace,
    ) -> io::Result<()> {
        if keys.is_empty() {
            self.unchecked.push(format!(
                "signatures: no key is known in `{}`; give it with `--key`",
                escape_path(place.path())
            ));
        }
        for ledger in ledgers {
            let kept = ledger.kept();
            self.ledgers.push(json!({"source": ledger.source, "first": kept.start, "size": kept.end}));
            if !self.json {
                let entries = counted(kept.end - kept.start, "entry", "entries");
                writeln!(self.out, "ledger of source {}: {entries}", escape(&ledger.source))?;
            }
            if kept.start > 0 {
                self.unchecked.push(format!(
                    "entries 0 to {} of source {}: the ledger's retention has dropped them",
                    number(kept.start - 1),
                    escape(&ledger.source)
                ));
            }
        }
        Ok(())
    }

    pub(super) fn finding(&mut self, finding: DescribedFinding) -> io::Result<()> {
        if self.json {
            serde_json::to_writer(&mut *self.out, &finding)?;
            return writeln!(self.out);
        }
        self.findings.add(finding);
        Ok(())
    }

    /// Prints the result, and returns the exit code.
    pub(super) fn end(mut self, verified: &Verified) -> Result<u8, VerifyFailure> {
        let mut problems = verified.damaged_entries;
        if let Some((export, days)) = &verified.export {
            problems += days.total().findings() + export.cut;
            self.unchecked.extend(unchecked(export, days));
        }
        if self.json {
            let export = verified.export.as_ref().map(|(export, days)| export_json(export, days));
            let summary = json!({"summary": {
                "ledgers": self.ledgers,
                "damaged_entries": verified.damaged_entries,
                "export": export,
                "unchecked": self.unchecked,
                "findings": problems,
            }});
            writeln!(self.out, "{summary}")?;
            self.out.flush()?;
        } else {
            self.print(verified, problems)?;
        }
        Ok(if problems == 0 { exit::OK } else { exit::FINDINGS })
    }

    fn print(self, verified: &Verified, problems: u64) -> io::Result<()> {
        let out = self.out;
        if verified.damaged_entries > 0 {
            let entries = counted(verified.damaged_entries, "entry", "entries");
            writeln!(out, "  {entries} cannot be read: damaged, or lost")?;
        }
        if let Some((export, days)) = &verified.export {
            print_export(export, out)?;
            if days.iter().next().is_some() {
                print_days(days, out)?;
            }
        }
        if problems > 0 {
            writeln!(out, "found:")?;
            self.findings.print(out)?;
            for problem in verified.export.iter().flat_map(|(export, _)| cuts(export)) {
                writeln!(out, "  {problem}")?;
            }
        }
        if !self.unchecked.is_empty() {
            writeln!(out, "not checked:")?;
            for unchecked in &self.unchecked {
                for line in layout::clauses(unchecked, 4) {
                    writeln!(out, "  {}", line.trim_start())?;
                }
            }
        }
        match problems {
            0 => writeln!(out, "result: intact")?,
            problems => writeln!(out, "result: {}", counted(problems, "finding", "findings"))?,
        }
        out.flush()
    }
}

fn print_export(export: &Export, out: &mut impl Write) -> io::Result<()> {
    let files = counted(export.files.len() as u64, "file", "files");
    let events = counted(export.events, "event", "events");
    let formats: Vec<&str> = formats(export).map(|(format, _)| format.as_str()).collect();
    let formats = if formats.is_empty() { String::new() } else { format!(" ({})", formats.join(", ")) };
    writeln!(out, "export: {files}, {}, {events}{formats}", human_size(export.bytes))
}

/// The formats of an export, and the number of events of each.
fn formats(export: &Export) -> impl Iterator<Item = (ExportFormat, u64)> {
    ExportFormat::ALL.into_iter().zip(export.formats).filter(|(_, count)| *count > 0)
}

fn cuts(export: &Export) -> impl Iterator<Item = String> {
    let cuts = export.problems.iter().filter(|problem| problem.problem == CUT);
    cuts.take(PROBLEMS_PRINTED_MAX).map(|problem| problem_text(export, problem))
}

fn problem_text(export: &Export, problem: &ExportProblem) -> String {
    let path = export.files.get(problem.file).map(|path| escape_path(path).to_string());
    format!("`{}:{}`: {}", path.unwrap_or_default(), problem.line, problem.problem)
}

/// What of an export could not be checked.
pub(super) fn unchecked(export: &Export, days: &Days) -> Vec<String> {
    let events = |count: u64| counted(count, "event", "events");
    let mut unchecked = Vec::new();
    let mut with_original = 0;
    for (format, count) in formats(export) {
        match format.original_member() {
            Some(_) => with_original += count,
            None => unchecked.push(format!(
                "the content of {}: format `{}` carries no original; only their ids are compared",
                events(count),
                format.as_str()
            )),
        }
    }
    let without = with_original.saturating_sub(export.originals);
    if without > 0 {
        let text = "without an original; only their ids are compared";
        unchecked.push(format!("the content of {} {text}", events(without)));
    }
    let total = days.total();
    if total.unconfirmed > 0 {
        let text =
            "of the agent itself that are not in the ledger: it was killed after it had delivered them";
        unchecked.push(format!("{} {text}", events(total.unconfirmed)));
    }
    if total.too_old > 0 {
        unchecked.push(format!("{} older than what the ledger keeps", events(total.too_old)));
    }
    if total.quarantined > 0 {
        unchecked.push(format!("{} in quarantine: a sink refused them", events(total.quarantined)));
    }
    if export.foreign > 0 {
        let first = export.problems.iter().find(|problem| problem.problem == FOREIGN);
        let first = first.map(|problem| problem_text(export, problem)).unwrap_or_default();
        let items = counted(export.foreign, "item", "items");
        unchecked.push(format!("{items} of the export; the first is {first}"));
    }
    unchecked
}

fn export_json(export: &Export, days: &Days) -> Value {
    let formats: serde_json::Map<String, Value> =
        formats(export).map(|(format, count)| (format.as_str().to_owned(), count.into())).collect();
    let files: Vec<String> = export.files.iter().map(|path| path.display().to_string()).collect();
    let by_day: Vec<Value> = days.iter().map(|(day, counts)| json!({"day": day, "counts": counts})).collect();
    let problems: Vec<String> = export.problems.iter().map(|problem| problem_text(export, problem)).collect();
    json!({
        "files": files,
        "bytes": export.bytes,
        "events": export.events,
        "formats": formats,
        "foreign": export.foreign,
        "cut": export.cut,
        "problems": problems,
        "days": by_day,
        "total": days.total(),
    })
}
