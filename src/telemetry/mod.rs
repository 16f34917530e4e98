//! What the agent says about itself.

pub mod escape;
mod flood;
pub mod log;
