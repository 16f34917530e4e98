//! Behaviour of the real binary.

mod check;
mod config;
mod crash;
mod files;
mod generator;
mod rig;
mod state;
mod store;
mod supervise;
mod tidy;
