//! The configuration: a TOML file, options of the command line, or both.
//!
//! In two steps. What was typed (`raw`: tables and spans; `cli::Options`) becomes what it means (`checked`),
//! and all errors are reported at once, each with its line, the nearest name and the way out.

mod args;
mod checked;
mod errors;
mod file;
#[cfg(any(test, fuzzing))]
#[path = "../../fuzz/targets/config.rs"]
pub(crate) mod fuzz;
pub(crate) mod home;
mod raw;
mod reference;
mod remote;
mod self_include;
mod sinks;
mod typed;
pub mod units;
mod words;

pub use args::{AdminEndpoint, admin_endpoint, format_kind, load, load_file, state_dir};
pub use checked::*;
pub use errors::{ConfigError, ConfigErrors};
pub(crate) use file::address::{base as base_url, clear_text};
pub use remote::*;
pub use self_include::{self_include, watch_dirs};
pub use sinks::*;
