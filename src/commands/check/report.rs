//! The output of `check`. A finding has lines of at most 80 columns, with the remedy on indented lines. The
//! last line has the counts.

use std::fmt;
use std::io::{self, Write};

use crate::commands::verdict;
use crate::status::Health;

/// Prints findings and counts them.
pub(crate) struct CheckReport<'o> {
    out: &'o mut dyn Write,
    colour: bool,
    ok: usize,
    warnings: usize,
    failures: usize,
}

impl<'o> CheckReport<'o> {
    pub(crate) fn new(out: &'o mut dyn Write, colour: bool) -> CheckReport<'o> {
        CheckReport { out, colour, ok: 0, warnings: 0, failures: 0 }
    }

    pub(crate) fn ok(&mut self, subject: &str, what: impl fmt::Display) -> io::Result<()> {
        self.ok += 1;
        self.finding(Health::Ok, subject, what)
    }

    pub(crate) fn warning(&mut self, subject: &str, what: impl fmt::Display) -> io::Result<()> {
        self.warnings += 1;
        self.finding(Health::Warning, subject, what)
    }

    pub(crate) fn failure(&mut self, subject: &str, what: impl fmt::Display) -> io::Result<()> {
        self.failures += 1;
        self.finding(Health::Failure, subject, what)
    }

    pub(crate) fn failed(&self) -> bool {
        self.failures > 0
    }

    /// Prints the number of findings of each kind.
    pub(crate) fn counts(&mut self) -> io::Result<()> {
        let CheckReport { ok, warnings, failures, .. } = *self;
        let counted = |count: usize, noun: &str| match count {
            1 => format!("1 {noun}"),
            count => format!("{count} {noun}s"),
        };
        let (warnings, failures) = (counted(warnings, "warning"), counted(failures, "failure"));
        writeln!(self.out, "\n{ok} ok, {warnings}, {failures}")
    }

    fn finding(&mut self, health: Health, subject: &str, what: impl fmt::Display) -> io::Result<()> {
        verdict::print(self.out, self.colour, health, &format!("{subject}: {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(findings: impl FnOnce(&mut CheckReport) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        let mut report = CheckReport::new(&mut out, false);
        findings(&mut report).unwrap();
        report.counts().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_finding_fits_80_columns_and_its_remedy_is_indented() {
        let long = "`/var/atlassian/application-data/confluence/log/audit/20260112.00001.audit.log; x`";
        let text = printed(|report| {
            report.ok("user", "root (uid 0)")?;
            report.warning(
                "source wiki",
                format_args!("newest event 320 days ago, in {long}; if Confluence is in use, look whether this is its home and at its audit coverage"),
            )?;
            report.failure("state", "a\x1b[2J; b")
        });
        let expected = "\
ok       user: root (uid 0)
warning  source wiki: newest event 320 days ago, in
           `/var/atlassian/application-data/confluence/log/audit/20260112.00001.audit.log; x`
         if Confluence is in use, look whether this is its home and at its audit
           coverage
failure  state: a\\u{1b}[2J
         b

1 ok, 1 warning, 1 failure
";
        assert_eq!(text, expected);
    }

    #[test]
    fn no_line_is_longer_than_80_columns() {
        let what = "words of some length ".repeat(30) + "; " + &"and more of them ".repeat(20);
        let text = printed(|report| report.failure("source wiki", &what));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.lines().any(|line| line.chars().count() > 70), "{text}");
    }
}
