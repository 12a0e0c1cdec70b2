//! One conversation with a git server: who it is, who we are, how long it may take, and what an
//! error means.

mod https;
mod line;
mod ssh;

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use git2::{
    AutotagOption, Direction, ErrorClass, ErrorCode, FetchOptions, FetchPrune, Progress,
    RemoteCallbacks, RemoteUpdateFlags, Repository,
};

use self::line::{Call, Trouble, Way};
use self::ssh::{Meant, Ssh};
use super::repo::Server;
use super::{Deployment, stopped};
use crate::ports::http::{Http, HttpError};
use crate::ports::patience::{GivenUp, Patience};
use crate::resource::Failure;

/// How long an ssh server may take to answer at all.
const CONNECT: Duration = Duration::from_secs(20);

/// How long a server may be silent in the middle.
const SILENCE: Duration = Duration::from_secs(60);

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Makes libgit2 independent of the host's own git configuration, and tells it our transports.
///
/// Its settings belong to the process; trueup runs one deployment at a time.
pub(super) fn settle() -> Result<(), Failure> {
    use git2::{ConfigLevel as Level, opts};
    // SAFETY: plain settings, made while no other thread of trueup uses libgit2.
    let settled = unsafe {
        let levels = [Level::System, Level::Global, Level::XDG];
        levels
            .into_iter()
            .try_for_each(|level| opts::set_search_path(level, ""))
            // Mirrors and local repositories belong to whom they belong; no hook of theirs is run.
            .and_then(|()| opts::set_verify_owner_validation(false))
    };
    let settled = settled.map_err(|error| error.message().to_owned());
    settled
        .and_then(|()| line::register_all())
        .map_err(|why| Failure::new(format!("cannot set up libgit2: {why}")))
}

/// What is needed to talk to the server of one app.
pub(super) struct Fetch<'a> {
    d: &'a Deployment<'a>,
    ssh: Option<Ssh>,
    begun: Instant,
    told: Cell<Option<Instant>>,
    /// Why it ended, if libgit2 cannot know.
    verdict: RefCell<Option<Failure>>,
}

