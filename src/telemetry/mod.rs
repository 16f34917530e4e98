//! What the agent says about itself.

pub(crate) mod escape;
mod flood;
pub(crate) mod heartbeat;
mod line;
pub mod log;
pub(crate) mod systemd;

/// An error with its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
