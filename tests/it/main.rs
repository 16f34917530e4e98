//! Behaviour of the real binary.

mod check;
mod config;
mod generator;
mod store;
mod tidy;
