//! The context of a transport: the server, the deadline and the error of one fetch.
//!
//! libgit2 selects a transport by the address, and transports are registered per process, whereas the server
//! and the key belong to one fetch. So a fetch stores its [`TransportContext`] in a thread-local variable,
//! where the [transports](super::transport) find it and leave the error, if any.

use std::cell::RefCell;
use std::io;

use crate::ports::deadline::{Deadline, DeadlineError};
use crate::ports::exec::{Command, ExecError, ExitReason};
use crate::ports::http::{HttpClient, HttpError};

/// The transport, deadline and error of one fetch.
#[derive(Debug)]
pub(super) struct TransportContext {
    pub transport: RemoteTransport,
    pub deadline: Deadline,
    pub error: Option<TransportError>,
    /// Number of bytes of the list of refs received so far.
    listed_bytes: usize,
}

impl TransportContext {
    pub(super) fn new(transport: RemoteTransport, deadline: Deadline) -> TransportContext {
        TransportContext {
            transport,
            deadline,
            error: None,
            listed_bytes: 0,
        }
    }
}

#[derive(Debug)]
pub(super) enum RemoteTransport {
    /// The command to run: `ssh`, or `git` as the owner of a repository on this host.
    Process(Command),
    Http {
        http: HttpClient,
        /// The repository's address; after a redirect, the new one.
        base: String,
    },
    /// libgit2 reads the repository itself.
    Local,
}

/// The cause of a transport error; libgit2 only knows that there was one.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransportError {
    #[error(transparent)]
    TimedOut(DeadlineError),
    #[error(transparent)]
    Start(ExecError),
    /// `ssh` or `git` ended, with this error output.
    #[error("{reason}")]
    Exited { reason: ExitReason, stderr: String },
    #[error(transparent)]
    Http(HttpError),
    /// The unexpected HTTP status of a response.
    #[error("the server answered {0}")]
    Status(u16),
    #[error("the server is not a git server")]
    NotGit,
    #[error(
        "its list of branches, tags and other refs is longer than {} MiB",
        MAX_REF_LIST >> 20
    )]
    RefListTooLong,
}

/// Maximum size of the list of refs that a server sends first, in bytes: enough for half a million refs.
const MAX_REF_LIST: usize = 32 << 20;

thread_local! {
    static CONTEXT: RefCell<Option<TransportContext>> = const { RefCell::new(None) };
}

/// Runs `operation`, in which libgit2 uses the transport of `call`. The second value is the transport error,
/// if any.
pub(super) fn with_transport<T>(
    call: TransportContext,
    operation: impl FnOnce() -> T,
) -> (T, Option<TransportError>) {
    CONTEXT.set(Some(call));
    let answer = operation();
    (answer, CONTEXT.take().and_then(|call| call.error))
}

/// Runs an operation with the context of the current fetch, and stores its error there.
pub(super) fn with_context<T>(
    operation: impl FnOnce(&mut TransportContext) -> Result<T, TransportError>,
) -> Result<T, git2::Error> {
    CONTEXT.with_borrow_mut(|call| {
        let call = call
            .as_mut()
            .ok_or_else(|| git2::Error::from_str("no transport is configured for this fetch"))?;
        operation(call).map_err(|error| {
            call.error = Some(error);
            git2::Error::from_str("the connection failed")
        })
    })
}

/// Stores the cause of a transport error, and returns an error for libgit2.
pub(super) fn record_error(error: TransportError) -> io::Error {
    CONTEXT.with_borrow_mut(|call| {
        if let Some(call) = call {
            call.error = Some(error);
        }
    });
    io::Error::other("the connection failed")
}

/// Counts the bytes of the list of refs, which libgit2 would read without a limit.
pub(super) fn count_ref_list(bytes: usize) -> io::Result<usize> {
    let within = CONTEXT.with_borrow_mut(|call| {
        call.as_mut().is_none_or(|call| {
            call.listed_bytes = call.listed_bytes.saturating_add(bytes);
            call.listed_bytes <= MAX_REF_LIST
        })
    });
    match within {
        true => Ok(bytes),
        false => Err(record_error(TransportError::RefListTooLong)),
    }
}

/// Runs an HTTP operation with the client of the current call.
pub(super) fn with_http<T>(
    operation: impl FnOnce(&HttpClient, &mut String, &Deadline) -> Result<T, TransportError>,
) -> Result<T, git2::Error> {
    with_context(|call| match &mut call.transport {
        RemoteTransport::Http { http, base } => operation(http, base, &call.deadline),
        RemoteTransport::Process(_) | RemoteTransport::Local => Err(TransportError::NotGit),
    })
}
