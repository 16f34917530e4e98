//! The commands of the program.

mod ask;
pub mod check;
pub mod convert;
mod findings;
pub mod generate;
mod layout;
pub(crate) mod moment;
pub mod output;
mod progress;
pub mod quarantine;
pub mod reconcile;
pub mod run;
pub mod setup;
pub mod state;
pub mod verify;
