//! The simulated Confluence keeps to what is known of the real one, and misbehaves on request.

#[path = "../../examples/confluence_sim/sim.rs"]
pub mod sim;

pub mod client;
mod faults;
mod files;
mod routes;
