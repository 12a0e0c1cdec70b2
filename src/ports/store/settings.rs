//! The address of a store in the settings, and the backend that it selects.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{DirStore, Store, StoreError};

/// Where the store is, as written in the settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct StoreSettings {
    /// `s3://bucket`, `s3://bucket/prefix` or `dir:/absolute/path`.
    pub url: String,
    /// The region of the bucket. Without it: `AWS_REGION`, `AWS_DEFAULT_REGION`, then the AWS
    /// profile. Only for `s3://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The address of an S3-compatible server, with its scheme. Only for `s3://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Put the bucket in the path instead of in the host name, as most S3-compatible servers want
    /// it. Only for `s3://`.
    #[serde(default)]
    pub path_style: bool,
}

impl StoreSettings {
    /// Only this machine uses it, so there is nobody to agree with.
    pub(crate) fn is_local(&self) -> bool {
        self.url.starts_with("dir:")
    }
}

/// Opens the store that the settings name. Contacts nothing: an unreachable store shows in the first
/// operation.
pub(crate) fn open(settings: &StoreSettings) -> Result<Box<dyn Store>, StoreError> {
    if let Some(location) = settings.url.strip_prefix("s3://") {
        return open_s3(location, settings);
    }
    if let Some(path) = settings.url.strip_prefix("dir:") {
        return Ok(Box::new(DirStore::open(Path::new(path))?));
    }
    Err(StoreError::Settings(format!(
        "`{}` is not the address of a store: expected s3://bucket, s3://bucket/prefix or dir:/absolute/path",
        settings.url
    )))
}

#[cfg(feature = "s3")]
fn open_s3(location: &str, settings: &StoreSettings) -> Result<Box<dyn Store>, StoreError> {
    let (bucket, prefix) = location.split_once('/').unwrap_or((location, ""));
    Ok(Box::new(super::S3Store::open(super::S3Settings {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        region: settings.region.clone(),
        endpoint: settings.endpoint.clone(),
        path_style: settings.path_style,
    })?))
}

#[cfg(not(feature = "s3"))]
fn open_s3(_location: &str, settings: &StoreSettings) -> Result<Box<dyn Store>, StoreError> {
    Err(StoreError::Settings(format!(
        "{}: this trueup was built without its feature `s3`",
        settings.url
    )))
}

#[cfg(test)]
#[cfg(feature = "s3")]
mod tests {
    use super::*;

    fn settings(url: &str) -> StoreSettings {
        serde_json::from_value(serde_json::json!({"url": url, "region": "eu-west-1"})).unwrap()
    }

    #[test]
    fn url_scheme_selects_the_backend() {
        for (url, address) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
            ("dir:/srv/store", "dir:/srv/store"),
            ("dir:/srv/store/", "dir:/srv/store"),
        ] {
            assert_eq!(open(&settings(url)).unwrap().address(), address, "{url}");
        }
    }

    #[test]
    fn invalid_url_error_says_what_was_expected() {
        for (url, expected) in [
            ("http://bucket", "expected s3://bucket"),
            ("bucket", "expected s3://bucket"),
            ("s3://", "bucket"),
            ("s3:///prefix", "bucket"),
            ("s3://Bad Bucket", "bucket"),
            ("s3://bucket/a//b", "not a key"),
            ("s3://bucket/../b", "not a key"),
            ("dir:relative/path", "absolute"),
            ("dir:", "absolute"),
        ] {
            match open(&settings(url)).map(|store| store.address().to_owned()) {
                Err(StoreError::Settings(why)) => assert!(why.contains(expected), "{url}: {why}"),
                other => panic!("{url}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_mistyped_setting_is_refused() {
        let written = serde_json::json!({"url": "dir:/srv", "regoin": "eu-west-1"});
        let error = serde_json::from_value::<StoreSettings>(written).unwrap_err();
        assert!(error.to_string().contains("regoin"), "{error}");
    }
}
