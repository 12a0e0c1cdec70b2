//! Opens a client, if this trueup has one.

use std::time::Duration;

use super::{Ec2, Ec2Error, Ec2Settings};

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
