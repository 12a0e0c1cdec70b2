//! The health check of an app, as a role declares it.

use std::time::Duration;

use serde::Deserialize;

use crate::problem::Problem;
use crate::resource::Seconds;

/// The check that a release must pass before it counts as good.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct HealthCheck {
    /// The URL, `http://…` or `https://…`; without proxy and redirects.
    pub url: String,
    /// The expected status code.
    #[serde(default = "default_status")]
    pub status: u16,
    /// Text that the body must contain.
    pub body: Option<String>,
    /// The header in which the app reports its sha (all of it, or at least 7 digits); it must be
    /// the deployed one.
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
    /// How long the app may be up and answer wrongly, in all polls in a row, before its trial ends as failed; `5s`
    /// when not given. An app that does not answer yet has until the release's `gate_timeout`.
    pub fail_after: Option<Seconds>,
    /// A user who may listen there, if the URL leads to a port of this host above 1023, besides
    /// root, the release's user and those of its services: the user of a proxy, say. `any`: do
    /// not check the listener.
    pub listener: Option<String>,
}

fn default_status() -> u16 {
    200
}

fn default_times() -> u32 {
    3
}

/// Without a `fail_after`. Also for processes that ended.
pub(in crate::release) const DEFAULT_FAIL_AFTER: Duration = Duration::from_secs(5);

impl HealthCheck {
    pub(in crate::release) fn interval(&self) -> Duration {
        self.interval.map_or(Duration::from_secs(1), |s| s.0)
    }

    pub(in crate::release) fn timeout(&self) -> Duration {
        self.timeout.map_or(Duration::from_secs(5), |s| s.0)
    }

    pub(in crate::release) fn fail_after(&self) -> Duration {
        self.fail_after.map_or(DEFAULT_FAIL_AFTER, |s| s.0)
    }

    /// Checks what the types cannot express.
    pub(in crate::release) fn validate(&self) -> Result<(), Problem> {
        let known = ["http://", "https://"];
        if !known.iter().any(|scheme| self.url.starts_with(scheme)) {
            let problem = Problem::new(format!("`{}` is not a URL to check", self.url));
            let problem = problem.hint("expected http:// or https://");
            return Err(problem.field("health.url"));
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
}

/// The path of a health check's URL that stays open to load balancers during maintenance. `None`: there is none, because
/// visitors ask for it too (`/`), or because nginx would compare it with something else than what was sent.
pub(crate) fn health_path(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    let path = url.path();
    let literal = |c: char| c.is_ascii_alphanumeric() || "/-._~+@,=:".contains(c);
    let is_literal = path.chars().all(literal) && !path.contains("//");
    (is_literal && path != "/").then(|| path.to_owned())
}

/// Whether a health check asks a web server, and not the app itself on its own port.
pub(crate) fn asks_web_server(url: &str, port: Option<u16>) -> bool {
    let asked = url::Url::parse(url).ok();
    let asked = asked.and_then(|url| url.port_or_known_default());
    matches!(asked, Some(80 | 443)) && asked != port
}

/// Where the health check of an app leads that can be drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DrainRoute {
    /// To the app itself, whatever the web server answers.
    App,
    /// To the web server of this host, from its loopback address, which no balancer has.
    WebServer,
}

impl DrainRoute {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            DrainRoute::App => "app",
            DrainRoute::WebServer => "web_server",
        }
    }
}

/// How trueup's own health check reaches a drained app; `None`: the app cannot be drained. Either no path belongs to
/// the check alone, or the check would get the answer that is for balancers.
pub(crate) fn drain_route(url: &str, port: Option<u16>) -> Option<DrainRoute> {
    health_path(url)?;
    if !asks_web_server(url, port) {
        return Some(DrainRoute::App);
    }
    let is_loopback = match url::Url::parse(url).ok()?.host()? {
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => address.is_loopback(),
        url::Host::Domain(name) => name == "localhost",
    };
    is_loopback.then_some(DrainRoute::WebServer)
}

#[cfg(test)]
mod tests {
    use super::{DrainRoute, asks_web_server, drain_route, health_path};

    #[test]
    fn only_a_check_that_gets_its_own_answer_can_be_drained() {
        let (app, web) = (Some(DrainRoute::App), Some(DrainRoute::WebServer));
        for (url, route) in [
            ("http://127.0.0.1:3000/up", app),
            ("http://10.0.0.5:3000/up", app),
            ("http://127.0.0.1/up", web),
            ("https://[::1]/up", web),
            ("http://localhost/up", web),
            ("http://10.0.0.5/up", None),
            ("https://shop.example/up", None),
            ("http://127.0.0.1:3000/", None),
        ] {
            assert_eq!(drain_route(url, Some(3000)), route, "{url}");
        }
    }

    #[test]
    fn health_check_on_the_port_of_a_web_server_is_recognized() {
        assert!(!asks_web_server("http://127.0.0.1:3000/up", Some(3000)));
        assert!(!asks_web_server("http://127.0.0.1:3000/up", None));
        assert!(asks_web_server("http://127.0.0.1/up", Some(3000)));
        assert!(asks_web_server("https://shop.example/", None));
        assert!(!asks_web_server("http://127.0.0.1/", Some(80)));
    }

    #[test]
    fn health_path_is_one_that_nginx_compares_literally() {
        for (url, path) in [
            ("http://127.0.0.1:3000/up", Some("/up")),
            ("http://127.0.0.1:3000/up/?full=1", Some("/up/")),
            ("http://127.0.0.1:3000/a/../up", Some("/up")),
            ("http://127.0.0.1:3000", None),
            ("http://127.0.0.1:3000/", None),
            ("http://127.0.0.1:3000//up", None),
            ("http://127.0.0.1:3000/up%22;", None),
            ("http://127.0.0.1:3000/$host", None),
            ("http://127.0.0.1:3000/up\"{}", None),
            ("3000/up", None),
        ] {
            assert_eq!(health_path(url).as_deref(), path, "{url}");
        }
    }
}
