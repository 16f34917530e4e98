//! Audit APIs.

pub mod answer;
pub mod cloud_id;
pub mod delay;
pub mod token;
