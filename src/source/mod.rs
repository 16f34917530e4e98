//! Where records come from.

pub mod api;
pub mod dedup;
pub(crate) mod failover;
pub mod files;
pub(crate) mod nodes;
