//! Behaviour of the real binary.

mod check;
mod config;
mod files;
mod generator;
mod rig;
