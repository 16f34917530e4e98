//! How findings and counts by day are printed.

use super::layout;
use crate::evidence::finding::{Counts, Days, Finding, FindingKind};
use crate::record::EventId;
pub(super) use crate::status::words::{counted, number};
use std::io::{self, Write};

/// Findings of a kind that are printed. `--json` prints all.
const PRINTED_MAX: usize = 20;
/// Days that are printed one by one.
const DAYS_MAX: usize = 31;

/// A finding with what is said of it.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct DescribedFinding {
    pub finding: &'static str,
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// What it is compared with the ledger: a sink, the files, the API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Of its ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Number of its entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<u64>,
    /// Where it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Members that differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<String>,
    #[serde(skip)]
    pub kind: FindingKind,
    #[serde(skip)]
    pub time_ms: Option<i64>,
}

impl DescribedFinding {
    pub(super) fn new(finding: &Finding) -> DescribedFinding {
        DescribedFinding {
            finding: finding.kind.as_str(),
            id: EventId(finding.id()).to_string(),
            time: finding.time_ms().map(time),
            at: None,
            source: None,
            entry: finding.entry.map(|entry| entry.place),
            place: None,
            members: Vec::new(),
            kind: finding.kind,
            time_ms: finding.time_ms(),
        }
    }
}

/// Keeps the findings that are printed: some of each kind, the oldest first.
#[derive(Default)]
pub(super) struct PrintedFindings {
    findings: Vec<DescribedFinding>,
    left_out: u64,
}

impl PrintedFindings {
    pub(super) fn add(&mut self, finding: DescribedFinding) {
        self.findings.push(finding);
        // Sorted now and then, so that few are kept of millions.
        if self.findings.len() >= 64 * PRINTED_MAX {
            self.trim();
        }
    }

    fn trim(&mut self) {
        self.findings.sort_by(|a, b| (a.kind, a.time_ms, &a.id).cmp(&(b.kind, b.time_ms, &b.id)));
        let before = self.findings.len();
        let mut of_kind = (None, 0);
        self.findings.retain(|finding| {
            of_kind = if of_kind.0 == Some(finding.kind) {
                (of_kind.0, of_kind.1 + 1)
            } else {
                (Some(finding.kind), 1)
            };
            of_kind.1 <= PRINTED_MAX
        });
        self.left_out += (before - self.findings.len()) as u64;
    }

    /// The findings that are printed, and the number of the others.
    pub(super) fn into_parts(mut self) -> (Vec<DescribedFinding>, u64) {
        self.trim();
        (self.findings, self.left_out)
    }

    pub(super) fn print(mut self, out: &mut impl Write) -> io::Result<()> {
        self.trim();
        for finding in &self.findings {
            let time = finding.time.as_deref().unwrap_or("without a time");
            writeln!(out, "  {:<8} {}  {time}", finding.finding, finding.id)?;
            for line in layout::clauses(&detail(finding), 11) {
                writeln!(out, "           {}", line.trim_start())?;
            }
        }
        if self.left_out > 0 {
            writeln!(out, "  … and {} more; `--json` prints all", number(self.left_out))?;
        }
        Ok(())
    }
}

/// Where it is, and what differs.
pub(super) fn detail(finding: &DescribedFinding) -> String {
    let mut parts = Vec::new();
    parts.extend(finding.place.as_ref().map(|place| format!("`{place}`")));
    if let (Some(entry), Some(source)) = (finding.entry, &finding.source) {
        parts.push(format!("entry {entry} of source {source}"));
    }
    if !finding.members.is_empty() {
        let members: Vec<String> = finding.members.iter().map(|member| format!("`{member}`")).collect();
        parts.push(format!("differs in {}", members.join(", ")));
    }
    parts.join("; ")
}

/// Prints the counts of each day.
pub(super) fn print_days(days: &Days, out: &mut impl Write) -> io::Result<()> {
    const HEADS: [&str; 8] = ["DAY", "EXPECTED", "INTACT", "BY ID", "ALTERED", "MISSING", "EXTRA", "DOUBLED"];
    let row = |day: String, counts: &Counts| {
        let Counts { expected, intact, present, altered, missing, extra, doubled, .. } = *counts;
        let numbers = [expected, intact, present, altered, missing, extra, doubled];
        let mut row = [const { String::new() }; 8];
        row[0] = day;
        for (cell, number) in row[1..].iter_mut().zip(numbers) {
            *cell = number.to_string();
        }
        row
    };
    let all: Vec<(String, &Counts)> = days.iter().collect();
    // Of a long time the days that have findings, and the last ones.
    let is_shown = |at: usize, counts: &Counts| {
        all.len() <= DAYS_MAX || counts.findings() > 0 || at + DAYS_MAX / 2 >= all.len()
    };
    let mut rows: Vec<[String; 8]> = Vec::new();
    let mut hidden = Counts::default();
    let mut hidden_days = 0;
    for (at, (day, counts)) in all.iter().enumerate() {
        if is_shown(at, counts) && rows.len() < 2 * DAYS_MAX {
            rows.push(row(day.clone(), counts));
        } else {
            hidden.add(counts);
            hidden_days += 1;
        }
    }
    if hidden_days > 0 {
        rows.push(row(format!("{hidden_days} others"), &hidden));
    }
    if all.len() > 1 {
        rows.push(row("all".to_owned(), &days.total()));
    }
    layout::table(HEADS, &rows, 2, out)
}

/// A time in UTC.
pub(super) fn time(ms: i64) -> String {
    String::from_utf8_lossy(&crate::record::time::iso(ms)).into_owned()
}
