//! What `reconcile` prints, for people and for programs.

use super::repair::Repair;
use super::{Compared, ComparedOutputs};
use crate::commands::check::files::human_size;
use crate::commands::findings::{DescribedFinding, PrintedFindings, counted, print_days};
use crate::commands::layout;
use crate::commands::verify::{VerifyFailure, print_unchecked, unchecked};
use crate::evidence::compare::Side;
use crate::evidence::finding::FindingKind;
use crate::evidence::ledgers::SourceLedger;
use crate::exit;
use crate::telemetry::escape::escape;
use serde_json::{Value, json};
use std::io::{self, Write};

pub(super) struct Output<'o, W> {
    json: bool,
    out: &'o mut W,
    /// Of the side that is compared now.
    findings: PrintedFindings,
    ledgers: Vec<Value>,
    compared: Vec<Value>,
    repaired: Vec<Value>,
    found: u64,
    /// What could not be asked or read.
    failed: Vec<String>,
    unchecked: Vec<String>,
    /// What was compared is kept instead of printed.
    kept: Option<Vec<(Compared, PrintedFindings)>>,
}

impl<'o, W: Write> Output<'o, W> {
    /// For a command that presents what was compared itself.
    pub(super) fn kept(out: &'o mut W) -> Output<'o, W> {
        Output { kept: Some(Vec::new()), ..Output::new(false, out) }
    }

    pub(super) fn into_compared(self) -> ComparedOutputs {
        ComparedOutputs { compared: self.kept.unwrap_or_default(), unchecked: self.unchecked }
    }

    pub(super) fn new(json: bool, out: &'o mut W) -> Output<'o, W> {
        Output {
            json,
            kept: None,
            out,
            findings: PrintedFindings::default(),
            ledgers: Vec::new(),
            compared: Vec::new(),
            repaired: Vec::new(),
            found: 0,
            failed: Vec::new(),
            unchecked: Vec::new(),
        }
    }

    pub(super) fn ledgers(&mut self, ledgers: &[SourceLedger]) -> io::Result<()> {
        for ledger in ledgers {
            let kept = ledger.kept();
            self.ledgers.push(json!({"source": ledger.source, "first": kept.start, "size": kept.end}));
            if !self.json {
                let entries = counted(kept.end - kept.start, "entry", "entries");
                writeln!(self.out, "ledger of source {}: {entries}", escape(&ledger.source))?;
            }
        }
        Ok(())
    }

    pub(super) fn not_checked(&mut self, text: String) {
        self.unchecked.push(text);
    }

    /// A side could not be asked or read. The others are compared.
    pub(super) fn failed(&mut self, text: String) {
        self.failed.push(text);
    }

    pub(super) fn finding(&mut self, mut finding: DescribedFinding, side: Side) -> io::Result<()> {
        if side != Side::Sink && finding.kind == FindingKind::Extra {
            finding.finding = "undelivered";
        }
        if self.json {
            serde_json::to_writer(&mut *self.out, &finding)?;
            return writeln!(self.out);
        }
        self.findings.add(finding);
        Ok(())
    }

    /// One side was compared with the ledgers.
    pub(super) fn compared(&mut self, compared: Compared) -> io::Result<()> {
        let Compared { name, side, export, days } = &compared;
        let total = days.total();
        self.found += total.findings() + export.cut;
        let unchecked = unchecked(export, days).into_iter();
        self.unchecked.extend(unchecked.map(|text| format!("{name}: {text}")));
        if let Some(kept) = &mut self.kept {
            kept.push((compared, std::mem::take(&mut self.findings)));
            return Ok(());
        }
        if self.json {
            let by_day: Vec<Value> =
                days.iter().map(|(day, counts)| json!({"day": day, "counts": counts})).collect();
            self.compared.push(json!({
                "at": name,
                "files": export.files.len(),
                "events": export.events,
                "cut": export.cut,
                "days": by_day,
                "total": total,
            }));
            return Ok(());
        }
        let out = &mut *self.out;
        let events = counted(export.events, "event", "events");
        let files = match export.files.len() as u64 {
            0 => String::new(),
            files => format!("{}, {}, ", counted(files, "file", "files"), human_size(export.bytes)),
        };
        write!(out, "{}: {files}{events}", escape(name))?;
        match side {
            Side::Sink => {
                writeln!(out)?;
                if days.iter().next().is_some() {
                    print_days(days, out)?;
                }
            }
            Side::Files | Side::Api => match total.findings() {
                0 => writeln!(out, ", all delivered")?,
                _ => {
                    let undelivered = total.extra;
                    writeln!(out, ", {undelivered} not delivered, {} altered", total.altered)?;
                }
            },
        }
        std::mem::take(&mut self.findings).print(out)
    }

    /// Events that a sink had not were delivered again.
    pub(super) fn repaired(&mut self, name: &str, repair: &Repair) -> io::Result<()> {
        self.found = self.found.saturating_sub(repair.delivered);
        let left = repair.missing.len() as u64;
        if let Some(reason) = &repair.stopped {
            self.failed.push(format!("{name}: {reason}"));
        }
        if self.json {
            let counts =
                json!({"at": name, "delivered": repair.delivered, "refused": repair.refused, "left": left});
            self.repaired.push(counts);
            return Ok(());
        }
        let delivered = counted(repair.delivered, "event was delivered", "events were delivered");
        writeln!(self.out, "{}: {delivered} again", escape(name))?;
        if repair.refused > 0 {
            writeln!(self.out, "  {} refused", counted(repair.refused, "event is", "events are"))?;
        }
        if left > 0 {
            let events = counted(left, "event is", "events are");
            writeln!(self.out, "  {events} in no audit file that is still there")?;
        }
        Ok(())
    }

    /// Prints the result, and returns the exit code.
    pub(super) fn end(self) -> Result<u8, VerifyFailure> {
        let code = match (self.found, self.failed.is_empty()) {
            (0, true) => exit::OK,
            (0, false) => exit::TRY_AGAIN,
            _ => exit::FINDINGS,
        };
        if self.json {
            let summary = json!({"summary": {
                "ledgers": self.ledgers,
                "compared": self.compared,
                "repaired": self.repaired,
                "failed": self.failed,
                "unchecked": self.unchecked,
                "findings": self.found,
            }});
            writeln!(self.out, "{summary}")?;
            self.out.flush()?;
            return Ok(code);
        }
        if !self.failed.is_empty() {
            writeln!(self.out, "failed:")?;
        }
        for text in self.failed.iter().flat_map(|text| layout::clauses(&escape(text), 4)) {
            writeln!(self.out, "  {text}")?;
        }
        print_unchecked(&self.unchecked, self.out)?;
        match (self.found, self.failed.is_empty()) {
            (0, true) => writeln!(self.out, "result: nothing is missing, extra or altered")?,
            (0, false) => writeln!(self.out, "result: not everything could be compared")?,
            (found, _) => writeln!(self.out, "result: {}", counted(found, "finding", "findings"))?,
        }
        self.out.flush()?;
        Ok(code)
    }
}
