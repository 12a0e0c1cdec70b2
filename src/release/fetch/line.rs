//! The line to a git server, below libgit2: OpenSSH's `ssh` for ssh, the HTTP port for http.
//!
//! libgit2 picks a transport by the address, and what is registered for that belongs to the
//! process; whom to call and with which key belongs to one fetch. So a fetch leaves its [`Call`] on
//! its thread, where the transports find it, and finds there what went wrong.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::sync::OnceLock;

use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport, register};

use super::https::{self, Post};
use crate::ports::exec::{Ended, Exec, ExecError, Talk};
use crate::ports::http::{Http, HttpError};
use crate::ports::patience::{GivenUp, Patience};

/// Whom to call, and for how long.
#[derive(Debug)]
pub(super) struct Call {
    pub way: Way,
    pub patience: Patience,
    pub trouble: Option<Trouble>,
    /// How many bytes of the list of refs came so far.
    listed: usize,
}

impl Call {
    pub(super) fn new(way: Way, patience: Patience) -> Call {
        Call {
            way,
            patience,
            trouble: None,
            listed: 0,
        }
    }
}

#[derive(Debug)]
pub(super) enum Way {
    /// What to run: `ssh`, or `git` as the owner of a repository on this host.
    Ssh(crate::ports::exec::Command),
    Http {
        http: Http,
        /// The repository's address; after a redirect, where it really is.
        base: String,
    },
    /// libgit2 reads it itself.
    Local,
}

/// What went wrong on the line, of which libgit2 knows only that something did.
#[derive(Debug)]
pub(super) enum Trouble {
    GivenUp(GivenUp),
    Start(ExecError),
    /// How `ssh` ended, and what it said.
    Ssh(Ended, String),
    Http(HttpError),
    /// What a server answered where another status was expected.
    Status(u16),
    NoGit,
    /// The list of refs goes on beyond [`MAX_LIST`].
    EndlessList,
}

/// The list of all refs with which a server begins is no longer, in bytes: half a million of them.
pub(super) const MAX_LIST: usize = 32 << 20;

thread_local! {
    static CALL: RefCell<Option<Call>> = const { RefCell::new(None) };
}

/// Has libgit2 `talk` over the line of `call`. The second value says what went wrong on the line,
/// if anything did.
pub(super) fn during<T>(call: Call, talk: impl FnOnce() -> T) -> (T, Option<Trouble>) {
    CALL.set(Some(call));
    let answer = talk();
    (answer, CALL.take().and_then(|call| call.trouble))
}

/// Tells libgit2 about our transports, once in the process.
pub(super) fn register_all() -> Result<(), String> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    let register_all = || {
        // SAFETY: nobody makes a transport before this has been done, and it is done once.
        unsafe {
            register("ssh", |remote| Transport::smart(remote, false, Ssh))?;
            register("http", |remote| Transport::smart(remote, true, Https))?;
            register("https", |remote| Transport::smart(remote, true, Https))
        }
    };
    let done = DONE.get_or_init(|| register_all().map_err(|e| e.message().to_owned()));
    done.clone()
}

fn with_call<T>(use_it: impl FnOnce(&mut Call) -> Result<T, Trouble>) -> Result<T, git2::Error> {
    CALL.with_borrow_mut(|call| {
        let call = call
            .as_mut()
            .ok_or_else(|| git2::Error::from_str("nobody said whom to call"))?;
        use_it(call).map_err(|trouble| {
            call.trouble = Some(trouble);
            git2::Error::from_str("the line is down")
        })
    })
}

/// Keeps the reason for an end of the line, and gives libgit2 an error.
pub(super) fn down(trouble: Trouble) -> io::Error {
    CALL.with_borrow_mut(|call| {
        if let Some(call) = call {
            call.trouble = Some(trouble);
        }
    });
    io::Error::other("the line is down")
}

/// Counts what comes of the list of refs, which libgit2 would take in without an end.
pub(super) fn count_list(bytes: usize) -> io::Result<usize> {
    let within = CALL.with_borrow_mut(|call| {
        call.as_mut().is_none_or(|call| {
            call.listed = call.listed.saturating_add(bytes);
            call.listed <= MAX_LIST
        })
    });
    match within {
        true => Ok(bytes),
        false => Err(down(Trouble::EndlessList)),
    }
}

/// Talks over http with the client of the current call.
pub(super) fn over_http<T>(
    talk: impl FnOnce(&Http, &mut String, &Patience) -> Result<T, Trouble>,
) -> Result<T, git2::Error> {
    with_call(|call| match &mut call.way {
        Way::Http { http, base } => talk(http, base, &call.patience),
        Way::Ssh(_) | Way::Local => Err(Trouble::NoGit),
    })
}

struct Ssh;

impl SmartSubtransport for Ssh {
    fn action(
        &self,
        _: &str,
        service: Service,
    ) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        with_call(|call| match &call.way {
            // One conversation for all of a fetch: libgit2 asks for it once.
            Way::Ssh(command) if service == Service::UploadPackLs => {
                let talk = Exec.talk(command, call.patience.clone());
                let stream = SshStream {
                    talk: talk.map_err(Trouble::Start)?,
                    lists: true,
                };
                Ok(Box::new(stream) as Box<dyn SmartSubtransportStream>)
            }
            _ => Err(Trouble::NoGit),
        })
    }

    fn close(&self) -> Result<(), git2::Error> {
        Ok(())
    }
}

struct SshStream {
    talk: Talk,
    /// The server is still listing its refs: we asked for nothing yet.
    lists: bool,
}

impl SshStream {
    /// What an error of reading or writing comes from.
    fn broken(&mut self, error: &io::Error) -> io::Error {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        if let Some(why) = inner {
            return down(Trouble::GivenUp(GivenUp::clone(why)));
        }
        let (ended, said) = self.talk.end();
        down(Trouble::Ssh(ended, said))
    }
}

impl Read for SshStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.talk.read(buffer) {
            Ok(0) => match self.talk.end() {
                (Ended::Exited(0), _) => Ok(0),
                (ended, said) => Err(down(Trouble::Ssh(ended, said))),
            },
            Err(error) => Err(self.broken(&error)),
            Ok(bytes) if self.lists => count_list(bytes),
            answer => answer,
        }
    }
}

impl Write for SshStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lists = false;
        self.talk.write(bytes).map_err(|error| self.broken(&error))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Https;

impl SmartSubtransport for Https {
    fn action(
        &self,
        _: &str,
        service: Service,
    ) -> Result<Box<dyn SmartSubtransportStream>, git2::Error> {
        match service {
            Service::UploadPackLs => over_http(https::refs).map(|answer| Box::new(answer) as _),
            Service::UploadPack => Ok(Box::new(Post::default())),
            Service::ReceivePackLs | Service::ReceivePack => {
                Err(git2::Error::from_str("trueup only reads"))
            }
        }
    }

    fn close(&self) -> Result<(), git2::Error> {
        Ok(())
    }
}
