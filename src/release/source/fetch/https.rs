//! Transport for git's smart protocol over HTTP: a GET for the refs, then a POST for each step.

use std::io::{self, Read, Write};

use url::Url;

use super::context::{TransportError, count_ref_list, record_error, with_http};
use crate::ports::deadline::Deadline;
use crate::ports::http::{HttpClient, HttpError, Request, Response};

/// Servers tell git from browsers by the beginning of this header.
const USER_AGENT: (&str, &str) = (
    "user-agent",
    concat!("git/2.0 (trueup ", env!("CARGO_PKG_VERSION"), ")"),
);

const REFS_PATH: &str = "/info/refs?service=git-upload-pack";

/// Requests the refs. After a redirect the remaining requests go to the new address as well.
pub(super) fn get_refs(
    http: &HttpClient,
    base: &mut String,
    deadline: &Deadline,
) -> Result<ResponseBody, TransportError> {
    let request = Request {
        url: &format!("{}{REFS_PATH}", base.trim_end_matches('/')),
        headers: &[USER_AGENT, ("pragma", "no-cache")],
        body: None,
        follow_redirects: true,
    };
    let response = check_response(http.send(request, deadline), "advertisement")?;
    if let Some(moved) = redirected_base(&response.url, base) {
        *base = moved;
    }
    Ok(ResponseBody {
        response,
        listing_refs: true,
    })
}

/// The repository's address after a redirect of the refs to `from`; on the same server it keeps the user name
/// and password of `base`.
fn redirected_base(from: &str, base: &str) -> Option<String> {
    let mut moved = Url::parse(from.strip_suffix(REFS_PATH)?).ok()?;
    let old = Url::parse(base).ok()?;
    if moved.origin() == old.origin() {
        moved.set_username(old.username()).ok()?;
        moved.set_password(old.password()).ok()?;
    }
    Some(moved.into())
}

fn check_response(
    result: Result<Response, HttpError>,
    kind: &str,
) -> Result<Response, TransportError> {
    let response = result.map_err(transport_error)?;
    if response.status != 200 {
        return Err(TransportError::Status(response.status));
    }
    let content_type = format!("application/x-git-upload-pack-{kind}");
    if response.header("content-type") != Some(&content_type) {
        return Err(TransportError::NotGit);
    }
    Ok(response)
}

fn transport_error(error: HttpError) -> TransportError {
    match error {
        HttpError::Deadline(why) => TransportError::TimedOut(why),
        error => TransportError::Http(error),
    }
}

/// The body of a response, read-only.
pub(super) struct ResponseBody {
    response: Response,
    /// The body is a list of refs.
    listing_refs: bool,
}

impl Read for ResponseBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.response.read(buffer).map_err(|error| {
            let inner = error.into_inner().and_then(|inner| inner.downcast().ok());
            match inner {
                Some(error) => record_error(transport_error(*error)),
                None => record_error(TransportError::NotGit),
            }
        })?;
        match self.listing_refs {
            true => count_ref_list(read),
            false => Ok(read),
        }
    }
}

impl Write for ResponseBody {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One step of the protocol: the written bytes are sent when the response is first read.
#[derive(Default)]
pub(super) struct PostStream {
    body: Vec<u8>,
    response: Option<ResponseBody>,
}

impl Write for PostStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.body.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for PostStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let answer = match &mut self.response {
            Some(answer) => answer,
            None => {
                let body = std::mem::take(&mut self.body);
                let sent = with_http(|http, base, deadline| {
                    let request = Request {
                        url: &format!("{}/git-upload-pack", base.trim_end_matches('/')),
                        headers: &[
                            USER_AGENT,
                            ("content-type", "application/x-git-upload-pack-request"),
                            ("accept", "application/x-git-upload-pack-result"),
                        ],
                        body: Some(body),
                        follow_redirects: false,
                    };
                    check_response(http.send(request, deadline), "result")
                });
                let sent = sent.map_err(|error| io::Error::other(error.message().to_owned()))?;
                self.response.insert(ResponseBody {
                    response: sent,
                    listing_refs: false,
                })
            }
        };
        answer.read(buffer)
    }
}
