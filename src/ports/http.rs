//! HTTP requests of trueup's own: to git servers, and to the health checks of apps.
//!
//! The client is the one below the store's SDK, so there is one TLS in the process (rustls on ring,
//! with the authorities of the host). Each half of it, with and without TLS, is built on first use.

mod error;
mod guard;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::future::Future;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

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

pub use error::HttpError;
use guard::Guard;

use super::patience::{GivenUp, Patience};
use super::runtime::block_on;
use super::watchdog;

/// How long a connection may take, the name's lookup and TLS included.
const CONNECT: Duration = Duration::from_secs(20);

/// What another server than the one asked may see of the headers.
const HARMLESS: [&str; 4] = ["accept", "content-type", "pragma", "user-agent"];

/// No address is longer, in bytes. Signed ones have some thousand.
const LONGEST_URL: usize = 16 << 10;

/// How many times in a row a server may send us elsewhere.
const REDIRECTS: usize = 10;

/// A client. Cheap to make; what it needs is made when it is first used.
#[derive(Debug)]
pub struct Http {
    proxied: bool,
    guard: Guard,
    /// The server for which it is, as the operator named it: the first that is asked if not said.
    home: OnceCell<Url>,
    plain: OnceCell<Connector>,
    tls: OnceCell<Connector>,
}

/// What to ask for.
#[derive(Debug, Default)]
pub struct Request<'a> {
    pub url: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    /// With a body it is a POST, without one a GET.
    pub body: Option<Vec<u8>>,
    /// Whether to go where the server sends us. Never from https to http.
    pub follow: bool,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// There was more of the body than was asked for.
    pub cut: bool,
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// Where it came from, after all redirects; without a user name and password.
    pub url: String,
    host: String,
    body: ByteStream,
    patience: Patience,
    /// What came and was not read yet, from `read` on.
    chunk: Vec<u8>,
    read: usize,
}

impl Http {
    /// Through the proxies that the environment names (`https_proxy`, `no_proxy`, …). Only the first server
    /// that is asked may be on this host: it leads to no other there.
    pub fn proxied() -> Http {
        Http {
            proxied: true,
            guard: Guard::default(),
            home: OnceCell::new(),
            plain: OnceCell::new(),
            tls: OnceCell::new(),
        }
    }

    /// As [`Http::proxied`], for what the server at this address says, of any scheme.
    pub fn led_by(address: &str) -> Http {
        let http = Http::proxied();
        if let Ok(url) = Url::parse(address) {
            http.home.get_or_init(|| url);
        }
        http
    }

    /// Without a proxy, and each request over a connection of its own: for health checks, where a
    /// kept connection could lead to a process that is about to end.
    pub fn direct() -> Http {
        Http {
            proxied: false,
            ..Http::proxied()
        }
    }

    /// Gets what is at `url`, at most the first `most` bytes of it. Any status is an answer.
    pub fn get(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        patience: impl Into<Patience>,
        most: usize,
    ) -> Result<Answer, HttpError> {
        let request = Request {
            url,
            headers,
            ..Request::default()
        };
        let mut response = self.send(request, &patience.into())?;
        let mut body = Vec::new();
        while body.len() <= most && response.fill()? {
            body.append(&mut response.chunk);
        }
        let cut = body.len() > most;
        body.truncate(most);
        Ok(Answer {
            status: response.status,
            headers: response.headers,
            body,
            cut,
        })
    }

    /// Sends a request. Any status is an answer, but for those that were followed.
    pub fn send(&self, request: Request<'_>, patience: &Patience) -> Result<Response, HttpError> {
        let first = parse(request.url)?;
        let home = self.home.get_or_init(|| first.clone());
        let mut url = first.clone();
        for _ in 0..=REDIRECTS {
            // A name and password are for the server to which they were given, and so is every header that
            // may be one.
            let same = url.origin() == first.origin();
            let auth = same.then(|| authorization(&first)).flatten();
            self.guard.check(&url, self.proxied.then_some(home))?;
            let response = self.once(&request, &url, same, auth.as_deref(), patience)?;
            let there = match response.header("location") {
                Some(there)
                    if request.follow && matches!(response.status, 301..=303 | 307 | 308) =>
                {
                    url.join(there)
                        .ok()
                        .filter(|url| url.as_str().len() <= LONGEST_URL)
                }
                _ => return Ok(response),
            };
            let allowed = |next: &Url| {
                next.scheme() == "https" || next.scheme() == "http" && url.scheme() == "http"
            };
            let Some(there) = there.filter(allowed) else {
                return Err(HttpError::Redirect(host(&url)));
            };
            url = there;
        }
        Err(HttpError::Redirect(host(&url)))
    }

