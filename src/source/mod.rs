//! Where records come from.

pub mod api;
pub mod files;
pub mod recent;
