//! What the agent says about itself.

pub mod escape;
mod flood;
mod line;
pub mod log;
pub mod pulse;
pub mod systemd;
