//! Why a fetch failed and what to do about it, in words that are the same whoever talked to the
//! server.

use git2::{ErrorClass, ErrorCode};

use super::Fetch;
use super::line::{MAX_LIST, Trouble};
use super::ssh::{Meant, Ssh};
use crate::ports::exec::ExecError;
use crate::ports::http::HttpError;
use crate::ports::patience::GivenUp;
use crate::release::repo::Server;
use crate::release::tree::too_much_memory;

use crate::resource::Failure;

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

impl Fetch<'_> {
    /// What it means for people that something went wrong on the line.
    pub(super) fn troubled(&self, trouble: Trouble) -> Failure {
        let repo = &self.d.spec.repo;
        let failure = |why: &str| Failure::new(format!("cannot fetch {repo}: {why}"));
        match trouble {
            Trouble::GivenUp(GivenUp::Stopped) => Failure::stopped(),
            Trouble::GivenUp(GivenUp::Late(_)) => self.too_slow(),
            Trouble::GivenUp(GivenUp::Silent(limit)) => failure(&format!(
                "the server was silent for {} s",
                limit.as_secs()
            ))
            .hint(SILENT),
            Trouble::Start(ExecError::Stopped { .. }) => Failure::stopped(),
            Trouble::Start(error @ ExecError::NotBegun { .. }) => failure(&error.to_string()),
            Trouble::Start(ExecError::Start { source, .. }) if self.ssh.is_none() => {
                failure(&format!("cannot run `git`: {source}")).hint(
                    "the repository is not root's alone, so `git` reads it as its owner: install the package `git`, or give the repository to root (`chown -R root`, `chmod -R go-w`)",
                )
            }
            Trouble::Start(error) => failure(&why_not(&error)).hint(
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
            Trouble::EndlessList => failure(&format!(
                "its list of branches, tags and other refs is longer than {} MiB",
                MAX_LIST >> 20
            ))
            .hint("is that the server you mean? If so, delete refs there that nobody needs"),
            Trouble::NoGit => {
                failure("what answers there is no git server").hint(NO_REPOSITORY)
            }
        }
    }

    fn said_by_ssh(&self, said: &str, ended: &str) -> Failure {
        let repo = &self.d.spec.repo;
        let (Some(ssh), Some(server)) = (&self.ssh, repo.ssh()) else {
            let said = said.trim();
            let failure = match said.is_empty() {
                true => Failure::new(format!("cannot fetch {repo}: git {ended}")),
                false => Failure::new(format!("cannot fetch {repo}: {said}")),
            };
            return match is_missing(said) {
                true => failure.hint(NO_REPOSITORY),
                false => failure.hint(
                    "git reads it as its owner, because others than root can write to it: `git fsck` there says more",
                ),
            };
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

    pub(super) fn too_slow(&self) -> Failure {
        Failure::new(format!(
            "fetching {} did not finish within {} s",
            self.d.spec.repo,
            self.d.spec.fetch_timeout().as_secs()
        ))
        .hint("look at the network and the server, or raise `fetch_timeout`")
    }

    /// What an error of [`Fetch::run`] means that came neither from a callback nor from the line.
    pub(in crate::release) fn explain(&self, error: &git2::Error) -> Failure {
        if self.d.host.clock.tick().duration_since(self.begun) >= self.d.spec.fetch_timeout() {
            return self.too_slow();
        }
        if error.class() == ErrorClass::NoMemory {
            return too_much_memory();
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

/// Without the whole command, which says nothing to whom it is about.
fn why_not(error: &ExecError) -> String {
    match error {
        ExecError::Start { source, .. } => format!("cannot run `ssh`: {source}"),
        _ => error.to_string(),
    }
}
