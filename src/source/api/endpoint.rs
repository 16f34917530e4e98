//! The base URL and the route of an audit API. Pure.

use super::cloud_id;
use super::page::Route;
use super::version::Version;
use crate::config::{ApiConfig, Product};
use crate::position::ApiCursor;
use url::Url;

/// After this many responses with 404 in a row, the version is read to choose the route.
const NOT_FOUND_MIN: u32 = 3;
/// After this many (about 15 seconds) it is logged, because the address may be wrong.
const NOT_FOUND_LOGGED: u32 = 5;
/// After this many (about two minutes) the server is no longer considered to be starting, and is retried slowly.
const NOT_FOUND_MAX: u32 = 8;

/// Where requests go.
pub(crate) struct Endpoint {
    /// `None`: it must be looked up by the cloud id.
    pub base: Option<Url>,
    /// The host for scoped tokens.
    gateway: Option<Url>,
    pub route: Route,
    /// Whether a response has confirmed the route.
    pub route_known: bool,
    /// Responses with 404 in a row while the route is not confirmed.
    not_found: u32,
}

/// What a response with 404 means for the route.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotFound {
    /// The route is right, and the API does not exist.
    Missing,
    /// The server may be starting.
    Wait,
    /// This Confluence may be older than 7.5: read its version.
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
                    endpoint.set_cloud_id(id);
                }
            }
        }
        endpoint
    }

    /// Counts a response with 404. `saved`: what the checkpoint has stored. If the newer route has worked before, the
    /// legacy route is never used. If the legacy route was used before, one 404 is enough to read the version.
    pub(crate) fn not_found(&mut self, saved: Option<ApiCursor>) -> NotFound {
        let was_legacy = saved.is_some_and(|cursor| cursor.legacy);
        if self.route != Route::Auditing || self.route_known || saved.is_some() && !was_legacy {
            return NotFound::Missing;
        }
        self.not_found = self.not_found.saturating_add(1);
        if was_legacy || self.not_found >= NOT_FOUND_MIN { NotFound::AskVersion } else { NotFound::Wait }
    }

    /// Whether the server may still be starting after these responses with 404.
    pub(crate) fn may_be_starting(&self) -> bool {
        (1..NOT_FOUND_MAX).contains(&self.not_found)
    }

    pub(crate) fn is_starting_too_long(&self) -> bool {
        self.not_found >= NOT_FOUND_LOGGED
    }

    /// Chooses the route by the version, if it is known. Returns whether it is the legacy route.
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

    /// The route has returned a page. Returns whether that confirms the route for the first time.
    pub(crate) fn response_received(&mut self) -> bool {
        self.not_found = 0;
        self.base.is_some() && !std::mem::replace(&mut self.route_known, true)
    }

    /// A request failed: if the legacy route was not confirmed, returns to the newer one. Returns whether it did.
    pub(crate) fn reject_legacy(&mut self) -> bool {
        let tried = self.route == Route::Legacy && !self.route_known;
        if tried {
            self.route = Route::Auditing;
        }
        tried
    }

    /// Tries the newer route again, because a Confluence before 7.5 may have been upgraded.
    pub(crate) fn retry_auditing_route(&mut self) {
        if self.route == Route::Legacy {
            (self.route, self.route_known) = (Route::Auditing, false);
        }
    }

    /// Sets the base URL for scoped tokens from the cloud id.
    pub(crate) fn set_cloud_id(&mut self, id: &str) {
        if let Some(gateway) = &self.gateway {
            self.base = Some(cloud_id::scoped_base(gateway, id));
        }
    }
}
