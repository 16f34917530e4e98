//! A simulated Confluence for two terminals: this one serves, the other runs the agent.

#[path = "sim.rs"]
mod sim;

fn main() {
    match sim::Sim::data_center() {
        Ok(sim) => println!("{}", sim.url()),
        Err(error) => eprintln!("error: {error}"),
    }
}
