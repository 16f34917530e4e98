//! The commands of the program.

mod admin_client;
pub mod check;
mod confirm;
pub mod convert;
pub mod find;
mod findings;
pub mod generate;
mod layout;
pub mod ledger;
mod lookup;
pub(crate) mod moment;
pub mod output;
mod progress;
pub mod prove;
pub mod quarantine;
pub mod reconcile;
pub mod report;
pub mod run;
pub mod setup;
pub mod state;
pub mod status;
pub mod support_bundle;
mod verdict;
pub mod verify;
