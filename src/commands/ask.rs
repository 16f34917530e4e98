//! A question on the terminal before something is done that cannot be undone.

use std::io::{self, BufRead, IsTerminal, Write};

/// Whether a person agrees. Without a terminal nobody is asked, and the answer is no: `--yes` is named as the way out. `refusal` says
/// that nothing was done.
pub fn agreed(question: &str, refusal: &str, out: &mut impl Write) -> io::Result<bool> {
    if !io::stdin().is_terminal() {
        writeln!(
            io::stderr(),
            "{refusal}: there is no terminal to ask at; say `--yes`"
        )?;
        return Ok(false);
    }
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    let yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if !yes {
        writeln!(out, "{refusal}")?;
    }
    Ok(yes)
}
