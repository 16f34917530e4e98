//! One server and what is needed to ask it.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, RequestBuilder};
use tokio::time::timeout;
use url::Url;

use super::build::{self, Built};
use super::{HttpError, Phase, Response, Secrets, Via, error, redirect};
use crate::config::{Auth, HttpConfig, Timeouts};
use crate::credential::Credential;
use crate::secret::Secret;

/// Keeps the connections and the credentials of one configured server.
pub struct Client {
    config: HttpConfig,
    /// Where credentials may be sent: scheme, host, port and the beginning of the path.
    bases: Vec<Url>,
    /// Of `Auth`: the token or the password.
    credential: Option<Credential>,
    headers: Vec<(String, Credential)>,
    built: Built,
    /// The last answer was 401: files are read again even if they look the same.
    refused: bool,
    spare_body: Vec<u8>,
    /// Of bodies, and of other servers of the same service.
    concealed: Vec<Secret>,
}

impl Client {
    /// Reads nothing yet. What is wrong with a file or a setting, each request tells, and a later one may find it mended.
    pub fn new(config: &HttpConfig) -> Client {
        let credential = match &config.auth {
            Auth::None => None,
            Auth::Bearer(reference) | Auth::Scheme(_, reference) => Some(reference),
            Auth::Basic { password, .. } => Some(password),
        };
        let headers = config.headers.iter();
        Client {
            bases: vec![config.base.clone()],
            credential: credential.cloned().map(Credential::new),
            headers: headers
                .map(|(name, value)| (name.clone(), Credential::new(value.clone())))
                .collect(),
            built: Built::new(config),
            config: config.clone(),
            refused: false,
            spare_body: Vec::new(),
            concealed: Vec::new(),
        }
    }

    /// Lets requests go below `base` too. Credentials are sent there: name only what belongs to the same service.
    pub fn allow(&mut self, base: Url) {
        if !self.bases.contains(&base) {
            self.bases.push(base);
        }
    }

    /// These, too, are taken out of what is told of answers, though no header carries them.
    pub fn conceal(&mut self, secrets: Vec<Secret>) {
        self.concealed = secrets;
    }

    /// GET with the credentials, of a URL below an own base.
    pub async fn get(&mut self, url: &Url) -> Result<Response, HttpError> {
        let result = match self.exchange(Method::GET, url, HeaderMap::new(), Vec::new()) {
            Ok(exchange) => exchange.run().await,
            Err(error) => Err(error),
        };
        self.note(&result);
        result
    }

    /// The same with nothing that may be a secret: without the `Authorization` header and the configured ones.
    pub async fn get_anonymously(&mut self, url: &Url) -> Result<Response, HttpError> {
        let client = self.built.client(&self.config)?;
        self.prepare(&client, Method::GET, url, HeaderMap::new(), Vec::new())?
            .run()
            .await
    }

    /// A request with the credentials, to be run; several may run at once. `headers` win over the credentials. Its result is to
    /// be [noted](Client::note).
    pub fn exchange(
        &mut self,
        method: Method,
        url: &Url,
        own: HeaderMap,
        body: Vec<u8>,
    ) -> Result<HttpCall, HttpError> {
        // Each is read, whichever fails: then all that has changed since is new.
        let (client, headers, authorization) = (
            self.built.client(&self.config),
            self.configured_headers(),
            self.authorization(),
        );
        let (client, mut headers) = (client?, headers?);
        if let Some(value) = authorization? {
            headers.insert(AUTHORIZATION, value);
        }
        headers.extend(own);
        self.prepare(&client, method, url, headers, body)
    }

    /// Takes note of a result: after a refusal the credentials' files are read again even if they look the same.
    pub fn note(&mut self, result: &Result<Response, HttpError>) {
        self.refused = result.as_ref().is_ok_and(|answer| answer.status == 401);
    }

    /// Whether a credential reads differently now: after a refusal, then, it is worth to ask again at once.
    pub fn credentials_changed(&self) -> bool {
        let headers = self.headers.iter().map(|(_, value)| value);
        let mut all = self
            .credential
            .iter()
            .chain(headers)
            .chain(&self.built.proxy_password);
        all.any(Credential::changed) || self.built.files_changed()
    }

