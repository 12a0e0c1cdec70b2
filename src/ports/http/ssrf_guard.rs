//! Guard against SSRF: a redirect by another server must not reach services of this host, or services that
//! trust every machine that can connect to them.
//!
//! The guard resolves the name and the client connects to the result, so DNS cannot change between the check
//! and the connection. Through a proxy, the proxy resolves the names.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use url::{Host, Url};

use super::error::{HttpError, display_host};
use crate::ports::address::{non_host_reason, private_reason};

/// Checking DNS resolver for a client.
#[derive(Debug, Clone, Default)]
pub(super) struct SsrfGuard {
    policy: AddressPolicy,
    state: Arc<Mutex<GuardState>>,
}

/// The addresses that a client may connect to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum AddressPolicy {
    /// Any of the server that the operator configured, and of others those of reachable hosts.
    #[default]
    Configured,
    /// Public ones, whoever configured the server: its name may resolve to anything tomorrow.
    Public,
    /// Public ones, those of private networks, and loopback.
    PrivateToo,
}

impl AddressPolicy {
    /// Why a client may not connect to an address. `None`: it may.
    fn refusal(self, ip: IpAddr) -> Option<&'static str> {
        match self {
            AddressPolicy::Configured => non_host_reason(ip),
            AddressPolicy::Public => non_host_reason(ip).or_else(|| private_reason(ip)),
            AddressPolicy::PrivateToo if ip.to_canonical().is_loopback() => None,
            AddressPolicy::PrivateToo => non_host_reason(ip),
        }
    }
}

#[derive(Debug, Default)]
struct GuardState {
    /// Names that may resolve to any address.
    allowed_names: BTreeSet<String>,
    /// Why the last refused name was refused.
    refusal: Option<&'static str>,
}

impl SsrfGuard {
    pub(super) fn with_policy(policy: AddressPolicy) -> SsrfGuard {
        SsrfGuard {
            policy,
            ..SsrfGuard::default()
        }
    }

    fn state(&self) -> MutexGuard<'_, GuardState> {
        self.state
            .lock()
            .unwrap_or_else(|broken| broken.into_inner())
    }

    /// Prepares for a request to `url` by a client whose configured server is `home`.
    pub(super) fn check_url(&self, url: &Url, home: Option<&Url>) -> Result<(), HttpError> {
        let is_trusted = home.is_none_or(|home| is_trusted_server(url, home));
        let free = is_trusted && self.policy == AddressPolicy::Configured;
        let mut state = self.state();
        state.refusal = None;
        state.allowed_names = proxy_hosts();
        match url.host() {
            Some(Host::Domain(name)) if free => {
                state.allowed_names.insert(name.to_owned());
                Ok(())
            }
            Some(Host::Ipv4(ip)) if !free => self.check_ip(url, ip.into()),
            Some(Host::Ipv6(ip)) if !free => self.check_ip(url, ip.into()),
            _ => Ok(()),
        }
    }

    /// Why the request after the last [`SsrfGuard::check_url`] was refused, if it was.
    pub(super) fn last_refusal(&self, url: &Url) -> Option<HttpError> {
        let why = self.state().refusal?;
        Some(HttpError::ForbiddenAddress {
            host: display_host(url),
            why,
        })
    }

    fn check_ip(&self, url: &Url, ip: IpAddr) -> Result<(), HttpError> {
        self.policy.refusal(ip).map_or(Ok(()), |why| {
            Err(HttpError::ForbiddenAddress {
                host: display_host(url),
                why,
            })
        })
    }
}

/// Whether the operator configured this server; if he configured this very host, any port of it counts.
fn is_trusted_server(url: &Url, home: &Url) -> bool {
    let inside = |name: &str| {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let ip = bare.parse().ok();
        name == "localhost" || ip.is_some_and(|ip| non_host_reason(ip).is_some())
    };
    let same_host = url.host_str() == home.host_str();
    url.origin() == home.origin() || same_host && home.host_str().is_some_and(inside)
}

/// The names of the proxies, which the guard also resolves.
fn proxy_hosts() -> BTreeSet<String> {
    let names = ["http_proxy", "https_proxy", "all_proxy"];
    let names = names
        .iter()
        .flat_map(|name| [(*name).to_owned(), name.to_uppercase()]);
    let values = names.filter_map(|name| std::env::var(name).ok());
    let url = |text: String| Url::parse(&text).or_else(|_| Url::parse(&format!("http://{text}")));
    let urls = values.filter_map(|text| url(text).ok());
    urls.filter_map(|url| url.host_str().map(str::to_owned))
        .collect()
}

impl ResolveDns for SsrfGuard {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let found = tokio::net::lookup_host((name, 0)).await;
            let found: Vec<IpAddr> = found
                .map_err(ResolveDnsError::new)?
                .map(|address| address.ip())
                .collect();
            let mut state = self.state();
            if state.allowed_names.contains(name) {
                return Ok(found);
            }
            match found.iter().find_map(|ip| self.policy.refusal(*ip)) {
                Some(why) => {
                    state.refusal = Some(why);
                    Err(ResolveDnsError::new(why))
                }
                None => Ok(found),
            }
        })
    }
}
