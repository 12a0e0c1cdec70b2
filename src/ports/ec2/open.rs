//! Where EC2 is, as written in the settings.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Ec2, Ec2Error};

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

/// Creates a client whose calls together take no longer than `limit`. Contacts only the instance's metadata service, and
/// only if nothing else names the region.
#[cfg(feature = "s3")]
pub(crate) fn open(settings: &Ec2Settings, limit: Duration) -> Result<Box<dyn Ec2>, Ec2Error> {
    Ok(Box::new(super::client::ApiClient::open(settings, limit)?))
}

#[cfg(not(feature = "s3"))]
pub(crate) fn open(_settings: &Ec2Settings, _limit: Duration) -> Result<Box<dyn Ec2>, Ec2Error> {
    Err(Ec2Error::Settings(
        "EC2: this trueup was built without its feature `s3`".to_owned(),
    ))
}
