//! Audit files of a Confluence node.

pub mod frame;
pub mod name;
