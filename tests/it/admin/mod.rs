//! The admin endpoint and the metrics of the real binary.

mod metrics;
