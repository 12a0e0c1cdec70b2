//! Git's smart protocol over http: a GET for the refs, then a POST for each step.

use std::io::{self, Read, Write};

use url::Url;

use super::line::{Trouble, count_list, down, over_http};
use crate::ports::http::{Http, HttpError, Request, Response};
use crate::ports::patience::Patience;

/// Servers tell git from browsers by its beginning.
const AGENT: (&str, &str) = (
    "user-agent",
    concat!("git/2.0 (trueup ", env!("CARGO_PKG_VERSION"), ")"),
);

const REFS: &str = "/info/refs?service=git-upload-pack";

/// Asks for the refs. Where the server sends us for them, the rest is asked for as well.
pub(super) fn refs(http: &Http, base: &mut String, patience: &Patience) -> Result<Body, Trouble> {
    let request = Request {
        url: &format!("{}{REFS}", base.trim_end_matches('/')),
        headers: &[AGENT, ("pragma", "no-cache")],
        body: None,
        follow: true,
    };
    let response = expect(http.send(request, patience), "advertisement")?;
    if let Some(moved) = moved(&response.url, base) {
        *base = moved;
    }
    Ok(Body {
        response,
        lists: true,
    })
}

/// The address of a repository whose refs came from `from`: on the same server, with the user name
/// and password of the old one.
fn moved(from: &str, base: &str) -> Option<String> {
    let mut moved = Url::parse(from.strip_suffix(REFS)?).ok()?;
    let old = Url::parse(base).ok()?;
    if moved.origin() == old.origin() {
        moved.set_username(old.username()).ok()?;
        moved.set_password(old.password()).ok()?;
    }
    Some(moved.into())
}

fn expect(answer: Result<Response, HttpError>, what: &str) -> Result<Response, Trouble> {
    let response = answer.map_err(trouble)?;
    if response.status != 200 {
        return Err(Trouble::Status(response.status));
    }
    let sort = format!("application/x-git-upload-pack-{what}");
    if response.header("content-type") != Some(&sort) {
        return Err(Trouble::NoGit);
    }
    Ok(response)
}

fn trouble(error: HttpError) -> Trouble {
    match error {
        HttpError::GivenUp(why) => Trouble::GivenUp(why),
        error => Trouble::Http(error),
    }
}

/// The body of an answer, to be read and no more.
pub(super) struct Body {
    response: Response,
    /// It is a list of refs.
    lists: bool,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.response.read(buffer).map_err(|error| {
            let inner = error.into_inner().and_then(|inner| inner.downcast().ok());
            match inner {
                Some(error) => down(trouble(*error)),
                None => down(Trouble::NoGit),
            }
        })?;
        match self.lists {
            true => count_list(read),
            false => Ok(read),
        }
    }
}

impl Write for Body {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One step: what is written is sent when the answer is first read.
#[derive(Default)]
pub(super) struct Post {
    body: Vec<u8>,
    answer: Option<Body>,
}

impl Write for Post {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.body.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Post {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let answer = match &mut self.answer {
            Some(answer) => answer,
            None => {
                let body = std::mem::take(&mut self.body);
                let sent = over_http(|http, base, patience| {
                    let request = Request {
                        url: &format!("{}/git-upload-pack", base.trim_end_matches('/')),
                        headers: &[
                            AGENT,
                            ("content-type", "application/x-git-upload-pack-request"),
                            ("accept", "application/x-git-upload-pack-result"),
                        ],
                        body: Some(body),
                        follow: false,
                    };
                    expect(http.send(request, patience), "result")
                });
                let sent = sent.map_err(|error| io::Error::other(error.message().to_owned()))?;
                self.answer.insert(Body {
                    response: sent,
                    lists: false,
                })
            }
        };
        answer.read(buffer)
    }
}
