//! Whether an address is in use at another balancer.

use std::net::IpAddr;

use super::{Balancer, REQUEST_TIMEOUT};
use crate::balancer::check;
use crate::balancer::claim::{MovingAddress, configured_claims};
use crate::balancer::config::VrrpInstance;
use crate::balancer::eip;
use crate::ports::ec2::Ec2Error;

impl Balancer<'_> {
    /// Why the addresses of an instance, which are gone from here, are not in use elsewhere. In a VPC none of them
    /// answers, because no neighbour learns where it is: there the elastic IP has to be at another instance of EC2.
    pub(super) fn missing_elsewhere(&self, instance: &VrrpInstance) -> Option<String> {
        let mut addresses = instance.addresses.iter();
        let missing = addresses.find_map(|address| {
            let why = check::request(&self.url_at(*address), REQUEST_TIMEOUT).err()?;
            Some(format!(
                "{address} is gone from here, and does not answer elsewhere: {why}"
            ))
        })?;
        let Some(elastic) = self.elastic_ip(instance) else {
            return Some(missing);
        };
        let why = self.missing_in_ec2(&elastic)?;
        Some(format!("{missing}; {why}"))
    }

    fn elastic_ip(&self, instance: &VrrpInstance) -> Option<MovingAddress> {
        let claims = configured_claims(self.root).unwrap_or_default();
        let of_instance = claims
            .into_iter()
            .filter(|claim| claim.instance.as_deref() == Some(&instance.name));
        let mut addresses = of_instance.map(|claim| claim.address);
        addresses.find(|address| matches!(address, MovingAddress::Elastic(_)))
    }

    /// Why EC2 does not show the address at another instance.
    fn missing_in_ec2(&self, address: &MovingAddress) -> Option<String> {
        let ask = || -> Result<Option<String>, Ec2Error> {
            let ec2 = (self.open_ec2)()?;
            let this = ec2.this_instance()?;
            let found = eip::describe(&*ec2, address)?;
            Ok(match found.holders.is_empty() {
                true => Some(format!("{address} is at no instance")),
                false => eip::is_here(&found, &this, None)
                    .then(|| format!("EC2 shows {address} still at this instance")),
            })
        };
        ask().unwrap_or_else(|error| Some(error.to_string()))
    }

    /// The front page at another address: with the scheme and the port of the check.
    pub(super) fn url_at(&self, address: IpAddr) -> String {
        let url = &self.haproxy.url;
        let scheme = url.split("://").next().unwrap_or("http");
        let authority = url.split("://").nth(1).unwrap_or_default();
        let authority = authority.split('/').next().unwrap_or_default();
        let port = authority
            .rsplit(':')
            .next()
            .and_then(|port| port.parse::<u16>().ok());
        let host = match address {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        match port {
            Some(port) => format!("{scheme}://{host}:{port}/"),
            None => format!("{scheme}://{host}/"),
        }
    }
}
