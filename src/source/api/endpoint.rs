//! Where an audit API is asked: the base URL, and by which of its paths. Pure.

use super::cloud_id;
use super::page::Route;
use super::version::Version;
use crate::config::{ApiConfig, Product};
use crate::position::ApiCursor;
use url::Url;

/// So many answers 404 in a row are no server that is just starting; then its version is asked for.
const NOT_FOUND_MIN: u32 = 3;
/// After so many, some 15 seconds, it is logged: the address may be wrong.
const NOT_FOUND_LOGGED: u32 = 5;
/// After so many, some two minutes, it is asked slowly: no start takes longer.
const NOT_FOUND_MAX: u32 = 8;

/// Where requests go.
pub(crate) struct Endpoint {
    /// `None`: it has to be looked up.
    pub base: Option<Url>,
    gateway: Option<Url>,
    pub route: Route,
    /// Whether an answer has shown that this is the right route.
    pub route_known: bool,
    /// Answers 404 in a row while the right route is not known.
    not_found: u32,
}

/// What an answer 404 means for the route.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotFound {
    /// Nothing: the API is not there.
    Missing,
    /// The server may be starting.
    Wait,
    /// This Confluence may be older than 7.5: its version decides.
    AskVersion,
}

impl Endpoint {
    pub(crate) fn new(config: &ApiConfig) -> Endpoint {
        let mut endpoint = Endpoint {
            base: Some(config.http.base.clone()),
            gateway: None,
            route: Route::Auditing,
            route_known: false,
            not_found: 0,
        };
        if let Product::Cloud { scoped, cloud_id, gateway } = &config.product {
            (endpoint.route, endpoint.route_known) = (Route::Cloud, true);
            if *scoped {
                (endpoint.base, endpoint.gateway) = (None, Some(gateway.clone()));
                if let Some(id) = cloud_id {
                    endpoint.found(id);
                }
            }
        }
        endpoint
    }

    /// Counts an answer 404. `saved` is what the checkpoint knows: where the newer route was used once there is
    /// no older one, and where the older was used a single answer is enough to ask.
    pub(crate) fn not_found(&mut self, saved: Option<ApiCursor>) -> NotFound {
        let was_legacy = saved.is_some_and(|cursor| cursor.legacy);
        if self.route != Route::Auditing || self.route_known || saved.is_some() && !was_legacy {
            return NotFound::Missing;
        }
        self.not_found = self.not_found.saturating_add(1);
        if was_legacy || self.not_found >= NOT_FOUND_MIN { NotFound::AskVersion } else { NotFound::Wait }
    }

    /// Whether the answers 404 so far are a matter of seconds or minutes.
    pub(crate) fn may_be_starting(&self) -> bool {
        (1..NOT_FOUND_MAX).contains(&self.not_found)
    }

    pub(crate) fn is_starting_for_long(&self) -> bool {
        self.not_found >= NOT_FOUND_LOGGED
    }

    /// The version is known now, or cannot be learned. Returns whether the older route is to be used.
    pub(crate) fn decide(&mut self, version: Option<Version>, saved: Option<ApiCursor>) -> bool {
        let legacy = match version {
            Some(version) => version.is_older_than_7_5(),
            None => saved.is_some_and(|cursor| cursor.legacy),
        };
        if legacy {
            self.route = Route::Legacy;
        }
        legacy
    }

    /// An answer has come by this route. Returns whether that shows for the first time that it is the right one.
    pub(crate) fn answered(&mut self) -> bool {
        self.not_found = 0;
        self.base.is_some() && !std::mem::replace(&mut self.route_known, true)
    }

    /// No good answer has come: if the legacy route was only tried, it is not the right one.
    pub(crate) fn not_legacy_either(&mut self) -> bool {
        let tried = self.route == Route::Legacy && !self.route_known;
        if tried {
            self.route = Route::Auditing;
        }
        tried
    }

    /// A Confluence that was older than 7.5 may have been upgraded.
    pub(crate) fn look_for_upgrade(&mut self) {
        if self.route == Route::Legacy {
            (self.route, self.route_known) = (Route::Auditing, false);
        }
    }

    /// The cloud id is known, and with it where scoped tokens are used.
    pub(crate) fn found(&mut self, id: &str) {
        if let Some(gateway) = &self.gateway {
            self.base = Some(cloud_id::scoped_base(gateway, id));
        }
    }
}
