//! The address of EC2's API in a region.

use super::super::Ec2Error;
use super::super::settings::check_endpoint;
use crate::ports::aws_region::check_region;

/// The domains of AWS's partitions, by the prefix of their regions.
const DOMAINS: [(&str, &str); 6] = [
    ("cn-", "amazonaws.com.cn"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("eusc-", "amazonaws.eu"),
];

/// The endpoint: the configured one, else the region's own.
pub(super) fn endpoint(configured: Option<&str>, region: &str) -> Result<String, Ec2Error> {
    check_region(region).map_err(Ec2Error::Settings)?;
    match configured {
        Some(endpoint) => {
            check_endpoint(endpoint).map_err(Ec2Error::Settings)?;
            Ok(endpoint.trim_end_matches('/').to_owned())
        }
        None => {
            let domain = DOMAINS
                .iter()
                .find(|(prefix, _)| region.starts_with(prefix));
            let domain = domain.map_or("amazonaws.com", |(_, domain)| domain);
            Ok(format!("https://ec2.{region}.{domain}"))
        }
    }
}

/// The endpoint that the environment names.
pub(super) fn endpoint_of_environment() -> Option<String> {
    let value = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    value("AWS_ENDPOINT_URL_EC2").or_else(|| value("AWS_ENDPOINT_URL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_has_its_domain() {
        for (region, expected) in [
            ("eu-west-1", "https://ec2.eu-west-1.amazonaws.com"),
            ("us-gov-west-1", "https://ec2.us-gov-west-1.amazonaws.com"),
            ("cn-north-1", "https://ec2.cn-north-1.amazonaws.com.cn"),
            ("us-iso-east-1", "https://ec2.us-iso-east-1.c2s.ic.gov"),
            ("us-isob-east-1", "https://ec2.us-isob-east-1.sc2s.sgov.gov"),
        ] {
            assert_eq!(endpoint(None, region).unwrap(), expected);
        }
        let own = endpoint(Some("http://127.0.0.1:5000/"), "eu-west-1").unwrap();
        assert_eq!(own, "http://127.0.0.1:5000");
    }

    #[test]
    fn region_or_endpoint_that_leads_elsewhere_is_refused() {
        for region in ["", "eu west", "x.evil.example/", "EU-WEST-1"] {
            assert!(endpoint(None, region).is_err(), "{region}");
        }
        for url in ["127.0.0.1:5000", "ftp://host", "https://", "file:///etc"] {
            let error = endpoint(Some(url), "eu-west-1").unwrap_err().to_string();
            assert!(error.contains("expected https://host"), "{error}");
        }
        let error = endpoint(Some("https://ana:hunter2@ec2.example"), "eu-west-1");
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("no user") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
