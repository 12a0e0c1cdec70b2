//! Polls the app's health URL, and checks its response and who sent it.

use std::time::Duration;

use super::listener::{self, ListenerCheck, ListenerState, ServiceUids};
use crate::desired::Sha;
use crate::ports::Host;
use crate::ports::http::HttpClient;
use crate::ports::secrets;
use crate::release::app::health::HealthCheck;
use crate::release::app::spec::ReleaseSpec;
use crate::resource::Failure;

/// Most bytes of a response that are read.
const MAX_RESPONSE_BODY: usize = 1 << 20;

/// Characters of a wrong response in an error.
const MAX_SHOWN_CHARS: usize = 200;

/// Sends one request and checks the response.
fn request(health: &HealthCheck, sha: Option<&Sha>) -> Result<(), Failure> {
    let headers: Vec<(&str, &str)> = health
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let describe = |complaint: String| format!("the health check at {} {complaint}", health.url);
    let not_yet = |complaint| Err(Failure::new(describe(complaint)));
    let wrong = |complaint| Err(Failure::permanent(describe(complaint)));
    let answer = match HttpClient::without_proxy().get(
        &health.url,
        &headers,
        health.timeout(),
        MAX_RESPONSE_BODY,
    ) {
        Ok(answer) => answer,
        Err(error) => return not_yet(format!("did not answer: {error}")),
    };
    let text = String::from_utf8_lossy(&answer.body);
    if answer.status != health.status {
        let complaint = format!(
            "answered {} instead of {}{}",
            answer.status,
            health.status,
            response_excerpt(&text)
        );
        return match is_not_up_yet(answer.status) {
            true => not_yet(complaint),
            false => wrong(complaint),
        };
    }
    if let Some(part) = health.body.as_ref().filter(|part| !text.contains(*part)) {
        return wrong(format!(
            "answered without `{part}`{}",
            response_excerpt(&text)
        ));
    }
    let Some((name, sha)) = health.sha_header.as_deref().zip(sha) else {
        return Ok(());
    };
    let header = answer
        .headers
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name));
    match header.map(|(_, value)| value.trim()) {
        Some(reported) if reported.len() >= 7 && sha.as_str().starts_with(reported) => Ok(()),
        // A process that is about to be replaced may still answer.
        Some(reported) => not_yet(format!(
            "was answered by another sha: `{name}` is {reported} instead of {}",
            sha.short()
        )),
        None => wrong(format!("answered without the header `{name}`")),
    }
}

/// Whether an app that boots, or a proxy in front of one, answers so: 429, 502, 503 and 504.
fn is_not_up_yet(status: u16) -> bool {
    matches!(status, 429 | 502..=504)
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
pub(crate) fn check_health(
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
    pub(in crate::release) fn check_health(
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
            let answer = request(health, sha);
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
