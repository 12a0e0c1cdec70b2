//! HTTP client for trueup's own requests: to git servers, and for health checks of apps.
//!
//! It is the client that the store's SDK uses, so the process has a single TLS stack (rustls on ring, with
//! the host's certificate authorities). The connectors, with and without TLS, are built on first use.

mod error;
mod response;
mod ssrf_guard;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorSettings};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

pub(crate) use error::HttpError;
use response::with_deadline;
pub(crate) use response::{FullResponse, Response};
use ssrf_guard::{AddressPolicy, SsrfGuard};

use self::error::display_host;
use super::deadline::Deadline;
use super::runtime::block_on;
use super::secrets;
use super::watchdog;

/// Time for a connection, including name lookup and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Headers that are sent to another origin after a redirect.
const CROSS_ORIGIN_HEADERS: [&str; 4] = ["accept", "content-type", "pragma", "user-agent"];

/// Longest URL, in bytes. Signed ones have a few thousand.
const MAX_URL_LENGTH: usize = 16 << 10;

/// Most redirects in a row.
const MAX_REDIRECTS: usize = 10;

/// An HTTP client. Cheap to create; its connectors are built on first use.
#[derive(Debug)]
pub(crate) struct HttpClient {
    proxied: bool,
    guard: SsrfGuard,
    /// The server that the operator configured; defaults to that of the first request.
    trusted_server: OnceCell<Url>,
    plain: OnceCell<Connector>,
    tls: OnceCell<Connector>,
}

/// What to ask for.
#[derive(Debug, Default)]
pub(crate) struct Request<'a> {
    pub url: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    /// With a body it is a POST, otherwise a GET.
    pub body: Option<Vec<u8>>,
    /// Whether to follow redirects. Never from https to http.
    pub follow_redirects: bool,
}

impl HttpClient {
    /// Uses the proxies of the environment (`https_proxy`, `no_proxy`, …). Only the first server may be on
    /// this host: a redirect to another one here is refused.
    pub(crate) fn with_proxy() -> HttpClient {
        HttpClient {
            proxied: true,
            guard: SsrfGuard::default(),
            trusted_server: OnceCell::new(),
            plain: OnceCell::new(),
            tls: OnceCell::new(),
        }
    }

    /// Like [`HttpClient::with_proxy`], with the server of this URL (any scheme) as the trusted one.
    pub(crate) fn for_server(address: &str) -> HttpClient {
        let http = HttpClient::with_proxy();
        if let Ok(url) = Url::parse(address) {
            http.trusted_server.get_or_init(|| url);
        }
        http
    }

    /// Uses no proxy and a new connection for each request: for health checks, where a kept connection could
    /// lead to a process that is about to end.
    pub(crate) fn without_proxy() -> HttpClient {
        HttpClient {
            proxied: false,
            ..HttpClient::with_proxy()
        }
    }

    /// For webhooks: uses the proxies of the environment, and connects to public addresses alone; with `allow_private` also
    /// to those of private networks and of this host. Never to a metadata service.
    pub(crate) fn for_webhook(allow_private: bool) -> HttpClient {
        let policy = match allow_private {
            true => AddressPolicy::PrivateToo,
            false => AddressPolicy::Public,
        };
        HttpClient {
            guard: SsrfGuard::with_policy(policy),
            ..HttpClient::with_proxy()
        }
    }

    /// Posts a body, follows no redirect, and reads at most the first `most` bytes of the response. Any status counts as a
    /// response.
    pub(crate) fn post(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
        deadline: &Deadline,
        most: usize,
    ) -> Result<FullResponse, HttpError> {
        let request = Request {
            url,
            headers,
            body: Some(body),
            follow_redirects: false,
        };
        self.send(request, deadline)?.read_up_to(most)
    }

    /// Fetches at most the first `most` bytes of `url`. Any status counts as a response.
    pub(crate) fn get(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        deadline: impl Into<Deadline>,
        most: usize,
    ) -> Result<FullResponse, HttpError> {
        let request = Request {
            url,
            headers,
            ..Request::default()
        };
        self.send(request, &deadline.into())?.read_up_to(most)
    }

    /// Sends a request. Any status counts as a response, except followed redirects.
    pub(crate) fn send(
        &self,
        request: Request<'_>,
        deadline: &Deadline,
    ) -> Result<Response, HttpError> {
        let first = parse_url(request.url)?;
        let trusted = self.trusted_server.get_or_init(|| first.clone());
        let mut url = first.clone();
        for _ in 0..=MAX_REDIRECTS {
            // Credentials are only for the server that they were given for, and so is every header that may
            // contain some.
            let same = url.origin() == first.origin();
            let auth = same.then(|| basic_auth(&first)).flatten();
            self.guard
                .check_url(&url, self.proxied.then_some(trusted))?;
            let response = self.send_once(&request, &url, same, auth.as_deref(), deadline)?;
            let location = match response.header("location") {
                Some(location)
                    if request.follow_redirects
                        && matches!(response.status, 301..=303 | 307 | 308) =>
                {
                    url.join(location)
                        .ok()
                        .filter(|url| url.as_str().len() <= MAX_URL_LENGTH)
                }
                _ => return Ok(response),
            };
            let allowed = |next: &Url| {
                next.scheme() == "https" || next.scheme() == "http" && url.scheme() == "http"
            };
            let Some(next) = location.filter(allowed) else {
                return Err(HttpError::Redirect(display_host(&url)));
            };
            url = next;
        }
        Err(HttpError::Redirect(display_host(&url)))
    }

