//! Where commands print to.

use crate::telemetry::escape::escape;
use std::io::{self, Write};

/// Output of a command that does more than print. When nobody reads it any more, the command says nothing and goes on:
/// its work
/// and its exit code must not depend on who listens.
pub struct Unread<W> {
    inner: W,
    closed: bool,
}

impl<W: Write> Unread<W> {
    pub fn new(inner: W) -> Unread<W> {
        Unread { inner, closed: false }
    }

    /// Whether nobody reads it, as far as something was written.
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

impl<W: Write> Write for Unread<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unless_closed(bytes.len(), |inner| inner.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_closed((), |inner| inner.flush())
    }
}

/// One line on standard error, for a person. Who does not read it misses it; nothing else changes.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{}", escape(text));
}
