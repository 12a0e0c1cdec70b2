//! Transports to a git server for libgit2: OpenSSH's `ssh` for ssh, the HTTP port for http.

use std::io::{self, Read, Write};
use std::sync::OnceLock;

use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport, register};

use super::context::{
    RemoteTransport, TransportError, count_ref_list, record_error, with_context, with_http,
};
use super::https::{self, PostStream};
use crate::ports::deadline::DeadlineError;
use crate::ports::exec::{Exec, ExitReason, PipedChild};

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
                let child = Exec.spawn_piped(command, call.deadline.clone());
                let stream = ProcessStream {
                    child: child.map_err(TransportError::Start)?,
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
    child: PipedChild,
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
        let (reason, stderr) = self.child.finish();
        record_error(TransportError::Exited { reason, stderr })
    }
}

impl Read for ProcessStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.child.read(buffer) {
            Ok(0) => match self.child.finish() {
                (ExitReason::Exited(0), _) => Ok(0),
                (reason, stderr) => Err(record_error(TransportError::Exited { reason, stderr })),
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
        self.child
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
