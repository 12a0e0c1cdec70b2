//! Errors of S3 requests, and their mapping to [`StoreError`].

use std::error::Error;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::ports::aws::{CredentialsChainError, error_chain};
use crate::ports::error_sources::find_source;
use crate::ports::store::{MAX_LIST_LENGTH, StoreError};

/// Why a request failed.
#[derive(Debug)]
pub(super) enum S3Error {
    /// The server answered with an error.
    Response(ErrorResponse),
    /// No answer, or an invalid one; a retry may succeed.
    Transient(String),
    /// Not complete by the deadline.
    TimedOut(Duration),
    Credentials(CredentialsChainError),
    /// An object of more bytes than this.
    TooLarge(usize),
    /// A list of more than [`MAX_LIST_LENGTH`] objects.
    ListTooLong,
}

#[derive(Debug)]
pub(super) struct ErrorResponse {
    status: u16,
    /// S3's error code; empty if the answer has none.
    code: String,
    message: String,
    /// The region of the bucket, if the answer names it.
    region: Option<String>,
}

impl<E> From<SdkError<E, HttpResponse>> for S3Error
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> S3Error {
        if let SdkError::ServiceError(answer) = &error {
            let (raw, error) = (answer.raw(), answer.err());
            return S3Error::Response(ErrorResponse {
                status: raw.status().as_u16(),
                code: truncate(error.code().unwrap_or_default()),
                message: truncate(error.message().unwrap_or_default()),
                region: raw.headers().get("x-amz-bucket-region").map(truncate),
            });
        }
        if let Some(error) = find_source::<CredentialsChainError>(&error) {
            return S3Error::Credentials(error.clone());
        }
        S3Error::Transient(error_chain(&error))
    }
}

impl S3Error {
    /// An answer that no S3 server should give.
    pub(super) fn invalid_response(content: &str) -> S3Error {
        S3Error::Transient(format!("it answered with {content}"))
    }

    /// A body that ended early.
    pub(super) fn truncated_body(error: &(dyn Error + 'static)) -> S3Error {
        S3Error::Transient(format!("the object was truncated: {}", error_chain(error)))
    }

    pub(super) fn status(&self) -> Option<u16> {
        match self {
            S3Error::Response(answer) => Some(answer.status),
            _ => None,
        }
    }

    /// A 404 without S3's error code does not count as a missing object: it may come from a web server that
    /// has nothing to do with the store.
    pub(super) fn is_no_such_key(&self) -> bool {
        matches!(self, S3Error::Response(answer) if answer.status == 404 && answer.code == "NoSuchKey")
    }

    pub(super) fn is_condition_failed(&self) -> bool {
        self.status() == Some(412) || self.is_no_such_key()
    }

    pub(super) fn into_store_error(
        self,
        store: &str,
        key: &str,
        endpoint: Option<&str>,
    ) -> StoreError {
        let at = endpoint.map_or_else(String::new, |endpoint| format!(" (endpoint {endpoint})"));
        let unreachable = |why: String, hint| StoreError::Unreachable {
            store: store.to_owned(),
            why: why + &at,
            hint,
        };
        let refused = |why: String, hint| StoreError::Refused {
            store: store.to_owned(),
            key: key.to_owned(),
            why: why + &at,
            hint,
        };
        match self {
            S3Error::TooLarge(limit) => StoreError::TooLarge {
                store: store.to_owned(),
                key: key.to_owned(),
                limit,
            },
            S3Error::ListTooLong => StoreError::ListTooLarge {
                store: store.to_owned(),
                prefix: key.to_owned(),
                what: format!("more than {MAX_LIST_LENGTH} objects"),
            },
            S3Error::Transient(why) => unreachable(why, NETWORK_HINT),
            S3Error::TimedOut(limit) => {
                unreachable(format!("timed out after {limit:?}"), NETWORK_HINT)
            }
            S3Error::Credentials(CredentialsChainError::NotFound(why)) => {
                StoreError::NoCredentials {
                    store: store.to_owned(),
                    why,
                    hint: NO_CREDENTIALS_HINT,
                }
            }
            // A configured source may answer the next time.
            S3Error::Credentials(error) => unreachable(error.to_string(), CREDENTIALS_HINT),
            S3Error::Response(answer) if answer.is_transient() => {
                unreachable(answer.describe(), SERVER_HINT)
            }
            S3Error::Response(answer) => refused(answer.describe(), answer.hint()),
        }
    }
}

const NETWORK_HINT: &str =
    "check the address, the region, the network and firewalls; the next pass tries again";
const SERVER_HINT: &str = "the next pass tries again; if this persists, see to the store itself";
const CREDENTIALS_HINT: &str = "check the bucket's name and the credentials: the environment, root's ~/.aws, or the role of this instance";
const NO_CREDENTIALS_HINT: &str = "give this instance a role that may read the bucket, or root a profile: /root/.aws/credentials with the lines `[default]`, `aws_access_key_id = …` and `aws_secret_access_key = …`; passes and `sudo trueup` use both. Elsewhere, such as in CI, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
const CLOCK_HINT: &str = "`timedatectl` shows whether this host's clock is synchronised";
const BUCKET_HINT: &str =
    "check `store:` in the settings: the bucket's name, the region and the endpoint";

impl ErrorResponse {
    /// A temporary error, not a refusal.
    fn is_transient(&self) -> bool {
        const CODES: [&str; 5] = [
            "SlowDown",
            "RequestTimeout",
            "InternalError",
            "ServiceUnavailable",
            "OperationAborted",
        ];
        self.status >= 500 || self.status == 429 || CODES.contains(&self.code.as_str())
    }

