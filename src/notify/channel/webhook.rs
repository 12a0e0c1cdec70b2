//! Webhooks: Slack's, and JSON signed as Standard Webhooks describes it (<https://www.standardwebhooks.com>), for which
//! there are libraries.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;

use crate::ports::deadline::Deadline;
use crate::ports::http::{FullResponse, HttpClient, HttpError};
use crate::ports::secrets;
use crate::problem::Problem;

/// Bytes of a response that are read, and characters of it that are shown.
const MAX_RESPONSE: usize = 1024;
const MAX_SHOWN: usize = 200;

/// Marks a secret in base64, as Standard Webhooks writes it.
const BASE64_SECRET: &str = "whsec_";

const JSON: (&str, &str) = ("content-type", "application/json");
const AGENT: (&str, &str) = ("user-agent", concat!("trueup/", env!("CARGO_PKG_VERSION")));

/// What the signature of a request covers besides its body.
pub(super) struct Signed<'a> {
    pub id: &'a str,
    pub at: Timestamp,
    /// `None`: it is not signed.
    pub secret: Option<&'a str>,
}

/// Posts a text to Slack.
pub(super) fn post_slack(
    url: &str,
    allow_private: bool,
    text: &str,
    deadline: &Deadline,
) -> Result<String, Problem> {
    // No previews of addresses in it: the server would fetch them.
    let message = serde_json::json!({"text": text, "unfurl_links": false, "unfurl_media": false});
    let body = message.to_string().into_bytes();
    let http = HttpClient::for_webhook(allow_private);
    let response = http.post(url, &[JSON, AGENT], body, deadline, MAX_RESPONSE);
    assess(response, allow_private)
}

/// Posts a document, signed if there is a secret.
pub(super) fn post_json(
    url: &str,
    allow_private: bool,
    document: Vec<u8>,
    signed: &Signed<'_>,
    deadline: &Deadline,
) -> Result<String, Problem> {
    let time = signed.at.as_second().to_string();
    let signature = signed
        .secret
        .map(|secret| signature(secret, signed.id, &time, &document));
    let mut headers = vec![
        JSON,
        AGENT,
        ("webhook-id", signed.id),
        ("webhook-timestamp", &time),
    ];
    if let Some(signature) = &signature {
        headers.push(("webhook-signature", signature));
    }
    let http = HttpClient::for_webhook(allow_private);
    let response = http.post(url, &headers, document, deadline, MAX_RESPONSE);
    assess(response, allow_private)
}

/// `v1,BASE64` of the HMAC-SHA256 of `ID.TIME.BODY`.
fn signature(secret: &str, id: &str, time: &str, body: &[u8]) -> String {
    let decoded = secret
        .strip_prefix(BASE64_SECRET)
        .and_then(|key| STANDARD.decode(key).ok());
    let key = decoded.unwrap_or_else(|| secret.as_bytes().to_vec());
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{time}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

fn assess(
    response: Result<FullResponse, HttpError>,
    allow_private: bool,
) -> Result<String, Problem> {
    let response = response.map_err(|error| explain(&error, allow_private))?;
    let status = response.status;
    if (200..300).contains(&status) {
        return Ok(format!("the server answered {status}"));
    }
    let body = secrets::redact(String::from_utf8_lossy(&response.body).trim());
    let body: String = body.chars().take(MAX_SHOWN).collect();
    let shown = match body.is_empty() {
        true => format!("the server answered {status}"),
        false => format!("the server answered {status}: {body}"),
    };
    let problem = Problem::new(shown);
    Err(match status {
        300..=399 => problem.hint("a redirect is not followed: set the address that it leads to"),
        401 | 403 | 404 | 410 => {
            problem.hint("is the webhook still there, and its address complete?")
        }
        _ => problem,
    })
}

fn explain(error: &HttpError, allow_private: bool) -> Problem {
    let problem = Problem::new(secrets::redact(error.to_string()));
    match error {
        HttpError::ForbiddenAddress { .. } if !allow_private => problem.hint(
            "`allow_private: true` at the channel lets it reach a private network, or this host",
        ),
        _ => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_is_that_of_standard_webhooks() {
        // The example of its specification, computed with its reference library.
        let signed = signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            b"{\"test\": 2432232314}",
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
