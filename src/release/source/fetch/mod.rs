//! Git fetches through libgit2: authentication of both sides, time and size limits, and explained errors.

mod context;
mod explain;
mod https;
mod lfs;
mod refs;
mod ssh;
mod transport;
mod upload_pack;

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use git2::{
    AutotagOption, Direction, FetchOptions, FetchPrune, ObjectType, Oid, Progress, RemoteCallbacks,
    Repository,
};

use self::context::{RemoteTransport, TransportContext, with_transport};
pub(in crate::release::source) use self::explain::is_sha256;
pub(crate) use self::explain::is_unknown_host_key;
pub(crate) use self::lfs::LfsObject;
use self::ssh::SshClient;
use super::mirror_keys::BY_SHA_PREFIX;
use crate::digest::digest;
use crate::ports::deadline::Deadline;
use crate::ports::git_memory;
use crate::ports::http::HttpClient;
use crate::ports::watchdog;
use crate::release::deployment::Deployment;
use crate::release::progress::FetchProgress;
use crate::resource::Failure;

/// Time limit for the first answer of an ssh server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest silence of a server during a transfer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Largest folder of a commit, in bytes, that libgit2 keeps unpacked in its cache. trueup reads folders more
/// than once, and libgit2's own limit (4096) is a hundred files. All of them together stay below libgit2's
/// 256 MB.
const MAX_CACHED_TREE: usize = 256 << 10;

/// Largest accepted pack, in bytes.
const MAX_PACK: u64 = 16 << 30;

/// Bytes of a pack received between two checks of the free disk space.
const CHECK_SPACE_EVERY: usize = 16 << 20;

/// Disk space that a fetch leaves free, in bytes.
const MIN_FREE_SPACE: u64 = 64 << 20;

/// Interval between two progress messages.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Makes libgit2 independent of the host's git configuration, and registers trueup's transports.
///
/// The settings are process-wide; trueup runs one deployment at a time.
pub(crate) fn configure_libgit2() -> Result<(), Failure> {
    configure_libgit2_for_reading()?;
    transport::register_transports().map_err(setup_error)
}

/// The part of [`configure_libgit2`] that reading a mirror needs.
pub(crate) fn configure_libgit2_for_reading() -> Result<(), Failure> {
    use git2::{ConfigLevel as Level, opts};
    git_memory::install_limit().map_err(setup_error)?;
    // SAFETY: plain settings, made while no other thread of trueup uses libgit2.
    let settled = unsafe {
        let levels = [Level::System, Level::Global, Level::XDG];
        levels
            .into_iter()
            .try_for_each(|level| opts::set_search_path(level, ""))
            // Mirrors and local repositories may belong to any user; none of their hooks is run.
            .and_then(|()| opts::set_verify_owner_validation(false))
            .and_then(|()| opts::set_cache_object_limit(ObjectType::Tree, MAX_CACHED_TREE))
    };
    // Data from the network is checked on arrival, and the checksums of packs reveal a broken disk. Hashing
    // every object again at each read, which git does not do either, would take a third of the time of a
    // checkout.
    opts::strict_hash_verification(false);
    settled.map_err(|error| setup_error(error.message()))
}

fn setup_error(why: impl std::fmt::Display) -> Failure {
    Failure::new(format!("cannot set up libgit2: {why}"))
}

/// What to fetch.
pub(crate) enum FetchTarget {
    /// All allowed refs.
    Refs,
    /// One commit, by its sha.
    Commit(Oid),
}

/// The client of one app's git server.
pub(crate) struct Fetcher<'a> {
    deployment: &'a Deployment<'a>,
    ssh: Option<SshClient>,
    started: Instant,
    last_progress: Cell<Option<Instant>>,
    progress: FetchProgress,
    /// Bytes received at the last check of the free disk space.
    space_checked_at: Cell<usize>,
    /// Digest of the allowed refs that the server advertised.
    advertisement_digest: RefCell<Option<String>>,
    /// A ref that is kept out of the mirror, and why.
    skipped_ref: RefCell<Option<String>>,
    /// Why the fetch ended, if libgit2 cannot know.
    failure: RefCell<Option<Failure>>,
}

