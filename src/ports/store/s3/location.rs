//! Where a bucket is.

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
