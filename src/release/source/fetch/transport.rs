//! Transports to a git server for libgit2: OpenSSH's `ssh` for ssh, the HTTP port for http.
//!
//! libgit2 selects a transport by the address, and transports are registered per process, whereas the server
//! and the key belong to one fetch. So a fetch stores its [`TransportContext`] in a thread-local variable,
//! where the transports find it and leave the error, if any.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::sync::OnceLock;

use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport, register};

use super::https::{self, PostStream};
use crate::ports::deadline::{Deadline, DeadlineError};
use crate::ports::exec::{Exec, ExecError, ExitReason, PipedChild};
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
    Process(crate::ports::exec::Command),
    Http {
        http: HttpClient,
        /// The repository's address; after a redirect, the new one.
        base: String,
    },
    /// libgit2 reads the repository itself.
    Local,
}

/// The cause of a transport error; libgit2 only knows that there was one.
#[derive(Debug)]
pub(super) enum TransportError {
    TimedOut(DeadlineError),
    Start(ExecError),
    /// The exit reason of `ssh` or `git`, and its error output.
    Exited(ExitReason, String),
    Http(HttpError),
    /// The unexpected HTTP status of a response.
    Status(u16),
    NotGit,
    /// The list of refs exceeds [`MAX_REF_LIST`].
    RefListTooLong,
}

/// Maximum size of the list of refs that a server sends first, in bytes: enough for half a million refs.
pub(super) const MAX_REF_LIST: usize = 32 << 20;

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

/// Registers our transports with libgit2, once per process.
pub(super) fn register_transports() -> Result<(), String> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    let register_all = || {
        // SAFETY: no transport is created before the registration has finished, and it runs only once.
        unsafe {
            register("ssh", |remote| {
                Transport::smart(remote, false, ProcessTransport)
            })?;
            register("http", |remote| {
                Transport::smart(remote, true, HttpTransport)
            })?;
            register("https", |remote| {
                Transport::smart(remote, true, HttpTransport)
            })
        }
    };
    let done = DONE.get_or_init(|| register_all().map_err(|e| e.message().to_owned()));
    done.clone()
}

fn with_context<T>(
    use_it: impl FnOnce(&mut TransportContext) -> Result<T, TransportError>,
) -> Result<T, git2::Error> {
    CONTEXT.with_borrow_mut(|call| {
        let call = call
            .as_mut()
            .ok_or_else(|| git2::Error::from_str("nobody said whom to call"))?;
        use_it(call).map_err(|trouble| {
            call.error = Some(trouble);
            git2::Error::from_str("the line is down")
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
    io::Error::other("the line is down")
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

struct ProcessTransport;

impl SmartSubtransport for ProcessTransport {
    fn action(
        &self,
        _: &str,
        service: Service,
    ) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        with_context(|call| match &call.transport {
            // One process serves a whole fetch: libgit2 requests this service once.
            RemoteTransport::Process(command) if service == Service::UploadPackLs => {
                let talk = Exec.spawn_piped(command, call.deadline.clone());
                let stream = ProcessStream {
                    talk: talk.map_err(TransportError::Start)?,
                    listing_refs: true,
                };
                Ok(Box::new(stream) as Box<dyn SmartSubtransportStream>)
            }
            _ => Err(TransportError::NotGit),
        })
    }

    fn close(&self) -> Result<(), git2::Error> {
        Ok(())
    }
}

struct ProcessStream {
    talk: PipedChild,
    /// The server is still sending its refs: nothing was requested yet.
    listing_refs: bool,
}

impl ProcessStream {
    /// The cause of a read or write error.
    fn stream_error(&mut self, error: &io::Error) -> io::Error {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        if let Some(why) = inner {
            return record_error(TransportError::TimedOut(DeadlineError::clone(why)));
        }
        let (ended, stderr) = self.talk.finish();
        record_error(TransportError::Exited(ended, stderr))
    }
}

impl Read for ProcessStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.talk.read(buffer) {
            Ok(0) => match self.talk.finish() {
                (ExitReason::Exited(0), _) => Ok(0),
                (ended, stderr) => Err(record_error(TransportError::Exited(ended, stderr))),
            },
            Err(error) => Err(self.stream_error(&error)),
            Ok(bytes) if self.listing_refs => count_ref_list(bytes),
            answer => answer,
        }
    }
}

impl Write for ProcessStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.listing_refs = false;
        self.talk
            .write(bytes)
            .map_err(|error| self.stream_error(&error))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct HttpTransport;

impl SmartSubtransport for HttpTransport {
    fn action(
        &self,
        _: &str,
        service: Service,
    ) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        match service {
            Service::UploadPackLs => with_http(https::get_refs).map(|answer| Box::new(answer) as _),
            Service::UploadPack => Ok(Box::new(PostStream::default())),
            Service::ReceivePackLs | Service::ReceivePack => {
                Err(git2::Error::from_str("trueup only reads"))
            }
        }
    }

    fn close(&self) -> Result<(), git2::Error> {
        Ok(())
    }
}
