//! Turns fetch errors into failures that say the cause and the remedy, in the same words for each transport.

use git2::{ErrorClass, ErrorCode};

use super::Fetcher;
use super::context::TransportError;
use super::ssh::{SshClient, SshFailure};
use crate::desired::SshServer;
use crate::ports::deadline::DeadlineError;
use crate::ports::exec::ExecError;
use crate::ports::http::HttpError;
use crate::release::source::git_memory::too_much_memory;

use crate::resource::Failure;

const RESOLVE_HINT: &str = "cannot resolve its name: check the address and this host's DNS";
const UNREACHABLE_HINT: &str =
    "cannot reach the server: check the address, the network and firewalls";
const TIMEOUT_HINT: &str = "the server does not answer in time: check the network and the server";
const HUNG_UP_HINT: &str = "the server closed the connection: check its log";
const NO_REPOSITORY_HINT: &str = "the repository does not exist, or access is denied: check `repo` and the permissions of the deploy key";

const UNKNOWN_HOST_KEY: &str = "is unknown, so the server cannot be authenticated";

/// Whether a failure has this message.
pub(crate) fn is_unknown_host_key(message: &str) -> bool {
    message.ends_with(UNKNOWN_HOST_KEY)
}

/// Whether a server's output means that the repository does not exist.
fn means_missing_repo(output: &str) -> bool {
    let output = output.to_lowercase();
    [
        "not found",
        "could not be found",
        "does not exist",
        "does not appear to be a git",
        "not a git repository",
        "no such file",
        "access denied",
        // libgit2's error for a path that does not exist.
        "unsupported url protocol",
    ]
    .iter()
    .any(|words| output.contains(words))
}

/// Whether libgit2 refuses the repository, or what its server says, for objects that are named by their sha-256.
pub(in crate::release::source) fn is_sha256(error: &git2::Error) -> bool {
    error.message().contains("object format 'sha256'")
}