impl<'a> Fetch<'a> {
    pub(super) fn new(d: &'a Deployment<'a>) -> Result<Fetch<'a>, Failure> {
        let begun = d.host.clock.tick();
        let connect = CONNECT.min(d.spec.fetch_timeout());
        let ssh = d.spec.repo.ssh().map(|_| Ssh::new(d, connect));
        Ok(Fetch {
            d,
            ssh: ssh.transpose()?,
            begun,
            told: Cell::new(None),
            verdict: RefCell::new(None),
        })
    }

    /// Fetches these refs into the mirror, and removes from it what the server no longer has: first,
    /// because a branch `a/b` cannot come while a branch `a` is there.
    pub(super) fn run(&self, mirror: &Repository, refs: &[&str]) -> Result<(), git2::Error> {
        self.verdict.take();
        let call = Call {
            way: self.way(),
            patience: self.patience(),
            trouble: None,
        };
        let (fetched, trouble) = line::during(call, || {
            let mut options = FetchOptions::new();
            options
                .remote_callbacks(self.callbacks())
                .prune(FetchPrune::Off)
                .download_tags(AutotagOption::None);
            let mut remote = mirror.remote_anonymous(self.d.spec.repo.url())?;
            let mut connection =
                remote.connect_auth(Direction::Fetch, Some(self.callbacks()), None)?;
            let remote = connection.remote();
            remote.download(refs, Some(&mut options))?;
            remote.prune(None)?;
            remote.update_tips(None, RemoteUpdateFlags::empty(), AutotagOption::None, None)
        });
        // What a callback said comes first: it may have brought the line down.
        let ended = fetched.is_ok() || self.verdict.borrow().is_some();
        if let Some(trouble) = trouble.filter(|_| !ended) {
            self.end(self.troubled(trouble));
        }
        fetched
    }

    fn way(&self) -> Way {
        let repo = &self.d.spec.repo;
        match (&self.ssh, repo.ssh()) {
            (Some(ssh), Some(server)) => Way::Ssh(ssh.fetch(server)),
            _ if repo.url().starts_with("http") => Way::Http {
                http: Http::proxied(),
                base: repo.url().to_owned(),
            },
            _ => Way::Local,
        }
    }

    /// What is left of it.
    fn patience(&self) -> Patience {
        let gone = self.d.host.clock.tick().duration_since(self.begun);
        let left = self.d.spec.fetch_timeout().saturating_sub(gone);
        Patience::new(left, SILENCE, self.d.host.stop.clone())
    }

    fn callbacks(&self) -> RemoteCallbacks<'_> {
        let mut callbacks = RemoteCallbacks::new();
        callbacks
            .transfer_progress(|progress| self.progress(&progress))
            .sideband_progress(|_| self.in_time());
        callbacks
    }

    /// Why the conversation ended, if it was not libgit2 that ended it.
    pub(super) fn ended(&self) -> Option<Failure> {
        self.verdict.take()
    }

    /// What it means for people that something went wrong on the line.
    fn troubled(&self, trouble: Trouble) -> Failure {
        let repo = &self.d.spec.repo;
        let failure = |why: &str| Failure::new(format!("cannot fetch {repo}: {why}"));
        match trouble {
            Trouble::GivenUp(GivenUp::Stopped) => stopped(),
            Trouble::GivenUp(GivenUp::Late(_)) => self.too_slow(),
            Trouble::GivenUp(GivenUp::Silent(limit)) => failure(&format!(
                "the server was silent for {} s",
                limit.as_secs()
            ))
            .hint(SILENT),
            Trouble::Start(error) => failure(&error.to_string()).hint(
                "git over ssh needs OpenSSH's client on this host: install the package `openssh-client`",
            ),
            Trouble::Ssh(ended, said) => self.said_by_ssh(&said, &ended.to_string()),
            Trouble::Http(error) => {
                let failed = failure(&error.to_string());
                match error {
                    HttpError::Resolve(_) => failed.hint(RESOLVE),
                    HttpError::Connect { .. } => failed.hint(UNREACHABLE),
                    HttpError::Certificate { .. } => failed
                        .hint("its TLS certificate is not one that this host's authorities vouch for"),
                    HttpError::Broken { .. } => failed.hint(HUNG_UP),
                    _ => failed,
                }
            }
            Trouble::Status(401 | 407) => Failure::new(format!(
                "{repo} asks for a user name and password"
            ))
            .hint("is the address right? Private repositories are fetched by ssh with a `deploy_key`"),
            Trouble::Status(status @ (403 | 404 | 410)) => {
                failure(&format!("the server answered {status}")).hint(NO_REPOSITORY)
            }
            Trouble::Status(status) => failure(&format!("the server answered {status}"))
                .hint("look at the server's log, or try again later"),
            Trouble::NoGit => {
                failure("what answers there is no git server").hint(NO_REPOSITORY)
            }
        }
    }

    fn said_by_ssh(&self, said: &str, ended: &str) -> Failure {
        let repo = &self.d.spec.repo;
        let (Some(ssh), Some(server)) = (&self.ssh, repo.ssh()) else {
            return Failure::new(format!("cannot fetch {repo}: {said}"));
        };
        let failure = |why: &str| Failure::new(format!("cannot fetch {repo}: {why}"));
        let host = &server.host;
        match ssh.meant(said) {
            Meant::UnknownHost => Failure::new(format!(
                "the host key of {host} is not known, so it may be anybody"
            ))
            .hint(format!(
                "if this is the key that its owner publishes, add this line to {}:\n{}",
                ssh.known_files(),
                self.line_for(ssh, server)
            )),
            Meant::ChangedHost(file, number) => Failure::new(format!(
                "the host key of {host} is not the one in {}:{number}: it was changed, or somebody is in between",
                file.display()
            ))
            .hint(format!(
                "ask its owner; if the key was changed on purpose, put this line in its place:\n{}",
                self.line_for(ssh, server)
            )),
            Meant::RevokedHost => Failure::new(format!(
                "the host key of {host} is revoked in {}",
                ssh.known_files()
            ))
            .hint("ask its owner: whoever shows this key may have stolen it"),
            Meant::UnusableKey(why) => {
                let key = self.d.spec.deploy_key.as_deref().unwrap_or("none".as_ref());
                Failure::new(format!("ssh cannot use the deploy key {}: {why}", key.display()))
                    .hint("does `ssh-keygen -y -f` read it?")
            }
            Meant::Denied => self.denied(server),
            Meant::Resolve => failure("its name cannot be resolved").hint(RESOLVE),
            Meant::Unreachable => failure(said.trim()).hint(UNREACHABLE),
            Meant::Silent => failure(said.trim()).hint(SILENT),
            Meant::Said(words) if words.is_empty() => {
                failure(&format!("ssh {ended} and said nothing")).hint(HUNG_UP)
            }
            Meant::Said(words) if is_missing(&words) => failure(&words).hint(NO_REPOSITORY),
            Meant::Said(words) => failure(&words).hint(HUNG_UP),
        }
    }

    fn line_for(&self, ssh: &Ssh, server: &Server) -> String {
        let line = ssh.line_for(server, self.patience());
        line.ok()
            .filter(|line| !line.is_empty())
            .unwrap_or_else(|| {
                format!(
                    "(one that `ssh-keyscan -p {} {}` prints)",
                    server.port, server.host
                )
            })
    }

    fn denied(&self, server: &Server) -> Failure {
        let failure = Failure::new(format!(
            "{}@{} refused us: permission denied (publickey), for {}",
            server.user, server.host, self.d.spec.repo
        ));
        match &self.d.spec.deploy_key {
            Some(key) => failure.hint(format!(
                "allow the public half of {} (`ssh-keygen -y -f {0}` prints it) to read the repository",
                key.display()
            )),
            None => failure.hint("name a private key in `deploy_key`; no agent is asked"),
        }
    }

    fn progress(&self, progress: &Progress<'_>) -> bool {
        let now = self.d.host.clock.tick();
        let due = |told: Instant| now.duration_since(told) >= TELL_EVERY;
        // Nothing at all is said about what takes less than a second.
        if due(self.told.get().unwrap_or(self.begun)) {
            self.told.set(Some(now));
            tracing::info!(target: "progress", "{}: fetching {}: {}", self.d.spec.app, self.d.spec.repo, words(progress));
        }
        self.in_time()
    }

    /// Whether to go on; if not, the reason is kept.
    fn in_time(&self) -> bool {
        let limit = self.d.spec.fetch_timeout();
        if self.d.host.stop.is_set() {
            self.verdict.replace(Some(stopped()));
            return false;
        }
        if self.d.host.clock.tick().duration_since(self.begun) < limit {
            return true;
        }
        self.end(self.too_slow());
        false
    }

    fn too_slow(&self) -> Failure {
        Failure::new(format!(
            "fetching {} did not finish within {} s",
            self.d.spec.repo,
            self.d.spec.fetch_timeout().as_secs()
        ))
        .hint("look at the network and the server, or raise `fetch_timeout`")
    }

    fn end(&self, failure: Failure) {
        self.verdict.replace(Some(failure));
    }

    /// What an error of [`Fetch::run`] means that came neither from a callback nor from the line.
    pub(super) fn explain(&self, error: &git2::Error) -> Failure {
        if self.d.host.clock.tick().duration_since(self.begun) >= self.d.spec.fetch_timeout() {
            return self.too_slow();
        }
        let repo = &self.d.spec.repo;
        let said = repo.hide_in(error.message());
        let said = said.trim();
        let failure = Failure::new(format!("cannot fetch {repo}: {said}"));
        if is_missing(said) || error.code() == ErrorCode::NotFound {
            return failure.hint(NO_REPOSITORY);
        }
        if error.code() == ErrorCode::Eof || error.class() == ErrorClass::Net {
            return failure.hint(HUNG_UP);
        }
        failure
    }
}

