//! What the agent can be told to do, apart from running.

pub mod convert;
