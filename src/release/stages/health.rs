//! Polls the app's health URL, and checks its response and who sent it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::excerpt::excerpt;
use super::listener::{self, ListenerCheck, ListenerState, ServiceUids};
use crate::desired::Sha;
use crate::ports::Host;
use crate::ports::http::HttpClient;
use crate::release::app::health::HealthCheck;
use crate::release::app::spec::ReleaseSpec;
use crate::resource::Failure;

/// Most bytes of a response that are read.
const MAX_RESPONSE_BODY: usize = 1 << 20;

/// The headers of the health check, and of `defaults` those that it does not set itself.
pub(super) fn request_headers<'a>(
    health: &'a HealthCheck,
    defaults: &'a BTreeMap<String, Option<String>>,
) -> Vec<(&'a str, &'a str)> {
    let own = health.headers.iter();
    let own = own.map(|(name, value)| (name.as_str(), value.as_str()));
    let is_set = |name: &str| {
        health
            .headers
            .keys()
            .any(|own| own.eq_ignore_ascii_case(name))
    };
    let defaults = defaults.iter().filter(|(name, _)| !is_set(name));
    own.chain(defaults.filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?))))
        .collect()
}

/// Sends one request and checks the response.
pub(super) fn request(
    health: &HealthCheck,
    headers: &[(&str, &str)],
    sha: Option<&Sha>,
) -> Result<(), Failure> {
    let describe = |complaint: String| format!("the health check at {} {complaint}", health.url);
    let not_yet = |complaint| Err(Failure::new(describe(complaint)));
    let wrong = |complaint| Err(Failure::permanent(describe(complaint)));
    let answer = match HttpClient::without_proxy().get(
        &health.url,
        headers,
        health.timeout(),
        MAX_RESPONSE_BODY,
    ) {
        Ok(answer) => answer,
        Err(error) => return not_yet(format!("did not answer: {error}")),
    };
    let text = String::from_utf8_lossy(&answer.body);
    if answer.status != health.status {
        let location = answer.header("location");
        let complaint = format!(
            "answered {}{} instead of {}{}",
            answer.status,
            location.map_or(String::new(), |to| format!(" (to {to})")),
            health.status,
            response_excerpt(&text)
        );
        return match (is_not_up_yet(answer.status), status_hint(answer.status)) {
            (true, _) => not_yet(complaint),
            (false, None) => wrong(complaint),
            (false, Some(hint)) => wrong(complaint).map_err(|failure| failure.hint(hint)),
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
    match answer.header(name) {
        Some(reported) if reported.len() >= 7 && sha.as_str().starts_with(reported) => Ok(()),
        // A process that is about to be replaced may still answer.
        Some(reported) => not_yet(format!(
            "was answered by another sha: `{name}` is {reported} instead of {}",
            sha.short()
        )),
        None => wrong(format!("answered without the header `{name}`")),
    }
}

/// What an app of a wrong status may have missed in the request.
fn status_hint(status: u16) -> Option<&'static str> {
    match status {
        301 | 302 | 307 | 308 => Some(
            "health checks follow no redirect: set `health.headers`, such as `X-Forwarded-Proto: https` for an app that forces TLS, or give the URL that it redirects to",
        ),
        403 | 421 => Some(
            "an app that answers only to its own host names needs one: set `health.headers`, such as `Host: shop.example.com`",
        ),
        _ => None,
    }
}

/// Whether an app that boots, or a proxy in front of one, answers so: 429, 502, 503 and 504.
fn is_not_up_yet(status: u16) -> bool {
    matches!(status, 429 | 502..=504)
}

/// What the response says, for the end of a complaint.
fn response_excerpt(text: &str) -> String {
    match excerpt(text) {
        line if line.is_empty() => line,
        line => format!("; it said: {line}"),
    }
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
            let answer = request(health, &request_headers(health, &self.health_headers), sha);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_a_check_replace_the_defaults() {
        let health: HealthCheck = serde_json::from_value(serde_json::json!({
            "url": "http://127.0.0.1:3000/up", "headers": {"host": "own.example.com"}
        }))
        .unwrap();
        let defaults = BTreeMap::from([
            ("Host".to_owned(), Some("shop.example.com".to_owned())),
            ("X-Forwarded-Proto".to_owned(), Some("https".to_owned())),
            ("X-None".to_owned(), None),
        ]);
        assert_eq!(
            request_headers(&health, &defaults),
            [("host", "own.example.com"), ("X-Forwarded-Proto", "https")]
        );
    }
}
