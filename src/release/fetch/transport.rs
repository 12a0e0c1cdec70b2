//! The line to a git server, below libgit2: OpenSSH's `ssh` for ssh, the HTTP port for http.
//!
//! libgit2 picks a transport by the address, and what is registered for that belongs to the
//! process; whom to call and with which key belongs to one fetch. So a fetch leaves its [`TransportContext`] on
//! its thread, where the transports find it, and finds there what went wrong.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::sync::OnceLock;

use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport, register};

use super::https::{self, PostStream};
use crate::ports::deadline::{Deadline, DeadlineError};
use crate::ports::exec::{Exec, ExecError, ExitReason, PipedChild};
use crate::ports::http::{HttpClient, HttpError};

/// Whom to call, and for how long.
#[derive(Debug)]
pub(super) struct TransportContext {
    pub transport: RemoteTransport,
    pub deadline: Deadline,
    pub error: Option<TransportError>,
    /// How many bytes of the list of refs came so far.
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
    /// What to run: `ssh`, or `git` as the owner of a repository on this host.
    Process(crate::ports::exec::Command),
    Http {
        http: HttpClient,
        /// The repository's address; after a redirect, where it really is.
        base: String,
    },
    /// libgit2 reads it itself.
    Local,
}

/// What went wrong on the line, of which libgit2 knows only that something did.
#[derive(Debug)]
pub(super) enum TransportError {
    TimedOut(DeadlineError),
    Start(ExecError),
    /// How `ssh` ended, and what it said.
    Exited(ExitReason, String),
    Http(HttpError),
    /// What a server answered where another status was expected.
    Status(u16),
    NotGit,
    /// The list of refs goes on beyond [`MAX_REF_LIST`].
    RefListTooLong,
}

/// The list of all refs with which a server begins is no longer, in bytes: half a million of them.
pub(super) const MAX_REF_LIST: usize = 32 << 20;

thread_local! {
    static CONTEXT: RefCell<Option<TransportContext>> = const { RefCell::new(None) };
}

/// Runs `operation`, in which libgit2 uses the transport of `call`. The second value says what went wrong on it,
/// if anything did.
pub(super) fn with_transport<T>(
    call: TransportContext,
    operation: impl FnOnce() -> T,
) -> (T, Option<TransportError>) {
    CONTEXT.set(Some(call));
    let answer = operation();
    (answer, CONTEXT.take().and_then(|call| call.error))
}

/// Tells libgit2 about our transports, once in the process.
pub(super) fn register_transports() -> Result<(), String> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    let register_all = || {
        // SAFETY: nobody makes a transport before this has been done, and it is done once.
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

/// Keeps the reason for an end of the line, and gives libgit2 an error.
pub(super) fn record_error(error: TransportError) -> io::Error {
    CONTEXT.with_borrow_mut(|call| {
        if let Some(call) = call {
            call.error = Some(error);
        }
    });
    io::Error::other("the line is down")
}

/// Counts what comes of the list of refs, which libgit2 would take in without an end.
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

/// Talks over http with the client of the current call.
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
            // One conversation for all of a fetch: libgit2 asks for it once.
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
    /// The server is still listing its refs: we asked for nothing yet.
    listing_refs: bool,
}

impl ProcessStream {
    /// What an error of reading or writing comes from.
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
