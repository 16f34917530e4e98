//! What the agent knows beyond the record: gathered once, borrowed by formats.

pub mod cloud;
pub mod geo;
pub mod host;

use crate::config::EnrichConfig;
use std::path::Path;
use std::sync::Arc;

/// What is added to the events of all sources.
#[derive(Clone, Debug)]
pub struct Enrichment {
    pub host: host::Host,
    pub cloud: Option<cloud::Cloud>,
    pub geo: Option<Arc<geo::Geo>>,
}

impl Enrichment {
    /// Takes as long as reading the databases, some 100 ms, and at most 5 s; in a cloud whose metadata service does not answer 3 s
    /// more.
    pub fn gather(config: &EnrichConfig) -> Enrichment {
        Enrichment {
            host: host::gather(),
            geo: geo::start(config, Path::new("/")),
            cloud: if config.cloud_metadata {
                cloud::gather()
            } else {
                None
            },
        }
    }
}
