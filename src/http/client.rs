//! An HTTP client for one server.

use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, RequestBuilder};
use tokio::time::timeout;
use url::Url;

use super::build::{self, ReloadingClient};
use super::{ActiveProxy, HttpError, Phase, Response, Secrets, error, redirect};
use crate::clock;
use crate::config::{Auth, HttpConfig, Timeouts};
use crate::credential::Credential;
use crate::secret::Secret;

/// Is told of each response, and how long the request took.
pub(crate) type ResponseObserver = Box<dyn Fn(&Result<Response, HttpError>, Duration) + Send>;

/// Keeps connections and credentials of one configured server.
pub(crate) struct Client {
    config: HttpConfig,
    /// URLs below these may be requested, and receive the credentials.
    allowed_bases: Vec<Url>,
    /// The token or the password of `Auth`.
    credential: Option<Credential>,
    headers: Vec<(String, Credential)>,
    client: ReloadingClient,
    /// The last response was 401: files are read again even if they look unchanged.
    refused: bool,
    spare_body: Vec<u8>,
    /// Secrets in bodies, and of other servers of the same service.
    extra_secrets: Vec<Secret>,
    observer: Option<ResponseObserver>,
}

impl Client {
    /// Reads no file yet. Errors of files or settings are returned by each request, until they are fixed.
    pub(crate) fn new(config: &HttpConfig) -> Client {
        let credential = match &config.auth {
            Auth::None => None,
            Auth::Bearer(reference) | Auth::Scheme(_, reference) => Some(reference),
            Auth::Basic { password, .. } => Some(password),
        };
        let headers = config.headers.iter();
        Client {
            allowed_bases: vec![config.base.clone()],
            credential: credential.cloned().map(Credential::new),
            headers: headers.map(|(name, value)| (name.clone(), Credential::new(value.clone()))).collect(),
            client: ReloadingClient::new(config),
            config: config.clone(),
            refused: false,
            spare_body: Vec::new(),
            extra_secrets: Vec::new(),
            observer: None,
        }
    }

    /// Also allows requests below `base`. They carry the credentials, so `base` must belong to the same
    /// service.
    pub(crate) fn allow(&mut self, base: Url) {
        if !self.allowed_bases.contains(&base) {
            self.allowed_bases.push(base);
        }
    }

    /// Also redacts these secrets in responses, although no header contains them.
    pub(crate) fn redact(&mut self, secrets: Vec<Secret>) {
        self.extra_secrets = secrets;
    }

    /// Passes the responses of [`Client::get`] and [`Client::get_anonymously`] to `observer`.
    pub(crate) fn observe(&mut self, observer: ResponseObserver) {
        self.observer = Some(observer);
    }

    fn observed(&self, began: Instant, result: Result<Response, HttpError>) -> Result<Response, HttpError> {
        if let Some(observer) = &self.observer {
            observer(&result, clock::monotonic().saturating_duration_since(began));
        }
        result
    }

    /// Sends GET with credentials to a URL below an allowed base.
    pub(crate) async fn get(&mut self, url: &Url) -> Result<Response, HttpError> {
        let began = clock::monotonic();
        let result = match self.exchange(Method::GET, url, HeaderMap::new(), Vec::new()) {
            Ok(exchange) => exchange.run().await,
            Err(error) => Err(error),
        };
        self.note(&result);
        self.observed(began, result)
    }

    /// Sends GET without `Authorization` and without the configured headers.
    pub(crate) async fn get_anonymously(&mut self, url: &Url) -> Result<Response, HttpError> {
        let began = clock::monotonic();
        let client = self.client.get(&self.config)?;
        let result = self.prepare(&client, Method::GET, url, HeaderMap::new(), Vec::new())?.run().await;
        self.observed(began, result)
    }

    /// Prepares a request with credentials. Several may run at once. `overrides` replace headers of the configuration.
    /// Pass the result to [`Client::note`].
    pub(crate) fn exchange(
        &mut self,
        method: Method,
        url: &Url,
        overrides: HeaderMap,
        body: Vec<u8>,
    ) -> Result<HttpCall, HttpError> {
        // All are read even if one fails, so that the next change of each is detected.
        let (client, headers, authorization) =
            (self.client.get(&self.config), self.configured_headers(), self.authorization());
        let (client, mut headers) = (client?, headers?);
        if let Some(value) = authorization? {
            headers.insert(AUTHORIZATION, value);
        }
        headers.extend(overrides);
        self.prepare(&client, method, url, headers, body)
    }

    /// Records the status of a response: after a 401, credential files are read again even if they look
    /// unchanged.
    pub(crate) fn note(&mut self, result: &Result<Response, HttpError>) {
        self.refused = result.as_ref().is_ok_and(|result| result.status == 401);
    }

    /// Whether a credential has changed, so that a retry after a refusal is useful.
    pub(crate) fn credentials_changed(&self) -> bool {
        let headers = self.headers.iter().map(|(_, value)| value);
        let mut all = self.credential.iter().chain(headers).chain(&self.client.proxy_password);
        all.any(Credential::changed) || self.client.files_changed()
    }

    /// The proxy for a URL.
    pub(crate) fn via(&self, url: &Url) -> Option<ActiveProxy> {
        self.client.proxies.via(url)
    }

    /// Takes back a body buffer for the next response.
    pub(crate) fn recycle(&mut self, body: Vec<u8>) {
        if body.capacity() > self.spare_body.capacity() {
            self.spare_body = body;
        }
    }

