//! The admin endpoint and the metrics of the real binary.

mod access;
mod check;
mod hostile;
mod idle;
mod metrics;
mod outages;
mod reload;
