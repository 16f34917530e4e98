//! Data that is added to events: gathered at the start and shared by the formats.

pub(crate) mod cloud;
pub(crate) mod geo;
pub(crate) mod host;

use crate::config::EnrichConfig;
use std::path::Path;
use std::sync::Arc;

/// Additional data for the events of all sources.
#[derive(Clone, Debug)]
pub(crate) struct Enrichment {
    pub host: host::Host,
    pub cloud: Option<cloud::Cloud>,
    pub geo: Option<Arc<geo::Geo>>,
}

impl Enrichment {
    /// Reads the GeoIP databases, which takes about 100 ms and at most 5 s. In a cloud, a metadata service
    /// that does not respond takes 3 s more.
    pub(crate) fn gather(config: &EnrichConfig) -> Enrichment {
        Enrichment {
            host: host::gather(config.host_fields),
            geo: geo::start(config, Path::new("/")),
            cloud: if config.cloud_metadata { cloud::gather() } else { None },
        }
    }
}
