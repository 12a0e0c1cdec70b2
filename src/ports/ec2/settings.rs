//! Where EC2 is, as written in the settings.

use serde::{Deserialize, Serialize};

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
