//! What is wrong with the configuration: all of it at once.

use std::fmt;
use std::path::PathBuf;

use crate::exit;
use crate::telemetry::escape::escape;

/// One thing that is wrong, or in a warning not as it should be, and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// File and line (from 1); `None` for an option of the command line or what is no line's fault.
    pub location: Option<(PathBuf, usize)>,
    /// The key's path (`source.wiki.home`) or the option (`--sink`); empty where there is none.
    pub key: String,
    /// What is wrong; what to do.
    pub message: String,
    /// The host's fault, not the configuration's: the same call may succeed later.
    pub of_host: bool,
}

impl ConfigError {
    pub(super) fn new(key: impl Into<String>, message: impl Into<String>) -> ConfigError {
        ConfigError { location: None, key: key.into(), message: message.into(), of_host: false }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((file, line)) = &self.location {
            write!(f, "{}:{line}: ", escape(&file.to_string_lossy()))?;
        }
        if !self.key.is_empty() {
            write!(f, "`{}`: ", escape(&self.key))?;
        }
        write!(f, "{}", escape(&self.message))
    }
}

/// Every error of a configuration, in the order of the file. Displays one a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    /// `value` where nothing is wrong.
    pub(super) fn or<T>(self, value: T) -> Result<T, ConfigErrors> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }

    /// The exit code of a process that cannot go on because of them.
    pub fn exit_code(&self) -> u8 {
        if self.0.iter().all(|error| error.of_host) { exit::TRY_AGAIN } else { exit::CONFIG }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