    /// The proxy by which a URL is asked.
    pub fn via(&self, url: &Url) -> Option<Via> {
        self.built.proxies.via(url)
    }

    /// Takes back a body, so that the next one needs no new memory.
    pub fn recycle(&mut self, body: Vec<u8>) {
        if body.capacity() > self.spare_body.capacity() {
            self.spare_body = body;
        }
    }

    fn configured_headers(&mut self) -> Result<HeaderMap, HttpError> {
        let values: Vec<_> = self.headers.iter_mut().map(|(_, value)| value.read()).collect();
        let mut headers = HeaderMap::with_capacity(values.len() + 2);
        for ((name, _), value) in self.headers.iter().zip(values) {
            let wrong = |_| HttpError::Setting(format!("`{name}` is no name of a header"));
            let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(wrong)?;
            let value = value.map_err(HttpError::Credential)?;
            let what = format!("the value of the header `{name}`");
            headers.insert(parsed, sensitive(value.expose(), what)?);
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
                sensitive(&text, "the token".into()).map(Some)
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
        if !self.bases.iter().any(|base| redirect::is_below(url, base)) {
            return Err(HttpError::Foreign {
                url: redirect::shown(url),
            });
        }
        let secrets = self.secrets(&headers)?;
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let mut request = client.request(method, url.clone()).headers(headers);
        if !body.is_empty() {
            request = request.body(body);
        }
        let mut answer_body = std::mem::take(&mut self.spare_body);
        answer_body.clear();
        Ok(HttpCall {
            via: self.via(url),
            url: url.clone(),
            request,
            answer_body,
            bytes_max: self.config.body_bytes_max,
            timeouts: self.config.timeouts,
            secrets,
        })
    }

    /// What a request with these headers carries that nobody may see, in each form in which a server may repeat it.
    fn secrets(&self, headers: &HeaderMap) -> Result<Secrets, HttpError> {
        let mut secrets = Secrets::of(headers);
        let plain = self.credential.iter().chain(&self.built.proxy_password);
        secrets.add(plain.filter_map(Credential::held).chain(&self.concealed).cloned());
        secrets.add(self.built.proxies.secrets());
        let proxy = self.config.proxy.as_ref().and_then(|proxy| proxy.auth.as_ref());
        let password = self.built.proxy_password.as_ref().and_then(Credential::held);
        if let (Some((user, _)), Some(password)) = (proxy, password) {
            secrets.add_header(&build::basic(user, password)?);
        }
        Ok(secrets)
    }
}

/// A request and what its answer may cost.
#[must_use]
pub struct HttpCall {
    url: Url,
    via: Option<Via>,
    request: RequestBuilder,
    answer_body: Vec<u8>,
    bytes_max: usize,
    timeouts: Timeouts,
    secrets: Secrets,
}

impl HttpCall {
    /// Sends it and waits for the whole answer.
    pub async fn run(self) -> Result<Response, HttpError> {
        let whole = self.timeouts.whole;
        let answer = timeout(whole, self.ask()).await;
        answer.unwrap_or_else(|_| Err(late(Phase::Whole, whole)))
    }

    async fn ask(self) -> Result<Response, HttpError> {
        let HttpCall {
            url,
            via,
            request,
            answer_body: mut body,
            bytes_max,
            timeouts,
            secrets,
        } = self;
        let failed = |error| error::from_reqwest(error, &url, timeouts.connect, via.clone());
        let head = timeout(timeouts.first_byte, request.send()).await;
        let head = head.map_err(|_| late(Phase::Head, timeouts.first_byte))?;
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
            let piece = piece.map_err(|_| late(Phase::Idle, timeouts.idle))?;
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
    location
        .filter(|_| response.status().is_redirection())?
        .to_str()
        .ok()
}

fn late(phase: Phase, after: Duration) -> HttpError {
    HttpError::Timeout { phase, after }
}

/// A header's value that no debug output shows.
pub(super) fn sensitive(text: &str, what: String) -> Result<HeaderValue, HttpError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| HttpError::NoHeader { what })?;
    value.set_sensitive(true);
    Ok(value)
}
