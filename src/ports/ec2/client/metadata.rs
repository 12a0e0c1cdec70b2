//! What the instance's metadata service says (IMDSv2 only), within a deadline.

use std::time::Duration;

use aws_config::imds;
use aws_config::provider_config::ProviderConfig;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_types::region::Region;

use super::super::{Ec2Error, InstanceId, InterfaceId, ThisInstance};
use crate::ports::aws::error_chain;

const NO_INSTANCE_HINT: &str = "this works only on an EC2 instance whose metadata service is enabled, with a hop limit of 2 if trueup runs in a container (`aws ec2 modify-instance-metadata-options`)";

const NO_REGION_HINT: &str = "outside of EC2, set `ec2.region` in the settings, or AWS_REGION (an AWS profile's region counts too)";

/// Longest value that anybody expects of it, in bytes.
const MAX_VALUE: usize = 256;

/// The instance's metadata service.
#[derive(Debug)]
pub(super) struct Metadata {
    client: imds::Client,
    limit: Duration,
}

impl Metadata {
    /// Contacts nothing. The address is fixed, unless AWS_EC2_METADATA_SERVICE_ENDPOINT or the AWS profile has another.
    pub(super) fn new(http: SharedHttpClient, limit: Duration) -> Metadata {
        let config = ProviderConfig::without_region().with_http_client(http);
        let second = Duration::from_secs(1).min(limit);
        let client = imds::Client::builder()
            .configure(&config)
            .max_attempts(2)
            .connect_timeout(second)
            .read_timeout(second)
            .operation_attempt_timeout(second)
            .operation_timeout(limit)
            .build();
        Metadata { client, limit }
    }

    pub(super) async fn region(&self) -> Result<Region, Ec2Error> {
        let region = self.get("its region", "placement/region").await;
        let region = region.map_err(|error| match error {
            Ec2Error::Metadata { value, why, .. } => Ec2Error::Metadata {
                value,
                why,
                hint: NO_REGION_HINT,
            },
            error => error,
        });
        region.map(Region::new)
    }

    pub(super) async fn this_instance(&self) -> Result<ThisInstance, Ec2Error> {
        const INTERFACE: &str = "its network interface";
        let id = self.get("its id", "instance-id").await?;
        let id: InstanceId = id.parse().map_err(|_| unexpected("its id", &id))?;
        let mac = self.get(INTERFACE, "mac").await?;
        if !is_mac(&mac) {
            return Err(unexpected(INTERFACE, &mac));
        }
        let path = format!("network/interfaces/macs/{mac}/interface-id");
        let interface = self.get(INTERFACE, &path).await?;
        let interface: InterfaceId = interface
            .parse()
            .map_err(|_| unexpected(INTERFACE, &interface))?;
        Ok(ThisInstance { id, interface })
    }

    async fn get(&self, value: &'static str, path: &str) -> Result<String, Ec2Error> {
        let answer = self.client.get(format!("/latest/meta-data/{path}"));
        let why = match tokio::time::timeout(self.limit, answer).await {
            Ok(Ok(text)) if text.as_ref().len() <= MAX_VALUE => {
                return Ok(text.as_ref().trim().to_owned());
            }
            Ok(Ok(_)) => format!("it answered with more than {MAX_VALUE} bytes"),
            Ok(Err(error)) => error_chain(&error),
            Err(_) => return Err(timed_out(self.limit)),
        };
        Err(failed(value, why))
    }
}

pub(super) fn timed_out(limit: Duration) -> Ec2Error {
    failed("which one this is", format!("timed out after {limit:?}"))
}

fn failed(value: &'static str, why: String) -> Ec2Error {
    Ec2Error::Metadata {
        value,
        why,
        hint: NO_INSTANCE_HINT,
    }
}

fn unexpected(value: &'static str, answer: &str) -> Ec2Error {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let start: String = answer.chars().take(60).map(printable).collect();
    failed(value, format!("it answered with `{start}`"))
}

/// Six pairs of hexadecimal digits: it becomes a part of a path.
fn is_mac(text: &str) -> bool {
    let is_pair = |pair: &str| pair.len() == 2 && pair.chars().all(|c| c.is_ascii_hexdigit());
    text.split(':').count() == 6 && text.split(':').all(is_pair)
}
