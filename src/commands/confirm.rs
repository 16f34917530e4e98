//! Confirmation by a person before something that cannot be undone.

use std::io::{self, BufRead, IsTerminal, Write};

use super::output::{OptionalOutput, print_error};
use crate::exit;

/// Asks for confirmation. Returns `None` if a person agrees, otherwise the exit code. Without a terminal, or
/// with a closed output, nobody can be asked: the message names `--yes`. `refusal` says that nothing was
/// done.
pub(super) fn declined(
    question: &str,
    refusal: &str,
    out: &mut OptionalOutput<impl Write>,
) -> io::Result<Option<u8>> {
    if !io::stdin().is_terminal() {
        print_error(&format!("{refusal}: there is no terminal for the confirmation; use `--yes`"));
        return Ok(Some(exit::USAGE));
    }
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    if out.is_closed() {
        print_error(&format!("{refusal}: the output is closed, so nobody can confirm; use `--yes`"));
        return Ok(Some(exit::USAGE));
    }
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(None);
    }
    writeln!(out, "{refusal}")?;
    Ok(Some(exit::OK))
}
