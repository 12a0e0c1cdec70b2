//! The health check: polls the app's health URL, and checks its response and who sent it.

use std::time::Duration;

use serde::Deserialize;

use super::ReleaseSpec;
use super::listener::{self, ListenerCheck, ListenerState, ServiceUids};
use crate::desired::Sha;
use crate::ports::Host;
use crate::ports::http::HttpClient;
use crate::ports::secrets;
use crate::problem::Problem;
use crate::resource::{Failure, Seconds};

/// Most bytes of a response that are read.
const MAX_RESPONSE_BODY: usize = 1 << 20;

/// Characters of a wrong response in an error.
const MAX_SHOWN_CHARS: usize = 200;

/// The check that a release must pass before it counts as good.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// The URL, `http://…` or `https://…`; without proxy and redirects.
    pub url: String,
    /// The expected status code.
    #[serde(default = "default_status")]
    pub status: u16,
    /// Text that the body must contain.
    pub body: Option<String>,
    /// The header in which the app reports its sha (all of it, or at least 7 digits); it must be the deployed
    /// one.
    pub sha_header: Option<String>,
    /// Headers of the request, such as `Host`.
    #[serde(default)]
    pub headers: std::collections::BTreeMap<String, String>,
    /// How many consecutive checks must pass.
    #[serde(default = "default_times")]
    pub times: u32,
    /// Time between two requests; `1s` when not given.
    pub interval: Option<Seconds>,
    /// Time limit of one request; `5s` when not given.
    pub timeout: Option<Seconds>,
    /// A user who may listen there, if the URL leads to a port of this host above 1023, besides root, the
    /// release's user and those of its services: the user of a proxy, say. `any`: do not check the listener.
    pub listener: Option<String>,
}

fn default_status() -> u16 {
    200
}

fn default_times() -> u32 {
    3
}

impl HealthCheck {
    pub(super) fn interval(&self) -> Duration {
        self.interval.map_or(Duration::from_secs(1), |s| s.0)
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout.map_or(Duration::from_secs(5), |s| s.0)
    }

    /// Checks what the types cannot express.
    pub(super) fn validate(&self) -> Result<(), Problem> {
        let known = ["http://", "https://"];
        if !known.iter().any(|scheme| self.url.starts_with(scheme)) {
            return Err(Problem::new(format!(
                "`{}` is not a URL to check | expected http:// or https://",
                self.url
            ))
            .field("health.url"));
        }
        if self.times == 0 {
            return Err(Problem::new("expected at least 1").field("health.times"));
        }
        if !(100..600).contains(&self.status) {
            return Err(
                Problem::new(format!("{} is not an HTTP status code", self.status))
                    .field("health.status"),
            );
        }
        Ok(())
    }

    /// Sends one request and checks the response.
    fn request(&self, sha: Option<&Sha>) -> Result<(), Failure> {
        let headers: Vec<(&str, &str)> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let bad = |what: String| {
            Err(Failure::new(format!(
                "the health check at {} {what}",
                self.url
            )))
        };
        let answer = match HttpClient::without_proxy().get(
            &self.url,
            &headers,
            self.timeout(),
            MAX_RESPONSE_BODY,
        ) {
            Ok(answer) => answer,
            Err(error) => return bad(format!("did not answer: {error}")),
        };
        let text = String::from_utf8_lossy(&answer.body);
        if answer.status != self.status {
            return bad(format!(
                "answered {} instead of {}{}",
                answer.status,
                self.status,
                response_excerpt(&text)
            ));
        }
        if let Some(part) = self.body.as_ref().filter(|part| !text.contains(*part)) {
            return bad(format!(
                "answered without `{part}`{}",
                response_excerpt(&text)
            ));
        }
        let Some((name, sha)) = self.sha_header.as_deref().zip(sha) else {
            return Ok(());
        };
        let header = answer
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        match header.map(|(_, value)| value.trim()) {
            Some(reported) if reported.len() >= 7 && sha.as_str().starts_with(reported) => Ok(()),
            Some(reported) => bad(format!(
                "was answered by another sha: `{name}` is {reported} instead of {}",
                sha.short()
            )),
            None => bad(format!("answered without the header `{name}`")),
        }
    }
}

/// The start of a response in one line, without secrets.
fn response_excerpt(text: &str) -> String {
    // Redacted before it is cut, because half a secret is not recognized.
    let text = secrets::redact(text.trim());
    if text.is_empty() {
        return String::new();
    }
    let line: String = text
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(MAX_SHOWN_CHARS)
        .collect();
    format!("; it said: {line}")
}

/// Runs the health check once, as the gate does; `None`: the app has no health check, and no other user holds
/// its port.
pub fn check_health(
    spec: &ReleaseSpec,
    sha: Option<&Sha>,
    host: &Host,
    runs_as: ServiceUids<'_>,
) -> Option<Result<(), Failure>> {
    let asked = spec.check_health(sha, host, runs_as);
    (spec.health.is_some() || asked.is_err()).then_some(asked)
}

impl ReleaseSpec {
    /// Checks that the app is healthy and at `sha`, if it has a health check. Checks who listens before and
    /// after the request: the response in between is that listener's.
    pub(super) fn check_health(
        &self,
        sha: Option<&Sha>,
        host: &Host,
        runs_as: ServiceUids<'_>,
    ) -> Result<(), Failure> {
        let timeout = self
            .health
            .as_ref()
            .map_or(Duration::ZERO, HealthCheck::timeout);
        let listeners = ListenerCheck::new(self, host, runs_as, timeout)?;
        // A second try for an app that began to listen during the first.
        for _ in 0..2 {
            let before = listeners.check()?;
            let Some(health) = &self.health else {
                return Ok(());
            };
            let answer = health.request(sha);
            let after = listeners.check()?;
            if answer.is_err()
                || (before != ListenerState::Absent && after != ListenerState::Absent)
            {
                return answer;
            }
        }
        let url = self.health.as_ref().map_or("", |health| &health.url);
        Err(listener::no_listener_failure(url))
    }
}
