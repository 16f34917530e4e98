//! The inputs: audit files and audit APIs, the failover between them, and deduplication across both.

pub mod api;
pub(crate) mod failover;
pub mod files;
pub(crate) mod nodes;