const RESOLVE: &str = "its name cannot be resolved: look at the address and at this host's DNS";
const UNREACHABLE: &str =
    "the server cannot be reached: look at the address, the network and firewalls";
const SILENT: &str = "the server does not answer in time: look at the network and the server";
const HUNG_UP: &str = "the server hung up: look at its log";
const NO_REPOSITORY: &str = "there is no such repository, or it is not one that we may read: look at `repo` and at what the deploy key is allowed to";

/// Whether this is how servers say that there is no such repository.
fn is_missing(said: &str) -> bool {
    let said = said.to_lowercase();
    [
        "not found",
        "could not be found",
        "does not exist",
        "does not appear to be a git",
        "not a git repository",
        "no such file",
        "access denied",
        // What libgit2 says to a path at which there is nothing.
        "unsupported url protocol",
    ]
    .iter()
    .any(|words| said.contains(words))
}

/// How far it is, for people: "45% 1.2 MB".
fn words(progress: &Progress<'_>) -> String {
    let (done, all) = (progress.received_objects(), progress.total_objects());
    let percent = (done * 100).checked_div(all).unwrap_or(0);
    let megabytes = progress.received_bytes() as f64 / 1e6;
    if all > 0 && done == all {
        let deltas = (progress.indexed_deltas() * 100)
            .checked_div(progress.total_deltas())
            .unwrap_or(100);
        return format!("{megabytes:.1} MB, unpacking {deltas}%");
    }
    format!("{percent}% {megabytes:.1} MB")
}