    fn send_once(
        &self,
        request: &Request<'_>,
        url: &Url,
        same: bool,
        auth: Option<&str>,
        deadline: &Deadline,
    ) -> Result<Response, HttpError> {
        let shown = without_credentials(url);
        let unusable = || HttpError::InvalidUrl(shown.clone());
        let mut http = HttpRequest::new(match &request.body {
            Some(body) => SdkBody::from(body.clone()),
            None => SdkBody::empty(),
        });
        let method = if request.body.is_some() {
            "POST"
        } else {
            "GET"
        };
        http.set_method(method).map_err(|_| unusable())?;
        http.set_uri(shown.as_str()).map_err(|_| unusable())?;
        let auth = auth.map(|auth| ("authorization", auth));
        let headers = request.headers.iter().copied();
        let headers = headers.filter(|(name, _)| same || CROSS_ORIGIN_HEADERS.contains(name));
        for (name, value) in headers.chain(auth) {
            http.headers_mut()
                .try_insert(name.to_owned(), value.to_owned())
                .map_err(|_| unusable())?;
        }
        let host = display_host(url);
        // The address of a webhook is a secret.
        let operation = secrets::redact(format!("{method} {shown}"));
        let _operation = watchdog::begin(operation, deadline.remaining());
        let call = self.connector(url).call(http);
        let response = block_on(with_deadline(call, deadline))?;
        let response: HttpResponse = response.map_err(|error| {
            let refused = self.guard.last_refusal(url);
            refused.unwrap_or_else(|| error::classify(&host, &error))
        })?;
        let headers = response.headers().iter();
        Ok(Response {
            status: response.status().as_u16(),
            headers: headers.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            url: shown,
            host,
            body: ByteStream::new(response.into_body()),
            deadline: deadline.clone(),
            chunk: Vec::new(),
            chunk_position: 0,
        })
    }

    fn connector(&self, url: &Url) -> &Connector {
        let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT);
        let mut builder = Connector::builder().connector_settings(settings.build());
        if self.proxied {
            builder = builder.proxy_config(ProxyConfig::from_env());
        } else {
            builder = builder.pool_max_idle_per_host(0);
        }
        let ring = tls::Provider::Rustls(CryptoMode::Ring);
        match url.scheme() {
            "http" => self.plain.get_or_init(|| {
                // A client without TLS context would resolve names itself. This one loads no authorities.
                let none = TlsContext::builder().with_trust_store(TrustStore::empty());
                let none = none.build().expect("an empty list is valid");
                let builder = builder.tls_provider(ring).tls_context(none);
                builder.build_with_resolver(self.guard.clone())
            }),
            _ => self.tls.get_or_init(|| {
                let builder = builder.tls_provider(ring);
                builder.build_with_resolver(self.guard.clone())
            }),
        }
    }
}

/// The addresses that a connection to `url` may use.
pub(crate) fn resolve(
    url: &str,
    deadline: impl Into<Deadline>,
) -> Result<Vec<SocketAddr>, HttpError> {
    let (url, deadline) = (parse_url(url)?, deadline.into());
    let port = url.port_or_known_default().unwrap_or_default();
    let name = match url.host() {
        Some(Host::Ipv4(address)) => return Ok(vec![(address, port).into()]),
        Some(Host::Ipv6(address)) => return Ok(vec![(address, port).into()]),
        Some(Host::Domain(name)) => name,
        None => return Ok(Vec::new()),
    };
    let _operation = watchdog::begin(format!("look up {name}"), deadline.remaining());
    let found = block_on(with_deadline(
        tokio::net::lookup_host((name, port)),
        &deadline,
    ));
    let addresses = found?.map_err(|_| HttpError::Resolve(name.to_owned()))?;
    Ok(addresses.collect())
}

fn parse_url(text: &str) -> Result<Url, HttpError> {
    let url = Some(text).filter(|text| text.len() <= MAX_URL_LENGTH);
    let url = url.and_then(|text| Url::parse(text).ok());
    url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| {
            let shown = text.split('@').next_back().unwrap_or_default();
            HttpError::InvalidUrl(shown.chars().take(200).collect())
        })
}

fn without_credentials(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only without a host, which `Url::parse` and the allowed schemes rule out.
    let _ = (url.set_username(""), url.set_password(None));
    url.set_fragment(None);
    url.into()
}

fn basic_auth(url: &Url) -> Option<String> {
    let plain = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
    let (user, password) = (url.username(), url.password().unwrap_or_default());
    if user.is_empty() && password.is_empty() {
        return None;
    }
    let pair = [plain(user), plain(password)].join(&b':');
    Some(format!("Basic {}", STANDARD.encode(pair)))
}
