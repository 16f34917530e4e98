//! What a person calls besides `run`.

pub mod check;
pub mod generate;
