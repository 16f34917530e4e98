//! A finding or a state on the terminal: one word, then text in lines of at most 80 columns, with further clauses on
//! indented lines.

use super::layout;
use crate::status::Health;
use crate::telemetry::escape::escape;
use std::io::{self, Write};

/// Width of the word and a blank. Further clauses of the text are indented by it.
const INDENT: usize = 9;

pub(super) fn print(
    out: &mut (impl Write + ?Sized),
    colour: bool,
    health: Health,
    text: &str,
) -> io::Result<()> {
    let word = format!("{:<8}", health.word());
    for (number, line) in layout::clauses(&escape(text), INDENT).iter().enumerate() {
        match number {
            0 => writeln!(out, "{} {line}", painted(&word, health, colour))?,
            _ => writeln!(out, "{line}")?,
        }
    }
    Ok(())
}

/// The text in the colour of the health.
pub(super) fn painted(text: &str, health: Health, colour: bool) -> String {
    let code = match health {
        Health::Ok => "32",
        Health::Starting => "36",
        Health::Warning => "33",
        Health::Failure => "31",
    };
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