impl Fetcher<'_> {
    /// The failure to report for a transport error.
    pub(super) fn transport_failure(&self, error: TransportError) -> Failure {
        let repo = &self.deployment.spec.repo;
        let failure = |why: &str| Failure::new(format!("cannot fetch {repo}: {why}"));
        match error {
            TransportError::TimedOut(DeadlineError::Stopped) => Failure::stopped(),
            TransportError::TimedOut(DeadlineError::TimedOut(_)) => self.timed_out(),
            TransportError::TimedOut(DeadlineError::IdleTimedOut(limit)) => failure(&format!(
                "the server was silent for {} s",
                limit.as_secs()
            ))
            .hint(TIMEOUT_HINT),
            TransportError::Start(ExecError::Stopped { .. }) => Failure::stopped(),
            TransportError::Start(error @ ExecError::StartTimedOut { .. }) => failure(&error.to_string()),
            TransportError::Start(ExecError::Start { error, .. }) if self.ssh.is_none() => {
                failure(&format!("cannot run `git`: {error}")).hint(
                    "`git` reads this repository, because it is not root's alone or one of its refs is malformed: install the package `git`, or give the repository to root (`chown -R root`, `chmod -R go-w`) and delete that ref",
                )
            }
            TransportError::Start(error) => failure(&describe_exec_error(&error)).hint(
                "git over ssh needs OpenSSH's client on this host: install the package `openssh-client`",
            ),
            TransportError::Exited { reason, stderr } => self.process_failure(&stderr, &reason.to_string()),
            TransportError::Http(error) => {
                let failed = failure(&error.to_string());
                match error {
                    HttpError::Resolve(_) => failed.hint(RESOLVE_HINT),
                    HttpError::Connect { .. } => failed.hint(UNREACHABLE_HINT),
                    HttpError::Certificate { .. } => failed
                        .hint("no certificate authority of this host has signed its TLS certificate"),
                    HttpError::Interrupted { .. } => failed.hint(HUNG_UP_HINT),
                    _ => failed,
                }
            }
            TransportError::Status(401 | 407) => Failure::new(format!(
                "{repo} asks for a user name and password"
            ))
            .hint("check the address; private repositories need ssh and a `deploy_key`"),
            TransportError::Status(403 | 404 | 410) | TransportError::NotGit => {
                failure(&error.to_string()).hint(NO_REPOSITORY_HINT)
            }
            TransportError::Status(_) => {
                failure(&error.to_string()).hint("check the server's log, or try again later")
            }
            TransportError::RefListTooLong => failure(&error.to_string())
                .hint("is this the intended server? If so, delete unneeded refs there"),
        }
    }

    fn process_failure(&self, stderr: &str, ended: &str) -> Failure {
        let repo = &self.deployment.spec.repo;
        let (Some(ssh), Some(server)) = (&self.ssh, repo.ssh()) else {
            let stderr = stderr.trim();
            let failure = match stderr.is_empty() {
                true => Failure::new(format!("cannot fetch {repo}: git {ended}")),
                false => Failure::new(format!("cannot fetch {repo}: {stderr}")),
            };
            return match means_missing_repo(stderr) {
                true => failure.hint(NO_REPOSITORY_HINT),
                false => failure.hint(
                    "`git` reads it, because users other than root can write to it or one of its refs is malformed: run `git fsck` there",
                ),
            };
        };
        let failure = |why: &str| Failure::new(format!("cannot fetch {repo}: {why}"));
        let host = &server.host;
        match ssh.classify_stderr(stderr) {
            SshFailure::UnknownHostKey => Failure::new(format!(
                "the host key of {host} {UNKNOWN_HOST_KEY}"
            ))
            .hint(format!(
                "if this is the key that its owner publishes, add this line to the list `known_hosts` in the attributes of node.yml (with a role that includes `base`), or to {}:\n{}",
                ssh.known_hosts_files(),
                self.known_hosts_line(ssh, server)
            )),
            SshFailure::ChangedHostKey(file, number) => Failure::new(format!(
                "the host key of {host} differs from {}:{number}: the key was changed, or this is a man-in-the-middle attack",
                file.display()
            ))
            .hint(format!(
                "ask its owner; if the change is intended, replace the line with:\n{}",
                self.known_hosts_line(ssh, server)
            )),
            SshFailure::RevokedHostKey => Failure::new(format!(
                "the host key of {host} is revoked in {}",
                ssh.known_hosts_files()
            ))
            .hint("ask its owner: a server with this key may have stolen it"),
            SshFailure::UnusableDeployKey(why) => {
                let key = self.deployment.spec.deploy_key.as_deref().unwrap_or("none".as_ref());
                Failure::new(format!("ssh cannot use the deploy key {}: {why}", key.display()))
                    .hint("check it with `ssh-keygen -y -f`")
            }
            SshFailure::PermissionDenied => self.permission_denied(server),
            SshFailure::UnresolvedHost => failure("cannot resolve its name").hint(RESOLVE_HINT),
            SshFailure::Unreachable => failure(stderr.trim()).hint(UNREACHABLE_HINT),
            SshFailure::TimedOut => failure(stderr.trim()).hint(TIMEOUT_HINT),
            SshFailure::Other(words) if words.is_empty() => {
                failure(&format!("ssh {ended} without a message")).hint(HUNG_UP_HINT)
            }
            SshFailure::Other(words) if means_missing_repo(&words) => failure(&words).hint(NO_REPOSITORY_HINT),
            SshFailure::Other(words) => failure(&words).hint(HUNG_UP_HINT),
        }
    }

    fn known_hosts_line(&self, ssh: &SshClient, server: &SshServer) -> String {
        let line = ssh.known_hosts_line(server, self.deadline());
        line.ok()
            .filter(|line| !line.is_empty())
            .unwrap_or_else(|| {
                format!(
                    "(one that `ssh-keyscan -p {} {}` prints)",
                    server.port, server.host
                )
            })
    }

    fn permission_denied(&self, server: &SshServer) -> Failure {
        let failure = Failure::new(format!(
            "{}@{} denied access: permission denied (publickey), for {}",
            server.user, server.host, self.deployment.spec.repo
        ));
        match &self.deployment.spec.deploy_key {
            Some(key) => failure.hint(format!(
                "allow the public half of {} (`ssh-keygen -y -f {0}` prints it) to read the repository",
                key.display()
            )),
            None => failure.hint("set a private key in `deploy_key`; trueup uses no agent"),
        }
    }

    pub(super) fn timed_out(&self) -> Failure {
        Failure::new(format!(
            "fetching {} did not finish within {} s",
            self.deployment.spec.repo,
            self.deployment.spec.fetch_timeout().as_secs()
        ))
        .hint("check the network and the server, or raise `fetch_timeout`")
    }

    /// The failure to report for an error of [`Fetcher::run`] that came neither from a callback nor from the
    /// transport.
    pub(crate) fn git_failure(&self, error: &git2::Error) -> Failure {
        if self
            .deployment
            .host
            .clock
            .monotonic_now()
            .duration_since(self.started)
            >= self.deployment.spec.fetch_timeout()
        {
            return self.timed_out();
        }
        if error.class() == ErrorClass::NoMemory {
            return too_much_memory();
        }
        let repo = &self.deployment.spec.repo;
        let message = repo.redact_in(error.message());
        let message = message.trim();
        if is_sha256(error) {
            return Failure::new(format!(
                "not supported: {repo} has sha-256 objects (`git init --object-format=sha256`)"
            ))
            .hint("deploy from a repository with git's default object format, sha-1: create one, and push the files there");
        }
        let failure = Failure::new(format!("cannot fetch {repo}: {message}"));
        if means_missing_repo(message) || error.code() == ErrorCode::NotFound {
            return failure.hint(NO_REPOSITORY_HINT);
        }
        if error.code() == ErrorCode::Eof || error.class() == ErrorClass::Net {
            return failure.hint(HUNG_UP_HINT);
        }
        failure
    }
}

/// Omits the whole command, which does not help an operator.
fn describe_exec_error(error: &ExecError) -> String {
    match error {
        ExecError::Start { error, .. } => format!("cannot run `ssh`: {error}"),
        _ => error.to_string(),
    }
}
