//! Responses, whose bodies are read within the deadline of the request.

use std::future::Future;
use std::io::{self, Read};
use std::pin::pin;
use std::time::Instant;

use aws_smithy_types::byte_stream::ByteStream;

use super::error::{self, HttpError};
use crate::ports::deadline::{Deadline, DeadlineError};
use crate::ports::runtime::block_on;
use crate::ports::watchdog;

/// A response with its whole body.
#[derive(Debug)]
pub(crate) struct FullResponse {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl FullResponse {
    /// The value of the first header of this name, in any case, without spaces around it.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let header = self
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        header.map(|(_, value)| value.trim())
    }
}

/// A response whose body has not been read yet.
#[derive(Debug)]
pub(crate) struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// Its URL after all redirects, without user name and password.
    pub url: String,
    pub(super) host: String,
    pub(super) body: ByteStream,
    pub(super) deadline: Deadline,
    /// Received data; the part from `read` on has not been consumed.
    pub(super) chunk: Vec<u8>,
    pub(super) chunk_position: usize,
}

impl Response {
    /// A header, by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Reads at most the first `most` bytes of the body.
    pub(super) fn read_up_to(mut self, most: usize) -> Result<FullResponse, HttpError> {
        let mut body = Vec::new();
        while body.len() <= most && self.read_chunk()? {
            body.append(&mut self.chunk);
        }
        body.truncate(most);
        Ok(FullResponse {
            status: self.status,
            headers: self.headers,
            body,
        })
    }

    /// Waits for the next part of the body; `false` at its end.
    fn read_chunk(&mut self) -> Result<bool, HttpError> {
        let left = self.deadline.remaining();
        let _operation = watchdog::begin(format!("read from {}", self.host), left);
        let next = with_deadline(self.body.next(), &self.deadline);
        let next = block_on(next)?;
        let bytes = next
            .transpose()
            .map_err(|error| error::interrupted(&self.host, &error))?;
        self.chunk_position = 0;
        self.chunk.clear();
        self.chunk
            .extend_from_slice(bytes.as_deref().unwrap_or_default());
        Ok(bytes.is_some())
    }
}

impl Read for Response {
    /// Reads the body. Errors are of type [`HttpError`].
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk_position == self.chunk.len() {
            if !self.read_chunk().map_err(io::Error::other)? {
                return Ok(0);
            }
        }
        let left = &self.chunk[self.chunk_position..];
        let length = left.len().min(buffer.len());
        buffer[..length].copy_from_slice(&left[..length]);
        self.chunk_position += length;
        Ok(length)
    }
}

/// Waits for `future` until the deadline; each call restarts the idle timeout.
pub(super) async fn with_deadline<F: Future>(
    future: F,
    deadline: &Deadline,
) -> Result<F::Output, DeadlineError> {
    let started = Instant::now();
    let mut future = pin!(future);
    loop {
        let wait = deadline.next_wait(started)?;
        if let Ok(output) = tokio::time::timeout(wait, &mut future).await {
            return Ok(output);
        }
    }
}
