//! Behaviour of the real binary.

mod check;
mod config;
mod crash;
mod files;
mod full;
mod generator;
mod restart;
mod rig;
mod state;
mod store;
mod supervise;
mod tidy;
