//! The health check of an app, as a role declares it.

use std::time::Duration;

use serde::Deserialize;

use crate::problem::Problem;
use crate::resource::Seconds;

/// What a release has to answer before it counts as good.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// Where to ask: `http://…` or `https://…`, without a proxy; redirects are not followed.
    pub url: String,
    /// The status that is well.
    #[serde(default = "default_status")]
    pub status: u16,
    /// What the body has to contain.
    pub body: Option<String>,
    /// The header in which the app tells its sha (the whole, or at least 7 digits of it); it must be
    /// the one that was deployed.
    pub sha_header: Option<String>,
    /// Sent with the request, such as `Host`.
    #[serde(default)]
    pub headers: std::collections::BTreeMap<String, String>,
    /// How often in a row everything must be right.
    #[serde(default = "default_times")]
    pub times: u32,
    /// How long to wait between two requests; `1s` when not given.
    pub interval: Option<Seconds>,
    /// How long one answer may take; `5s` when not given.
    pub timeout: Option<Seconds>,
    /// Who may listen there, where the URL leads to a port of this host above 1023, besides root, the release's user
    /// and those of its services: the user of a proxy, say. `any`: it is not looked at.
    pub listener: Option<String>,
}

fn default_status() -> u16 {
    200
}

fn default_times() -> u32 {
    3
}

impl HealthCheck {
    pub(in crate::release) fn interval(&self) -> Duration {
        self.interval.map_or(Duration::from_secs(1), |s| s.0)
    }

    pub(in crate::release) fn timeout(&self) -> Duration {
        self.timeout.map_or(Duration::from_secs(5), |s| s.0)
    }

    /// Checks what the types cannot express.
    pub(in crate::release) fn validate(&self) -> Result<(), Problem> {
        let known = ["http://", "https://"];
        if !known.iter().any(|scheme| self.url.starts_with(scheme)) {
            return Err(Problem::new(format!(
                "`{}` is no address to ask | expected http:// or https://",
                self.url
            ))
            .field("health.url"));
        }
        if self.times == 0 {
            return Err(Problem::new("expected at least 1").field("health.times"));
        }
        if !(100..600).contains(&self.status) {
            return Err(
                Problem::new(format!("{} is no status of HTTP", self.status))
                    .field("health.status"),
            );
        }
        Ok(())
    }
}
