//! Where records come from.

pub mod api;
pub mod failover;
pub mod files;
pub mod nodes;
pub mod recent;
