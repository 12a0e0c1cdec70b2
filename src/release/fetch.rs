//! One conversation with a git server: who it is, who we are, how long it may take, and what an
//! error means.

use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use git2::{
    AutotagOption, CertificateCheckStatus, Cred, CredentialType, Direction, ErrorClass, ErrorCode,
    FetchOptions, FetchPrune, Progress, ProxyOptions, RemoteCallbacks, RemoteUpdateFlags,
    Repository,
};

use super::known_hosts::{KnownHosts, Verdict, line_for};
use super::repo::Server;
use super::{Deployment, Layout, deploy_key, stopped};
use crate::ports::root::Attrs;
use crate::resource::Failure;

/// How long a server may take to answer at all, in milliseconds.
const CONNECT_TIMEOUT: i32 = 20_000;

/// How long a server may be silent in the middle, in milliseconds.
const SILENCE_TIMEOUT: i32 = 60_000;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// No `known_hosts` is larger, in bytes.
const MAX_KNOWN_HOSTS: usize = 4 << 20;

/// Makes libgit2 independent of the host's own git configuration, and bounds its waits.
///
/// Its settings belong to the process; trueup runs one deployment at a time.
pub(super) fn settle(d: &Deployment<'_>) -> Result<(), Failure> {
    use git2::{ConfigLevel as Level, opts};
    let bounded = |millis: i32| {
        let all = i32::try_from(d.spec.fetch_timeout().as_millis()).unwrap_or(i32::MAX);
        millis.min(all)
    };
    // SAFETY: plain settings, made while no other thread of trueup uses libgit2.
    let settled = unsafe {
        let levels = [Level::System, Level::Global, Level::XDG];
        levels
            .into_iter()
            .try_for_each(|level| opts::set_search_path(level, ""))
            // Mirrors and local repositories belong to whom they belong; no hook of theirs is run.
            .and_then(|()| opts::set_verify_owner_validation(false))
            .and_then(|()| {
                opts::set_server_connect_timeout_in_milliseconds(bounded(CONNECT_TIMEOUT))
            })
            .and_then(|()| opts::set_server_timeout_in_milliseconds(bounded(SILENCE_TIMEOUT)))
    };
    settled.map_err(|error| Failure::new(format!("cannot set up libgit2: {}", error.message())))
}

/// What is needed to talk to the server of one app.
pub(super) struct Fetch<'a> {
    d: &'a Deployment<'a>,
    key: Option<String>,
    known: KnownHosts,
    known_files: Vec<PathBuf>,
    begun: Instant,
    told: Cell<Option<Instant>>,
    asked: Cell<bool>,
    /// Why a callback ended it.
    verdict: RefCell<Option<Failure>>,
}