    fn describe(&self) -> String {
        let mut words = format!("{} {}", self.status, self.code);
        if !self.message.is_empty() {
            words = format!("{words}: {}", self.message);
        }
        let words = words.trim_end();
        let meaning = match self.code.as_str() {
            "" => "not an S3 response: is the endpoint an S3 server?",
            "RequestTimeTooSkewed" => {
                "this host's clock and the store's are too far apart: check this host's time synchronisation"
            }
            "SignatureDoesNotMatch" => "the secret access key does not match this access key id",
            "InvalidAccessKeyId" => "the store does not know this access key id",
            "ExpiredToken" | "TokenRefreshRequired" => "the session's credentials have expired",
            "AccessDenied" => "these credentials have no permission for it",
            "NoSuchBucket" => "check the bucket's name in the store's url, and the region",
            _ => "",
        };
        match &self.region {
            Some(region) if matches!(self.status, 301 | 307 | 400) => {
                format!("{words} (the bucket is in the region {region})")
            }
            _ if meaning.is_empty() => words.to_owned(),
            _ => format!("{words} ({meaning})"),
        }
    }

    /// What to do about a refusal.
    fn hint(&self) -> &'static str {
        match self.code.as_str() {
            "RequestTimeTooSkewed" => CLOCK_HINT,
            "" | "NoSuchBucket" => BUCKET_HINT,
            _ if self.region.is_some() && self.status != 403 => BUCKET_HINT,
            _ => CREDENTIALS_HINT,
        }
    }
}

/// Limits a server's message to a readable length.
fn truncate(message: &str) -> String {
    const MAX_CHARS: usize = 500;
    message.chars().take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_the_hint_for_its_cause() {
        for (status, code, region, expected) in [
            (403, "RequestTimeTooSkewed", None, CLOCK_HINT),
            (403, "InvalidAccessKeyId", None, CREDENTIALS_HINT),
            (403, "AccessDenied", Some("eu-west-1"), CREDENTIALS_HINT),
            (404, "NoSuchBucket", None, BUCKET_HINT),
            (301, "PermanentRedirect", Some("eu-west-1"), BUCKET_HINT),
            (404, "", None, BUCKET_HINT),
        ] {
            let answer = S3Error::Response(ErrorResponse {
                status,
                code: code.into(),
                message: String::new(),
                region: region.map(str::to_owned),
            });
            let error = answer.into_store_error("s3://b", "key", None);
            assert_eq!(error.hint().as_deref(), Some(expected), "{code}");
        }
    }
}
