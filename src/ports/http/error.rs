//! Errors of the HTTP client.

use std::error::Error;

use aws_smithy_runtime_api::client::result::ConnectorError;
use url::Url;

use crate::ports::deadline::DeadlineError;

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
    #[error("{0}")]
    Deadline(DeadlineError),
}

/// Finds the cause in an error of the client, whose own error types are private.
pub(super) fn classify(host: &str, error: ConnectorError) -> HttpError {
    let host = host.to_owned();
    let chain = error_chain(&error);
    let said = |words: &str| chain.iter().any(|line| line.contains(words));
    let why = chain.last().cloned().unwrap_or_default();
    if said("dns error") {
        return HttpError::Resolve(host);
    }
    if said("invalid peer certificate") {
        return HttpError::Certificate { host, why };
    }
    if error.is_timeout() {
        return HttpError::Connect {
            host,
            why: "no answer in time".into(),
        };
    }
    if said("client error (Connect)") {
        return HttpError::Connect { host, why };
    }
    HttpError::Interrupted { host, why }
}

pub(super) fn interrupted(host: &str, error: &(dyn Error + 'static)) -> HttpError {
    HttpError::Interrupted {
        host: host.to_owned(),
        why: error_chain(error).pop().unwrap_or_default(),
    }
}

/// The messages from the outermost error to its cause.
fn error_chain(error: &(dyn Error + 'static)) -> Vec<String> {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect()
}

/// The host for messages, with its port if that is not the default.
pub(super) fn display_host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}
