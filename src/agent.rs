//! Starts the threads, connects them, supervises them, and shuts them down in order. Only this module knows all stages.
//!
//! Each source has a reader thread and one thread per sink. With files and an API it has another thread for the
//! requests of the API. One commit thread serves all sources. The main thread waits for signals and for the end of any
//! thread. A thread that ends unexpectedly ends the process, because systemd can restart a process and not a thread.

mod api_driver;
mod api_requests;
mod build;
mod build_context;
mod checkpoint_publisher;
mod commit;
mod encoder;
mod fallback;
mod flow_control;
mod health;
mod held_searches;
mod ingest;
mod ledger_entry;
mod lifecycle;
mod node_filter;
mod open_ledger;
mod reader;
mod row_delivery;
mod run_marker;
mod running;
mod samplers;
mod service;
mod signals;
mod sink_pipeline;
mod sinks;
mod state_store;
mod status;
mod summary;
mod supervisor;
mod threads;
mod unfinished;

#[cfg(test)]
mod commit_due_tests;
#[cfg(test)]
mod commit_tests;
#[cfg(test)]
mod flow_control_tests;
#[cfg(test)]
mod schedules_tests;
#[cfg(test)]
mod unfinished_tests;

/// Locks and channels of `commit`, `flow_control` and `unfinished`. `schedules_tests` compiles these files with others,
/// which let a test choose the order of all threads.
mod sync {
    pub(super) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};
}

pub(crate) use build::describe_agent;
pub use build_context::{AgentError, Mode};
pub use commit::NewBatch;
pub use encoder::Encoder;
pub(crate) use encoder::header_fields;
pub use flow_control::FlowControl;
pub use held_searches::HeldSearches;
pub use ingest::Ingest;
pub use ledger_entry::RecordPlace;
pub use sink_pipeline::SinkPipeline;
pub(crate) use sinks::context;
pub use summary::{Delivered, SourceTotal, Summary};

use crate::admin;
use crate::config::Config;
use crate::telemetry::log::LogGuard;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Runs until a signal stops it, or with `once` until everything is delivered. Messages that the log suppresses as
/// repeats are summed up every few seconds, and before the last line.
pub fn run(config: &Config, mode: Mode, log: &LogGuard) -> Result<Summary, AgentError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before anything is changed, so that a signal from here on leads to an orderly stop.
        let received = signals::listen()?;
        let mut running = build::build(config, mode)?;
        if !mode.dry_run && !mode.once {
            open_admin_endpoint(config, &mut running);
        }
        Ok(running.supervise(config.shutdown_timeout, received, log).await)
    })
}

/// Without the endpoint everything is delivered all the same.
fn open_admin_endpoint(config: &Config, running: &mut running::Running) {
    let observed = Arc::new(status::Observed::new(config, running));
    let respond = observed.clone().respond();
    let config = &config.admin;
    let failed = |at: String, error: &std::io::Error| {
        tracing::error!(at, %error, "the admin endpoint cannot be opened; the agent delivers without it");
    };
    if let Some(path) = config.socket.clone().or_else(socket_of_unit)
        && let Err(error) = admin::serve_socket(&path, respond.clone())
    {
        failed(path.display().to_string(), &error);
    }
    if let Some(address) = config.listen
        && let Err(error) = admin::serve_tcp(address, config, respond)
    {
        failed(address.to_string(), &error);
    }
    running.on_tick = Box::new(move || observed.sample());
}

/// In the directory that systemd makes for the unit, if the unit has one.
fn socket_of_unit() -> Option<PathBuf> {
    let directories = std::env::var("RUNTIME_DIRECTORY").ok()?;
    let directory = directories.split(':').next().filter(|directory| directory.starts_with('/'))?;
    Some(Path::new(directory).join("admin.sock"))
}
