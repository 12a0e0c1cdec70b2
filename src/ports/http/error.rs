//! Errors of the HTTP client.

use std::error::Error;

use aws_smithy_runtime_api::client::dns::ResolveDnsError;
use aws_smithy_runtime_api::client::result::ConnectorError;
use url::Url;

use crate::ports::deadline::DeadlineError;
use crate::ports::error_sources::{error_sources, find_source};

/// Why a request got no answer. No variant shows a password.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("`{0}` is not an http or https URL")]
    InvalidUrl(String),
    #[error("cannot resolve the name {0}")]
    Resolve(String),
    #[error("cannot connect to {host}: {why}")]
    Connect { host: String, why: String },
    #[error("the TLS certificate of {host} cannot be trusted: {why}")]
    Certificate { host: String, why: String },
    #[error("{0} redirects to a URL that is not followed")]
    Redirect(String),
    /// An address of this host, or one with a different server behind it for every machine.
    #[error("it leads to {host}, which is not an allowed address: {why}")]
    ForbiddenAddress { host: String, why: &'static str },
    #[error("{host} broke off: {why}")]
    Interrupted { host: String, why: String },
    #[error(transparent)]
    Deadline(#[from] DeadlineError),
}

/// Tells the causes apart by the types of the errors in the client's error.
pub(super) fn classify(host: &str, error: &ConnectorError) -> HttpError {
    let host = host.to_owned();
    // Every client resolves names with `SsrfGuard`, which returns this error.
    if find_source::<ResolveDnsError>(error).is_some() {
        return HttpError::Resolve(host);
    }
    let why = root_cause(error);
    if let Some(rustls::Error::InvalidCertificate(_)) = find_source(error) {
        return HttpError::Certificate { host, why };
    }
    if error.is_timeout() {
        return HttpError::Connect {
            host,
            why: "no answer in time".into(),
        };
    }
    let client_error = find_source::<hyper_util::client::legacy::Error>(error);
    if client_error.is_some_and(hyper_util::client::legacy::Error::is_connect) {
        return HttpError::Connect { host, why };
    }
    HttpError::Interrupted { host, why }
}

pub(super) fn interrupted(host: &str, error: &(dyn Error + 'static)) -> HttpError {
    HttpError::Interrupted {
        host: host.to_owned(),
        why: root_cause(error),
    }
}

/// The message of the innermost cause.
fn root_cause(error: &(dyn Error + 'static)) -> String {
    error_sources(error)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// The host for messages, with its port if that is not the default.
pub(super) fn display_host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}