    fn configured_headers(&mut self) -> Result<HeaderMap, HttpError> {
        let values: Vec<_> = self.headers.iter_mut().map(|(_, value)| value.read()).collect();
        let mut headers = HeaderMap::with_capacity(values.len() + 2);
        for ((name, _), value) in self.headers.iter().zip(values) {
            let wrong = |_| HttpError::Setting(format!("`{name}` is not a valid header name"));
            let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(wrong)?;
            let value = value.map_err(HttpError::Credential)?;
            let what = format!("the value of the header `{name}`");
            headers.insert(parsed, build::sensitive(value.expose(), what)?);
        }
        Ok(headers)
    }

    fn authorization(&mut self) -> Result<Option<HeaderValue>, HttpError> {
        let Some(credential) = &mut self.credential else {
            return Ok(None);
        };
        let secret = match self.refused {
            true => credential.reread(),
            false => credential.read(),
        };
        let secret = secret.map_err(HttpError::Credential)?;
        match &self.config.auth {
            Auth::Basic { user, .. } => Ok(Some(build::basic(user, &secret)?)),
            other => {
                let scheme = match other {
                    Auth::Scheme(scheme, _) => scheme,
                    _ => "Bearer",
                };
                let text = format!("{scheme} {}", secret.expose());
                build::sensitive(&text, "the token".into()).map(Some)
            }
        }
    }

    fn prepare(
        &mut self,
        client: &reqwest::Client,
        method: Method,
        url: &Url,
        mut headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<HttpCall, HttpError> {
        if !self.allowed_bases.iter().any(|base| redirect::is_below(url, base)) {
            return Err(HttpError::Foreign { url: redirect::without_secrets(url) });
        }
        let secrets = self.secrets(&headers)?;
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let mut request = client.request(method, url.clone()).headers(headers);
        if !body.is_empty() {
            request = request.body(body);
        }
        let mut buffer = std::mem::take(&mut self.spare_body);
        buffer.clear();
        Ok(HttpCall {
            via: self.via(url),
            url: url.clone(),
            request,
            buffer,
            bytes_max: self.config.body_bytes_max,
            timeouts: self.config.timeouts,
            secrets,
        })
    }

    /// The secrets of a request with these headers, in each form in which a server may repeat them.
    fn secrets(&self, headers: &HeaderMap) -> Result<Secrets, HttpError> {
        let mut secrets = Secrets::of(headers);
        let plain = self.credential.iter().chain(&self.client.proxy_password);
        secrets.add(plain.filter_map(Credential::held).chain(&self.extra_secrets).cloned());
        secrets.add(self.client.proxies.secrets());
        let proxy = self.config.proxy.as_ref().and_then(|proxy| proxy.auth.as_ref());
        let password = self.client.proxy_password.as_ref().and_then(Credential::held);
        if let (Some((user, _)), Some(password)) = (proxy, password) {
            secrets.add_header(&build::basic(user, password)?);
        }
        Ok(secrets)
    }
}

/// A prepared request with its limits.
#[must_use]
pub(crate) struct HttpCall {
    url: Url,
    via: Option<ActiveProxy>,
    request: RequestBuilder,
    buffer: Vec<u8>,
    bytes_max: usize,
    timeouts: Timeouts,
    secrets: Secrets,
}

impl HttpCall {
    /// Sends the request and waits for the complete response.
    pub(crate) async fn run(self) -> Result<Response, HttpError> {
        let total = self.timeouts.whole;
        let result = timeout(total, self.send()).await;
        result.unwrap_or_else(|_| Err(timed_out(Phase::Whole, total)))
    }

    async fn send(self) -> Result<Response, HttpError> {
        let HttpCall { url, via, request, buffer: mut body, bytes_max, timeouts, secrets } = self;
        let failed = |error| error::from_reqwest(error, &url, timeouts.connect, via.clone());
        let head = timeout(timeouts.first_byte, request.send()).await;
        let head = head.map_err(|_| timed_out(Phase::Head, timeouts.first_byte))?;
        let mut response = head.map_err(failed)?;
        if let Some(to) = redirect_target(&response) {
            return Err(redirect::error(response.status().as_u16(), to, &url, &secrets));
        }
        let announced = response.content_length().unwrap_or(0);
        if announced > bytes_max as u64 {
            return Err(HttpError::TooLarge { bytes_max });
        }
        body.reserve(announced as usize);
        loop {
            let piece = timeout(timeouts.idle, response.chunk()).await;
            let piece = piece.map_err(|_| timed_out(Phase::Idle, timeouts.idle))?;
            let Some(piece) = piece.map_err(failed)? else {
                break;
            };
            if body.len() + piece.len() > bytes_max {
                return Err(HttpError::TooLarge { bytes_max });
            }
            body.extend_from_slice(&piece);
        }
        Ok(Response {
            status: response.status().as_u16(),
            headers: std::mem::take(response.headers_mut()),
            body,
            secrets,
            via,
        })
    }
}

fn redirect_target(response: &reqwest::Response) -> Option<&str> {
    let location = response.headers().get(LOCATION);
    location.filter(|_| response.status().is_redirection())?.to_str().ok()
}

fn timed_out(phase: Phase, after: Duration) -> HttpError {
    HttpError::Timeout { phase, after }
}
