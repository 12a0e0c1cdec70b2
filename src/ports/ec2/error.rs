//! Why a call of EC2 failed.

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(
    not(feature = "s3"),
    allow(dead_code, reason = "only the client makes most of them")
)]
pub(crate) enum Ec2Error {
    /// Not reached, timed out, throttled or temporarily unable to serve: the same call may succeed later.
    #[error("EC2 ({at}) cannot be reached for {action}: {why}")]
    Unreachable {
        at: String,
        action: &'static str,
        why: String,
        hint: &'static str,
    },
    /// EC2 refused the call.
    #[error("EC2 ({at}) refused {action}: {}", .refusal.describe())]
    Refused {
        at: String,
        action: &'static str,
        refusal: Box<Refusal>,
    },
    /// No request was sent, for want of credentials to sign it.
    #[error(
        "there are no AWS credentials on this host, so EC2 ({at}) was not asked (looked in {why})"
    )]
    NoCredentials {
        at: String,
        /// Each source, and why it has none.
        why: String,
    },
    /// This host is no instance, or cannot ask its metadata service.
    #[error("this instance's metadata service did not say {value}: {why}")]
    Metadata {
        value: &'static str,
        why: String,
        hint: &'static str,
    },
    /// There is more than any intended use has, and more than a pass may cost.
    #[error("EC2 ({at}) has {what}")]
    TooMany {
        at: String,
        /// For example `more than 10000 instances that match`.
        what: String,
    },
    /// A region, an endpoint or another argument is invalid.
    #[error("{0}")]
    Settings(String),
}

impl Ec2Error {
    /// The operator's next step, where one is known.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Ec2Error::Unreachable { hint, .. } | Ec2Error::Metadata { hint, .. } => {
                Some((*hint).to_owned())
            }
            Ec2Error::Refused {
                action, refusal, ..
            } => Some(refusal.hint(action)),
            Ec2Error::NoCredentials { .. } => Some(NO_CREDENTIALS_HINT.to_owned()),
            Ec2Error::TooMany { .. } | Ec2Error::Settings(_) => None,
        }
    }

    /// Whether the same call may succeed later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Ec2Error::Unreachable { .. } => true,
            Ec2Error::Refused { refusal, .. } => refusal.is_transient(),
            _ => false,
        }
    }
}

/// An error that EC2 answered with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub status: u16,
    /// EC2's error code; empty if the answer has none.
    pub code: String,
    pub message: String,
    /// By which AWS finds the call; empty if the answer has none.
    pub request_id: String,
}

impl Refusal {
    /// A temporary error.
    pub(super) fn is_transient(&self) -> bool {
        const CODES: [&str; 6] = [
            "RequestLimitExceeded",
            "Throttling",
            "ThrottlingException",
            "InternalError",
            "ServiceUnavailable",
            "Unavailable",
        ];
        self.status >= 500 || self.status == 429 || CODES.contains(&self.code.as_str())
    }

    fn describe(&self) -> String {
        if self.code.is_empty() {
            return format!(
                "{} without an error code: is the endpoint an EC2 server?",
                self.status
            );
        }
        let mut words = format!("{} {}", self.status, self.code);
        let message = readable(&self.message);
        if !message.is_empty() {
            words = format!("{words}: {message}");
        }
        match self.request_id.as_str() {
            "" => words,
            id => format!("{words} (request {id})"),
        }
    }

    fn hint(&self, action: &str) -> String {
        match self.code.as_str() {
            "UnauthorizedOperation" => format!(
                "allow `ec2:{action}` in the policy of this instance's role (docs/{} has one), and check its conditions",
                documentation(action)
            ),
            "AuthFailure" | "SignatureDoesNotMatch" => AUTHENTICATION_HINT.to_owned(),
            "RequestExpired" | "ExpiredToken" | "ExpiredTokenException" => EXPIRED_HINT.to_owned(),
            "InvalidClientTokenId" | "InvalidAccessKeyId" | "MissingAuthenticationToken" => {
                CREDENTIALS_HINT.to_owned()
            }
            "OptInRequired" => {
                "the account has not enabled this region: check `ec2.region` in the settings".into()
            }
            "RequestLimitExceeded" | "Throttling" | "ThrottlingException" => {
                THROTTLED_HINT.to_owned()
            }
            "" => "check `ec2.endpoint` in the settings and AWS_ENDPOINT_URL_EC2".into(),
            code if code.ends_with(".NotFound") || code.ends_with(".Malformed") => {
                "check the id; an id is found only in its own region: check `ec2.region` in the settings".into()
            }
            _ if self.is_transient() => NETWORK_HINT.to_owned(),
            _ => "see EC2's API reference for this error code".into(),
        }
    }
}

/// Which page has the policy for a call.
fn documentation(action: &str) -> &'static str {
    match action {
        "DescribeInstances" => "fleet.md",
        _ => "balancers.md",
    }
}

/// The message without the part that only AWS can read.
fn readable(message: &str) -> &str {
    let end = message.find("Encoded authorization failure message");
    message[..end.unwrap_or(message.len())].trim_end()
}

pub(super) const NETWORK_HINT: &str =
    "check the region, the network and firewalls; it may work the next time";
pub(super) const CREDENTIALS_HINT: &str =
    "check the credentials: the environment, root's ~/.aws, or the role of this instance";
const NO_CREDENTIALS_HINT: &str = "give this instance a role with the policy in docs/balancers.md or docs/fleet.md, or root a profile: /root/.aws/credentials; elsewhere set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
const AUTHENTICATION_HINT: &str =
    "check the credentials and the clock: `timedatectl` shows whether it is synchronised";
const EXPIRED_HINT: &str = "either the session's credentials have expired, or the clock is wrong: `timedatectl` shows whether it is synchronised";
const THROTTLED_HINT: &str =
    "the account makes too many requests to EC2 in this region; it works again within seconds";

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str, message: &str) -> Ec2Error {
        Ec2Error::Refused {
            at: "ec2.eu-west-1.amazonaws.com".into(),
            action: "AssociateAddress",
            refusal: Box::new(Refusal {
                status: 403,
                code: code.into(),
                message: message.into(),
                request_id: "7a62c49f".into(),
            }),
        }
    }

    #[test]
    fn each_refusal_has_the_hint_for_its_cause() {
        for (code, expected) in [
            ("UnauthorizedOperation", "allow `ec2:AssociateAddress`"),
            ("AuthFailure", "the clock"),
            ("RequestExpired", "have expired, or the clock"),
            ("InvalidClientTokenId", "check the credentials"),
            ("InvalidAllocationID.NotFound", "in its own region"),
            ("OptInRequired", "not enabled this region"),
            ("", "ec2.endpoint"),
        ] {
            let hint = refused(code, "").hint().unwrap();
            assert!(hint.contains(expected), "{code}: {hint}");
        }
    }

    #[test]
    fn refusal_names_the_call_and_leaves_out_what_only_aws_can_read() {
        let message = "You are not authorized. Encoded authorization failure message: 8xJ2";
        assert_eq!(
            refused("UnauthorizedOperation", message).to_string(),
            "EC2 (ec2.eu-west-1.amazonaws.com) refused AssociateAddress: 403 UnauthorizedOperation: You are not authorized. (request 7a62c49f)"
        );
    }
}
