//! What a person calls besides `run`.

pub mod check;
pub mod convert;
pub mod generate;
pub mod output;
pub mod quarantine;
pub mod run;
pub mod setup;
pub mod state;
