//! What the agent knows beyond the record: gathered once, borrowed by formats.

pub mod host;
