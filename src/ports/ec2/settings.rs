//! Where EC2 is, as written in the settings.

use serde::{Deserialize, Serialize};
use url::Url;

use crate::ports::aws_region::check_region;

/// The region of EC2 and the address of its API, for what this node asks of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Ec2Settings {
    /// The region. Without it: `AWS_REGION`, `AWS_DEFAULT_REGION`, the AWS profile, then the region
    /// of the instance that this node is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The address of the API, with its scheme. Without it: `AWS_ENDPOINT_URL_EC2`,
    /// `AWS_ENDPOINT_URL`, then the region's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
}

impl Ec2Settings {
    /// The mistakes in it, each with its field.
    pub(crate) fn mistakes(&self) -> Vec<(&'static str, String)> {
        let region = self.region.as_deref().map_or(Ok(()), check_region);
        let endpoint = self.endpoint.as_deref().map_or(Ok(()), check_endpoint);
        let found = [("region", region), ("endpoint", endpoint)].into_iter();
        found
            .filter_map(|(field, result)| Some((field, result.err()?)))
            .collect()
    }
}

/// Refuses what is no address of an API. It is a part of messages, so it has no password.
pub(super) fn check_endpoint(endpoint: &str) -> Result<(), String> {
    let url = Url::parse(endpoint)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some());
    match url {
        None => Err(format!(
            "`{endpoint}` is not an endpoint of EC2: expected https://host or http://host:port"
        )),
        Some(url) if !url.username().is_empty() || url.password().is_some() => Err(
            "the endpoint of EC2 has a user or a password: expected no user, as requests are signed with the keys of AWS".into(),
        ),
        Some(_) => Ok(()),
    }
}
