//! Where records come from.

pub mod api;
pub mod dedup;
pub mod failover;
pub mod files;
pub mod nodes;
