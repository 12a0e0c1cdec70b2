//! The region from the SDK's sources.

use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::ProvideRegion;
use aws_config::profile::ProfileFileRegionProvider;
use aws_types::region::Region;

use crate::ports::runtime::block_on;

/// The region that the environment or the AWS profile names. Not the instance's metadata: a host outside EC2 would wait
/// there in every pass for an answer that never comes.
pub(in crate::ports) fn configured_region() -> Option<Region> {
    block_on(async {
        match EnvironmentVariableRegionProvider::new().region().await {
            Some(region) => Some(region),
            None => ProfileFileRegionProvider::new().region().await,
        }
    })
}