    fn once(
        &self,
        request: &Request<'_>,
        url: &Url,
        same: bool,
        auth: Option<&str>,
        patience: &Patience,
    ) -> Result<Response, HttpError> {
        let shown = bare(url);
        let unusable = || HttpError::Address(shown.clone());
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
        let said = request.headers.iter().copied();
        let said = said.filter(|(name, _)| same || HARMLESS.contains(name));
        for (name, value) in said.chain(auth) {
            let set = http
                .headers_mut()
                .try_insert(name.to_owned(), value.to_owned());
            set.map_err(|_| unusable())?;
        }
        let host = host(url);
        let _operation = watchdog::begin(format!("{method} {shown}"), patience.left());
        let call = self.connector(url).call(http);
        let answer = block_on(bounded(call, patience)).map_err(HttpError::GivenUp)?;
        let answer: HttpResponse = answer.map_err(|error| {
            let refused = self.guard.refused(url);
            refused.unwrap_or_else(|| error::sort(&host, error))
        })?;
        let headers = answer.headers().iter();
        Ok(Response {
            status: answer.status().as_u16(),
            headers: headers.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            url: shown,
            host,
            body: ByteStream::new(answer.into_body()),
            patience: patience.clone(),
            chunk: Vec::new(),
            read: 0,
        })
    }

    fn connector(&self, url: &Url) -> &Connector {
        let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT);
        let mut builder = Connector::builder().connector_settings(settings.build());
        if self.proxied {
            builder = builder.proxy_config(ProxyConfig::from_env());
        } else {
            builder = builder.pool_max_idle_per_host(0);
        }
        let ring = tls::Provider::Rustls(CryptoMode::Ring);
        match url.scheme() {
            "http" if self.proxied => self.plain.get_or_init(|| {
                // One without TLS would look names up by itself. For this one no authorities are read.
                let none = TlsContext::builder().with_trust_store(TrustStore::empty());
                let none = none.build().expect("an empty list is valid");
                let builder = builder.tls_provider(ring).tls_context(none);
                builder.build_with_resolver(self.guard.clone())
            }),
            "http" => self.plain.get_or_init(|| builder.build_http()),
            _ => self.tls.get_or_init(|| {
                let builder = builder.tls_provider(ring);
                builder.build_with_resolver(self.guard.clone())
            }),
        }
    }
}

impl Response {
    /// A header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Waits for the next part of the body; `false` at its end.
    fn fill(&mut self) -> Result<bool, HttpError> {
        let left = self.patience.left();
        let _operation = watchdog::begin(format!("read from {}", self.host), left);
        let next = bounded(self.body.next(), &self.patience);
        let next = block_on(next).map_err(HttpError::GivenUp)?;
        let bytes = next
            .transpose()
            .map_err(|error| error::broken(&self.host, &error))?;
        self.read = 0;
        self.chunk.clear();
        self.chunk
            .extend_from_slice(bytes.as_deref().unwrap_or_default());
        Ok(bytes.is_some())
    }
}

impl Read for Response {
    /// Reads the body. An error is an [`HttpError`].
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.chunk.len() {
            if !self.fill().map_err(io::Error::other)? {
                return Ok(0);
            }
        }
        let left = &self.chunk[self.read..];
        let length = left.len().min(buffer.len());
        buffer[..length].copy_from_slice(&left[..length]);
        self.read += length;
        Ok(length)
    }
}

/// Waits for `future` for as long as there is patience; each one is a sign of life of its own.
async fn bounded<F: Future>(future: F, patience: &Patience) -> Result<F::Output, GivenUp> {
    let begun = Instant::now();
    let mut future = pin!(future);
    loop {
        let wait = patience.wait(begun)?;
        if let Ok(output) = tokio::time::timeout(wait, &mut future).await {
            return Ok(output);
        }
    }
}

/// Where a connection for `url` may lead.
pub fn addresses(url: &str, patience: impl Into<Patience>) -> Result<Vec<SocketAddr>, HttpError> {
    let (url, patience) = (parse(url)?, patience.into());
    let port = url.port_or_known_default().unwrap_or_default();
    let name = match url.host() {
        Some(Host::Ipv4(address)) => return Ok(vec![(address, port).into()]),
        Some(Host::Ipv6(address)) => return Ok(vec![(address, port).into()]),
        Some(Host::Domain(name)) => name,
        None => return Ok(Vec::new()),
    };
    let _operation = watchdog::begin(format!("look up {name}"), patience.left());
    let found = block_on(bounded(tokio::net::lookup_host((name, port)), &patience));
    let found = found.map_err(HttpError::GivenUp)?;
    let found = found.map_err(|_| HttpError::Resolve(name.to_owned()))?;
    Ok(found.collect())
}

fn parse(text: &str) -> Result<Url, HttpError> {
    let url = Some(text).filter(|text| text.len() <= LONGEST_URL);
    let url = url.and_then(|text| Url::parse(text).ok());
    url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| {
            let shown = text.split('@').next_back().unwrap_or_default();
            HttpError::Address(shown.chars().take(200).collect())
        })
}

/// For messages: the host, with its port if that is no usual one.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn bare(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only without a host, which `parse` and the schemes rule out.
    let _ = (url.set_username(""), url.set_password(None));
    url.set_fragment(None);
    url.into()
}

fn authorization(url: &Url) -> Option<String> {
    let plain = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
    let (user, password) = (url.username(), url.password().unwrap_or_default());
    if user.is_empty() && password.is_empty() {
        return None;
    }
    let pair = [plain(user), plain(password)].join(&b':');
    Some(format!("Basic {}", STANDARD.encode(pair)))
}
