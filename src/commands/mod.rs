//! The commands of the program.

pub mod check;
mod confirm;
pub mod convert;
pub mod generate;
mod layout;
pub mod output;
pub mod quarantine;
pub mod run;
pub mod setup;
pub mod state;
