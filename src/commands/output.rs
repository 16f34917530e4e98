//! Output of commands.

use crate::telemetry::escape::escape;
use std::io::{self, Write};

/// Output of a command that does more than print. After its reader has closed it, output is discarded and the
/// command continues: its work and exit code must not depend on the reader.
pub struct OptionalOutput<W> {
    inner: W,
    closed: bool,
}

impl<W: Write> OptionalOutput<W> {
    pub fn new(inner: W) -> OptionalOutput<W> {
        OptionalOutput { inner, closed: false }
    }

    /// Whether the reader has closed it, as far as known.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn unless_closed<T>(&mut self, nothing: T, write: impl FnOnce(&mut W) -> io::Result<T>) -> io::Result<T> {
        if self.closed {
            return Ok(nothing);
        }
        match write(&mut self.inner) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(nothing)
            }
            other => other,
        }
    }
}

impl<W: Write> Write for OptionalOutput<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unless_closed(bytes.len(), |inner| inner.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_closed((), |inner| inner.flush())
    }
}

/// Prints one line to standard error. Errors are ignored.
pub fn print_error(text: &str) {
    let _ = writeln!(io::stderr(), "{}", escape(text));
}
