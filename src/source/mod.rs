//! Where records come from.

pub mod api;
pub(crate) mod failover;
pub mod files;
pub(crate) mod nodes;