impl<'a> Fetch<'a> {
    pub(super) fn new(d: &'a Deployment<'a>) -> Result<Fetch<'a>, Failure> {
        let mut fetch = Fetch {
            d,
            key: None,
            known: KnownHosts::default(),
            known_files: Vec::new(),
            begun: d.host.clock.tick(),
            told: Cell::new(None),
            asked: Cell::new(false),
            verdict: RefCell::new(None),
        };
        if let Some(server) = d.spec.repo.ssh() {
            let key = d.spec.deploy_key.as_deref();
            fetch.key = key.map(|path| deploy_key::read(path, d.host)).transpose()?;
            fetch.read_known_hosts()?;
            fetch.prefer_known_keys(server)?;
        }
        Ok(fetch)
    }

    fn read_known_hosts(&mut self) -> Result<(), Failure> {
        let host = self.d.host;
        self.known_files = match &self.d.spec.known_hosts {
            Some(path) => vec![path.clone()],
            None => {
                let user = self.d.spec.user.as_deref().unwrap_or("root");
                let user = host.accounts.user(&host.root, user)?;
                let home = user.map_or_else(|| PathBuf::from("/root"), |user| user.home);
                vec![
                    home.join(".ssh/known_hosts"),
                    "/etc/ssh/ssh_known_hosts".into(),
                ]
            }
        };
        for file in &self.known_files {
            let text = host.root.read(file, MAX_KNOWN_HOSTS)?;
            let text = text.unwrap_or_default();
            self.known.add(file, &String::from_utf8_lossy(&text));
        }
        Ok(())
    }

    /// libgit2 decides from `~/.ssh/known_hosts` which sort of key to ask the server for. It gets a
    /// home of its own, in which only what is known about this server stands.
    fn prefer_known_keys(&self, server: &Server) -> Result<(), Failure> {
        let root = &self.d.host.root;
        let home = Layout::mirrors();
        let folder = home.join(".ssh");
        root.make_dirs(&home, &Attrs::mode(0o700))?;
        root.make_dirs(&folder, &Attrs::mode(0o700))?;
        let text = self.known.plain(server);
        root.replace(
            &folder.join("known_hosts"),
            text.as_bytes(),
            &Attrs::mode(0o600),
        )?;
        set_home(&root.outside(&home))
    }

    /// Fetches these refs into the mirror, and removes from it what the server no longer has: first,
    /// because a branch `a/b` cannot come while a branch `a` is there.
    pub(super) fn run(&self, mirror: &Repository, refs: &[&str]) -> Result<(), git2::Error> {
        let mut proxy = ProxyOptions::new();
        proxy.auto();
        let mut options = FetchOptions::new();
        options
            .remote_callbacks(self.callbacks())
            .prune(FetchPrune::Off)
            .download_tags(AutotagOption::None);
        self.asked.set(false);
        let mut remote = mirror.remote_anonymous(self.d.spec.repo.url())?;
        let mut connection =
            remote.connect_auth(Direction::Fetch, Some(self.callbacks()), Some(proxy))?;
        let remote = connection.remote();
        remote.download(refs, Some(&mut options))?;
        remote.prune(None)?;
        remote.update_tips(None, RemoteUpdateFlags::empty(), AutotagOption::None, None)
    }

    fn callbacks(&self) -> RemoteCallbacks<'_> {
        let mut callbacks = RemoteCallbacks::new();
        callbacks
            .credentials(|_, user, allowed| self.credentials(user, allowed))
            .certificate_check(|certificate, _| self.check(certificate))
            .transfer_progress(|progress| self.progress(&progress))
            .sideband_progress(|_| self.in_time());
        callbacks
    }

    /// Why a callback ended the conversation, if one did: what libgit2 makes of that is its own.
    pub(super) fn ended(&self) -> Option<Failure> {
        self.verdict.take()
    }

    fn credentials(
        &self,
        user: Option<&str>,
        allowed: CredentialType,
    ) -> Result<Cred, git2::Error> {
        let Some(server) = self.d.spec.repo.ssh() else {
            return Err(self.end(
                Failure::new(format!(
                    "{} asks for a user name and password",
                    self.d.spec.repo
                ))
                .hint("is the address right? Private repositories are fetched by ssh with a `deploy_key`"),
            ));
        };
        if allowed.contains(CredentialType::USERNAME) {
            return Cred::username(&server.user);
        }
        // libgit2 asks again for as long as the server refuses.
        if self.asked.replace(true) || self.key.is_none() {
            return Err(self.end(self.denied(server)));
        }
        let key = self.key.as_deref().unwrap_or_default();
        Cred::ssh_key_from_memory(user.unwrap_or(&server.user), None, key, None)
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

    fn check(
        &self,
        certificate: &git2::cert::Cert<'_>,
    ) -> Result<CertificateCheckStatus, git2::Error> {
        let Some(server) = self.d.spec.repo.ssh() else {
            // https: what the system's authorities say stands.
            return Ok(CertificateCheckStatus::CertificatePassthrough);
        };
        let key = certificate.as_hostkey().and_then(|key| key.hostkey());
        let key = key.ok_or_else(|| git2::Error::from_str("the server showed no host key"))?;
        match self.known.judge(server, key) {
            Verdict::Known => Ok(CertificateCheckStatus::CertificateOk),
            verdict => Err(self.end(self.refused(server, key, &verdict))),
        }
    }

    fn refused(&self, server: &Server, key: &[u8], verdict: &Verdict) -> Failure {
        let line = line_for(server, key);
        let host = &server.host;
        let files = || {
            let files = self.known_files.iter().map(|f| f.display().to_string());
            files.collect::<Vec<_>>().join(" or ")
        };
        match verdict {
            Verdict::Known | Verdict::Unknown => Failure::new(format!(
                "the host key of {host} is not known, so it may be anybody"
            ))
            .hint(format!(
                "if this is the key that its owner publishes, add this line to {}:\n{line}",
                files()
            )),
            Verdict::Changed(file, number) => Failure::new(format!(
                "the host key of {host} is not the one in {}:{number}: it was changed, or somebody is in between",
                file.display()
            ))
            .hint(format!(
                "ask its owner; if the key was changed on purpose, put this line in its place:\n{line}"
            )),
            Verdict::Revoked(file, number) => Failure::new(format!(
                "the host key of {host} is revoked in {}:{number}",
                file.display()
            )),
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

    /// Ends the conversation: libgit2 gets an error, and `explain` this failure.
    fn end(&self, failure: Failure) -> git2::Error {
        let message = failure.message.clone();
        self.verdict.replace(Some(failure));
        git2::Error::new(ErrorCode::User, ErrorClass::Callback, message)
    }

    /// What an error of [`Fetch::run`] means that no callback brought about.
    pub(super) fn explain(&self, error: &git2::Error) -> Failure {
        if self.d.host.clock.tick().duration_since(self.begun) >= self.d.spec.fetch_timeout() {
            return self.too_slow();
        }
        let repo = &self.d.spec.repo;
        let said = repo.hide_in(error.message());
        let said = said.trim();
        let lower = said.to_lowercase();
        let failure = Failure::new(format!("cannot fetch {repo}: {said}"));
        let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        if error.code() == ErrorCode::Timeout || says(&["timed out", "timeout"]) {
            return failure
                .hint("the server does not answer in time: look at the network and the server");
        }
        if says(&["resolve address"]) {
            return failure
                .hint("its name cannot be resolved: look at the address and at this host's DNS");
        }
        if says(&["failed to connect", "connection refused"]) {
            return failure.hint(
                "the server cannot be reached: look at the address, the network and firewalls",
            );
        }
        if error.code() == ErrorCode::Auth {
            if let Some(server) = repo.ssh() {
                return self.denied(server);
            }
            return failure;
        }
        if error.code() == ErrorCode::Certificate {
            return failure
                .hint("its TLS certificate is not one that this host's authorities vouch for");
        }
        if says(&[
            "not found",
            "404",
            "does not exist",
            "does not appear to be a git",
            "no such file",
            // What it says to a path at which there is nothing.
            "unsupported url protocol",
        ]) || error.code() == ErrorCode::NotFound
        {
            return failure.hint("there is no such repository, or it is not one that we may read: look at `repo` and at what the deploy key is allowed to");
        }
        if error.code() == ErrorCode::Eof || says(&["unexpected eof"]) {
            return failure.hint("the server hung up or was silent for too long: look at its log");
        }
        failure
    }
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

/// Where libgit2 looks for `.ssh/known_hosts`.
fn set_home(home: &Path) -> Result<(), Failure> {
    let bad = || Failure::new(format!("cannot use {} as a home", home.display()));
    let path = CString::new(home.as_os_str().as_bytes()).map_err(|_| bad())?;
    // SAFETY: libgit2 is initialised (settle has used it), and copies the string.
    let answer = unsafe {
        libgit2_sys::git_libgit2_opts(libgit2_sys::GIT_OPT_SET_HOMEDIR as _, path.as_ptr())
    };
    if answer < 0 { Err(bad()) } else { Ok(()) }
}
