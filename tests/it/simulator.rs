//! The simulated Confluence keeps to what is known of the real one, and misbehaves as it is told.

#[path = "../../examples/confluence_sim/sim.rs"]
pub mod sim;

pub mod client;
mod faults;
mod files;
mod routes;
