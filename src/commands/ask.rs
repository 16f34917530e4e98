//! A question on the terminal before something is done that cannot be undone.

use std::io::{self, BufRead, IsTerminal, Write};

use super::output::{Unread, complain};
use crate::exit;

/// The exit code unless a person agrees. Without a terminal, or where nobody reads the question, nobody is asked and the
/// answer is no: `--yes` is named as the way out. `refusal` says that nothing was done.
pub fn refused(question: &str, refusal: &str, out: &mut Unread<impl Write>) -> io::Result<Option<u8>> {
    if !io::stdin().is_terminal() {
        complain(&format!("{refusal}: there is no terminal to ask at; say `--yes`"));
        return Ok(Some(exit::USAGE));
    }
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    if out.is_closed() {
        complain(&format!("{refusal}: nobody reads the question; say `--yes`"));
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
