//! Where a bucket is.

use crate::ports::aws_region::check_region;

/// Location of the bucket.
#[derive(Debug, Clone)]
pub(crate) struct S3Settings {
    pub bucket: String,
    /// Prepended to every key, with a slash; may be empty.
    pub prefix: String,
    /// If absent: `AWS_REGION`, `AWS_DEFAULT_REGION`, then the AWS profile.
    pub region: Option<String>,
    /// The address of an S3-compatible server, with its scheme; AWS if absent.
    pub endpoint: Option<String>,
    /// Put the bucket in the path instead of in the host name.
    pub path_style: bool,
}

/// Refuses what is no name of a bucket or a region of AWS: a request would only fail to resolve a host name.
pub(super) fn check_aws_names(bucket: &str, region: Option<&str>) -> Result<(), String> {
    let usual = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = (3..=63).contains(&bucket.len()) && bucket.chars().all(|c| usual(c) || c == '.');
    if !fits {
        return Err(format!(
            "`{bucket}` is not the name of a bucket of AWS: expected 3 to 63 lower-case letters, digits, dots and dashes (for another S3 server set `endpoint`)"
        ));
    }
    region.map_or(Ok(()), check_region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_aws_cannot_have_are_refused_before_any_request() {
        assert_eq!(
            check_aws_names("acme-deploys.v2", Some("eu-west-1")),
            Ok(())
        );
        for (bucket, region, expected) in [
            ("Acme", None, "`Acme` is not the name of a bucket"),
            ("acme_deploys", None, "3 to 63 lower-case"),
            ("ab", None, "3 to 63"),
            ("acme", Some("eu west"), "`eu west` is not a region"),
            ("acme", Some(""), "expected such as `eu-west-1`"),
        ] {
            let message = check_aws_names(bucket, region).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }
}
