//! What the agent is told: a TOML file, options of the command line, or both.

mod checked;
pub mod home;

pub use checked::*;
