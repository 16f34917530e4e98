//! Audit APIs.

pub mod answer;
