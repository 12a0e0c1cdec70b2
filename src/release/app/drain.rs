//! How a host leaves its load balancers before the services of an app are restarted, as a role declares it.

use std::time::Duration;

use serde::Deserialize;

use super::health::{HealthCheck, drain_route};
use super::preflight::deserialize_rendered_bool;
use crate::problem::Problem;
use crate::resource::Seconds;

/// Longest wait without a `wait`.
const DEFAULT_WAIT: Duration = Duration::from_secs(15);

/// Shortest wait without a `notice`: two checks at the interval of the role `haproxy`, 2 s, and a moment for the second
/// one.
const DEFAULT_NOTICE: Duration = Duration::from_secs(5);

fn default_true() -> bool {
    true
}

/// How a host leaves its load balancers.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct DrainSpec {
    /// `false`: it does not.
    #[serde(
        default = "default_true",
        deserialize_with = "deserialize_rendered_bool"
    )]
    pub enabled: bool,
    /// How long to wait at most, for balancers to take the host out and for the requests in progress; `15s`, or
    /// `notice` if that is longer, when not given. The wait ends earlier once the app's `port` has had no connection
    /// for a second.
    pub wait: Option<Seconds>,
    /// How long to wait at least: what balancers need to take a host out, which is the interval of their check times
    /// the failures in a row that they require; `5s`, or `wait` if that is shorter, when not given.
    pub notice: Option<Seconds>,
    /// How long balancers need to bring the host back: the pass waits so long after the drain, so that another host may
    /// follow at once; as long as `notice` when not given.
    pub back: Option<Seconds>,
}

impl DrainSpec {
    pub(in crate::release) fn wait(&self) -> Duration {
        let default = || DEFAULT_WAIT.max(self.notice.map_or(Duration::ZERO, |notice| notice.0));
        self.wait.map_or_else(default, |wait| wait.0)
    }

    pub(in crate::release) fn notice(&self) -> Duration {
        let default = || DEFAULT_NOTICE.min(self.wait());
        self.notice.map_or_else(default, |notice| notice.0)
    }

    pub(in crate::release) fn back(&self) -> Duration {
        self.back.map_or_else(|| self.notice(), |back| back.0)
    }

    /// Checks what the types cannot express. `port`: the app's own.
    pub(in crate::release) fn validate(
        &self,
        health: Option<&HealthCheck>,
        port: Option<u16>,
    ) -> Result<(), Problem> {
        if self.notice() > self.wait() {
            let problem = Problem::new("expected at most `drain.wait`");
            return Err(problem.field("drain.notice"));
        }
        let Some(health) = health else {
            return Err(Problem::new("a drain needs a health check")
                .field("drain")
                .hint("set the release's `health`: its path is what load balancers ask for"));
        };
        if drain_route(&health.url, port).is_none() {
            return Err(Problem::new(format!(
                "load balancers cannot be told by the path of `{}`",
                health.url
            ))
            .field("drain")
            .hint("expected a URL with a path of its own, not `/`, that asks the app's port or, through the web server, 127.0.0.1"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(fields: serde_json::Value) -> DrainSpec {
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn defaults_of_a_drain_follow_the_value_that_is_given() {
        let seconds = |fields| {
            let drain = drain(fields);
            [drain.wait(), drain.notice(), drain.back()].map(|time| time.as_secs())
        };
        assert_eq!(seconds(serde_json::json!({})), [15, 5, 5]);
        assert_eq!(seconds(serde_json::json!({"wait": "2s"})), [2, 2, 2]);
        assert_eq!(seconds(serde_json::json!({"notice": "1m"})), [60, 60, 60]);
        assert_eq!(
            seconds(serde_json::json!({"wait": "2m", "notice": "1m", "back": "20s"})),
            [120, 60, 20]
        );
    }

    #[test]
    fn drain_that_balancers_could_not_see_is_refused() {
        let health = |url: &str| -> HealthCheck {
            serde_json::from_value(serde_json::json!({ "url": url })).unwrap()
        };
        let refused = |fields, health: Option<&HealthCheck>| {
            let refused = drain(fields).validate(health, Some(3000)).err();
            refused.and_then(|problem| problem.field)
        };
        let no_fields = || serde_json::json!({});
        let app = health("http://127.0.0.1:3000/up");
        assert_eq!(refused(no_fields(), Some(&app)), None);
        assert_eq!(refused(no_fields(), None).as_deref(), Some("drain"));
        for url in ["http://127.0.0.1:3000/", "http://shop.example/up"] {
            let refused = refused(no_fields(), Some(&health(url)));
            assert_eq!(refused.as_deref(), Some("drain"), "{url}");
        }
        let late = serde_json::json!({"wait": "5s", "notice": "6s"});
        assert_eq!(refused(late, Some(&app)).as_deref(), Some("drain.notice"));
    }
}
