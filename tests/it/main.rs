//! Behaviour of the real binary.

mod api;
mod auto;
mod chaos;
mod check;
mod check_api;
mod config;
mod crash;
mod enrich;
mod files;
mod full;
mod generator;
mod kafka;
mod nginx;
mod opensearch;
mod quarantine;
mod rig;
mod service;
mod setup;
mod simulator;
mod sinks;
mod state;
mod state_command;
mod store;
mod supervise;
mod syslog;
mod tidy;