impl<'a> Fetcher<'a> {
    pub(crate) fn new(deployment: &'a Deployment<'a>) -> Result<Fetcher<'a>, Failure> {
        Fetcher::with_known_hosts(deployment, &[])
    }

    /// Trusts these lines of `known_hosts` in addition to those of the host.
    pub(crate) fn with_known_hosts(
        deployment: &'a Deployment<'a>,
        known_hosts: &[String],
    ) -> Result<Fetcher<'a>, Failure> {
        let started = deployment.host.clock.monotonic_now();
        let connect = CONNECT_TIMEOUT.min(deployment.spec.fetch_timeout());
        let ssh = deployment
            .spec
            .repo
            .ssh()
            .map(|_| SshClient::new(deployment, connect, known_hosts));
        Ok(Fetcher {
            deployment,
            ssh: ssh.transpose()?,
            started,
            last_progress: Cell::new(None),
            progress: FetchProgress::default(),
            space_checked_at: Cell::new(0),
            advertisement_digest: RefCell::default(),
            skipped_ref: RefCell::default(),
            failure: RefCell::new(None),
        })
    }

    /// Fetches into the mirror, which is empty if it `is_new`, and prunes what the server no longer has.
    pub(crate) fn run(
        &self,
        mirror: &Repository,
        wanted: &FetchTarget,
        is_new: bool,
    ) -> Result<(), git2::Error> {
        self.failure.take();
        let _operation = self.register_operation("fetch");
        self.check_existing_refs(mirror)?;
        let transport = self.transport_into(mirror).map_err(|failure| {
            self.set_failure(failure);
            git2::Error::from_str("the repository is not read")
        })?;
        let url = self.transport_url(&transport).to_owned();
        let context = TransportContext::new(transport, self.deadline());
        let (fetched, transport_error) = with_transport(context, || {
            let mut options = FetchOptions::new();
            options
                .remote_callbacks(self.callbacks())
                .prune(FetchPrune::Off)
                .download_tags(AutotagOption::None);
            let mut remote = mirror.remote_anonymous(&url)?;
            let mut connection =
                remote.connect_auth(Direction::Fetch, Some(self.callbacks()), None)?;
            let refs = match wanted {
                FetchTarget::Refs => {
                    let refs = self.select_refs(connection.list()?)?;
                    self.advertisement_digest
                        .replace(Some(digest(format!("{refs:?}").as_bytes())));
                    self.prune_refs(mirror, &refs)?;
                    refs
                }
                FetchTarget::Commit(id) => [(format!("{}{id}", BY_SHA_PREFIX), *id)].into(),
            };
            let specs = match wanted {
                FetchTarget::Refs => self.deployment.spec.allow_refs.refspecs(),
                FetchTarget::Commit(id) => vec![format!("+{id}:{}{id}", BY_SHA_PREFIX)],
            };
            connection.remote().download(&specs, Some(&mut options))?;
            self.update_refs(mirror, &refs, is_new)
        });
        // A callback's failure comes first: it may have caused the transport error.
        let ended = fetched.is_ok() || self.failure.borrow().is_some();
        if let Some(transport_error) = transport_error.filter(|_| !ended) {
            self.set_failure(self.transport_failure(transport_error));
        }
        fetched
    }

    /// The transport for a fetch into this mirror.
    fn transport_into(&self, mirror: &Repository) -> Result<RemoteTransport, Failure> {
        Ok(match self.transport()? {
            RemoteTransport::Local if self.has_invalid_ref(mirror) => {
                let by_git = upload_pack::command_as_root(&self.deployment.spec.repo);
                by_git.map_or(RemoteTransport::Local, RemoteTransport::Process)
            }
            transport => transport,
        })
    }

    /// Digest of the allowed refs that the server advertised; `None` until it was asked.
    pub(crate) fn advertisement_digest(&self) -> Option<String> {
        self.advertisement_digest.borrow().clone()
    }

    /// A ref that was kept out of the mirror, and why.
    pub(crate) fn skipped_ref(&self) -> Option<String> {
        self.skipped_ref.borrow().clone()
    }

    /// Refuses a pack that would fill the disk, or that exceeds [`MAX_PACK`].
    fn check_space(&self, received: usize) -> bool {
        if received.saturating_sub(self.space_checked_at.get()) < CHECK_SPACE_EVERY {
            return true;
        }
        self.space_checked_at.set(received);
        let free = self
            .deployment
            .host
            .root
            .disk_space(&self.deployment.layout.mirror());
        let free = free.ok().flatten().map_or(u64::MAX, |space| space.free);
        let (repo, mirror) = (&self.deployment.spec.repo, self.deployment.layout.mirror());
        let received = received as u64;
        if received > MAX_PACK {
            self.set_failure(
                Failure::new(format!(
                    "cannot fetch {repo}: the server sent more than {} GiB at once",
                    MAX_PACK >> 30
                ))
                .hint("is this the intended server? Large files belong in Git LFS"),
            );
            return false;
        }
        // The pack's index is written after the pack.
        let left = MIN_FREE_SPACE.saturating_add(received / 8);
        if free < left {
            self.set_failure(
                Failure::new(format!(
                    "not enough space in {} to fetch {repo}: {} MiB received, {} MiB free",
                    mirror.display(),
                    received >> 20,
                    free >> 20
                ))
                .hint("free space on that filesystem; the received data was removed"),
            );
            return false;
        }
        true
    }

    /// Lists the server's refs, and counts them.
    pub(crate) fn count_refs(&self) -> Result<usize, Failure> {
        let _operation = self.register_operation("list the refs of");
        let transport = self.transport()?;
        let url = self.transport_url(&transport).to_owned();
        let context = TransportContext::new(transport, self.deadline());
        let (listed, transport_error) = with_transport(context, || {
            let mut remote = git2::Remote::create_detached(url.as_str())?;
            let connection = remote.connect_auth(Direction::Fetch, Some(self.callbacks()), None)?;
            Ok(connection.list()?.len())
        });
        listed.map_err(
            |error: git2::Error| match (self.take_failure(), transport_error) {
                (Some(failure), _) => failure,
                (None, Some(transport_error)) => self.transport_failure(transport_error),
                (None, None) => self.git_failure(&error),
            },
        )
    }

    /// The `known_hosts` line of the key that the server presents, if nothing on this host knows it.
    pub(crate) fn unknown_host_key(&self) -> Result<Option<String>, Failure> {
        let (Some(ssh), Some(server)) = (&self.ssh, self.deployment.spec.repo.ssh()) else {
            return Ok(None);
        };
        let shown = ssh
            .known_hosts_line(server, self.deadline())
            .map_err(|error| Failure::new(format!("cannot run `ssh`: {error}")))?;
        Ok((!shown.is_empty() && !ssh.knows_key(&shown)).then_some(shown))
    }

    fn transport(&self) -> Result<RemoteTransport, Failure> {
        let repo = &self.deployment.spec.repo;
        Ok(match (&self.ssh, repo.ssh()) {
            (Some(ssh), Some(server)) => RemoteTransport::Process(ssh.upload_pack_command(server)),
            _ if repo.url().starts_with("http") => RemoteTransport::Http {
                http: HttpClient::with_proxy(),
                base: repo.url().to_owned(),
            },
            _ => upload_pack::command_as_owner(self.deployment)?
                .map_or(RemoteTransport::Local, RemoteTransport::Process),
        })
    }

    /// The URL by which libgit2 chooses the transport.
    fn transport_url(&self, transport: &RemoteTransport) -> &str {
        match (transport, &self.ssh) {
            (RemoteTransport::Process(_), None) => upload_pack::PLACEHOLDER_URL,
            _ => self.deployment.spec.repo.url(),
        }
    }

    /// What is left of `fetch_timeout`.
    fn deadline(&self) -> Deadline {
        let elapsed = self
            .deployment
            .host
            .clock
            .monotonic_now()
            .duration_since(self.started);
        let left = self.deployment.spec.fetch_timeout().saturating_sub(elapsed);
        Deadline::new(left, IDLE_TIMEOUT, self.deployment.host.stop.clone())
    }

    fn register_operation(&self, verb: &str) -> watchdog::Operation {
        let operation = format!("{verb} {}", self.deployment.spec.repo);
        watchdog::begin(operation, self.deadline().remaining())
    }

    fn callbacks(&self) -> RemoteCallbacks<'_> {
        let mut callbacks = RemoteCallbacks::new();
        callbacks
            .transfer_progress(|progress| self.on_progress(&progress))
            .sideband_progress(|_| self.may_continue());
        callbacks
    }

    /// Takes the reason why the fetch ended, if it was not libgit2 that ended it.
    pub(crate) fn take_failure(&self) -> Option<Failure> {
        self.failure.take()
    }

    fn on_progress(&self, progress: &Progress<'_>) -> bool {
        let now = self.deployment.host.clock.monotonic_now();
        let due = |logged_at: Instant| now.duration_since(logged_at) >= PROGRESS_INTERVAL;
        // A fetch of less than a second logs no progress.
        if due(self.last_progress.get().unwrap_or(self.started)) {
            self.last_progress.set(Some(now));
            let spec = self.deployment.spec;
            let title = format!("{}: fetching {}", spec.app, spec.repo);
            let elapsed = now.duration_since(self.started);
            self.progress
                .show(&title, elapsed, &format_progress(progress));
        }
        self.may_continue() && self.check_space(progress.received_bytes())
    }

    /// Whether to continue; if not, stores the reason.
    pub(crate) fn may_continue(&self) -> bool {
        let limit = self.deployment.spec.fetch_timeout();
        if self.deployment.host.stop.is_set() {
            self.failure.replace(Some(Failure::stopped()));
            return false;
        }
        if self
            .deployment
            .host
            .clock
            .monotonic_now()
            .duration_since(self.started)
            < limit
        {
            return true;
        }
        self.set_failure(self.timed_out());
        false
    }

    fn set_failure(&self, failure: Failure) {
        self.failure.replace(Some(failure));
    }
}

/// The progress for people: "45% 1.2 MB".
fn format_progress(progress: &Progress<'_>) -> String {
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
