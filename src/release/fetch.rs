//! One conversation with a git server: who it is, who we are, how long it may take, and what an
//! error means.

mod explain;
mod https;
mod lfs;
mod line;
mod nearby;
mod owned;
mod refs;
mod ssh;

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use git2::{
    AutotagOption, Direction, FetchOptions, FetchPrune, ObjectType, Oid, Progress, RemoteCallbacks,
    Repository,
};

pub(super) use self::lfs::Object;
use self::line::{Call, Way};
use self::ssh::Ssh;
use super::{Deployment, mirror};
use crate::digest::digest;
use crate::ports::git_memory;
use crate::ports::http::Http;
use crate::ports::patience::Patience;
use crate::ports::watchdog;
use crate::resource::Failure;

/// How long an ssh server may take to answer at all.
const CONNECT: Duration = Duration::from_secs(20);

/// How long a server may be silent in the middle.
const SILENCE: Duration = Duration::from_secs(60);

/// Up to this size in bytes a folder of a commit is kept unpacked while it is worked on: it is looked at
/// more than once, and libgit2's own limit (4096) is a hundred files. All of them together stay below
/// libgit2's 256 MB.
const LARGEST_FOLDER: usize = 256 << 10;

/// No pack is larger, in bytes.
const MAX_PACK: u64 = 16 << 30;

/// After so many bytes of a pack the room on the disk is looked at again.
const WEIGH_EVERY: usize = 16 << 20;

/// What a fetch leaves free on the disk, in bytes.
const RESERVE: u64 = 64 << 20;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Makes libgit2 independent of the host's own git configuration, and tells it our transports.
///
/// Its settings belong to the process; trueup runs one deployment at a time.
pub(super) fn settle() -> Result<(), Failure> {
    settle_reading()?;
    line::register_all().map_err(unsettled)
}

/// The part of it that reading a mirror needs.
pub(super) fn settle_reading() -> Result<(), Failure> {
    use git2::{ConfigLevel as Level, opts};
    git_memory::bound().map_err(unsettled)?;
    // SAFETY: plain settings, made while no other thread of trueup uses libgit2.
    let settled = unsafe {
        let levels = [Level::System, Level::Global, Level::XDG];
        levels
            .into_iter()
            .try_for_each(|level| opts::set_search_path(level, ""))
            // Mirrors and local repositories belong to whom they belong; no hook of theirs is run.
            .and_then(|()| opts::set_verify_owner_validation(false))
            .and_then(|()| opts::set_cache_object_limit(ObjectType::Tree, LARGEST_FOLDER))
    };
    // What came over the network was checked as it came, and a broken disk shows in the checksums
    // of what is packed. To hash every object again at each read, which git does not do either, would
    // take a third of the time of laying a tree out.
    opts::strict_hash_verification(false);
    settled.map_err(|error| unsettled(error.message()))
}

fn unsettled(why: impl std::fmt::Display) -> Failure {
    Failure::new(format!("cannot set up libgit2: {why}"))
}

/// What a fetch is to bring.
pub(super) enum Wanted {
    /// The refs that are allowed.
    Refs,
    /// A commit by its name.
    Commit(Oid),
}

/// What is needed to talk to the server of one app.
pub(super) struct Fetch<'a> {
    d: &'a Deployment<'a>,
    ssh: Option<Ssh>,
    begun: Instant,
    told: Cell<Option<Instant>>,
    /// How many bytes had come when the room was looked at last.
    weighed: Cell<usize>,
    /// Tells apart what the server said which refs it has.
    advertised: RefCell<Option<String>>,
    /// A ref that is not taken into the mirror, and why.
    left_out: RefCell<Option<String>>,
    /// Why it ended, if libgit2 cannot know.
    verdict: RefCell<Option<Failure>>,
}

impl<'a> Fetch<'a> {
    pub(super) fn new(d: &'a Deployment<'a>) -> Result<Fetch<'a>, Failure> {
        Fetch::knowing(d, &[])
    }

    /// Believes these lines of `known_hosts` besides those of the host.
    pub(super) fn knowing(d: &'a Deployment<'a>, known: &[String]) -> Result<Fetch<'a>, Failure> {
        let begun = d.host.clock.tick();
        let connect = CONNECT.min(d.spec.fetch_timeout());
        let ssh = d.spec.repo.ssh().map(|_| Ssh::new(d, connect, known));
        Ok(Fetch {
            d,
            ssh: ssh.transpose()?,
            begun,
            told: Cell::new(None),
            weighed: Cell::new(0),
            advertised: RefCell::default(),
            left_out: RefCell::default(),
            verdict: RefCell::new(None),
        })
    }

    /// Fetches into the mirror, which is empty if it `is_new`, and removes from it what the server no
    /// longer has.
    pub(super) fn run(
        &self,
        mirror: &Repository,
        wanted: &Wanted,
        is_new: bool,
    ) -> Result<(), git2::Error> {
        self.verdict.take();
        let _operation = self.declare("fetch");
        self.check_old(mirror)?;
        let way = self.way().map_err(|failure| {
            self.end(failure);
            git2::Error::from_str("the repository is not read")
        })?;
        let way = match way {
            Way::Local if self.is_flawed(mirror) => {
                let by_git = owned::by_git(self.d.spec.repo.url());
                by_git.map_or(Way::Local, Way::Ssh)
            }
            way => way,
        };
        let url = self.url(&way).to_owned();
        // Only a quicker way to what follows, which says what is wrong with the repository.
        if matches!(way, Way::Local)
            && let Some(origin) = nearby::path(self.d.spec.repo.url())
            && let Err(error) = nearby::bring(mirror, &origin, &|| self.in_time())
        {
            tracing::debug!("{}: {error}", self.d.spec.app);
        }
        let call = Call::new(way, self.patience());
        let (fetched, trouble) = line::during(call, || {
            let mut options = FetchOptions::new();
            options
                .remote_callbacks(self.callbacks())
                .prune(FetchPrune::Off)
                .download_tags(AutotagOption::None);
            let mut remote = mirror.remote_anonymous(&url)?;
            let mut connection =
                remote.connect_auth(Direction::Fetch, Some(self.callbacks()), None)?;
            let refs = match wanted {
                Wanted::Refs => {
                    let refs = self.select(connection.list()?)?;
                    self.advertised
                        .replace(Some(digest(format!("{refs:?}").as_bytes())));
                    self.prune(mirror, &refs)?;
                    refs
                }
                Wanted::Commit(id) => [(format!("{}{id}", mirror::BY_SHA), *id)].into(),
            };
            let specs = match wanted {
                Wanted::Refs => self.d.spec.allow_refs.refspecs(),
                Wanted::Commit(id) => vec![format!("+{id}:{}{id}", mirror::BY_SHA)],
            };
            connection.remote().download(&specs, Some(&mut options))?;
            self.move_refs(mirror, &refs, is_new)
        });
        // What a callback said comes first: it may have brought the line down.
        let ended = fetched.is_ok() || self.verdict.borrow().is_some();
        if let Some(trouble) = trouble.filter(|_| !ended) {
            self.end(self.troubled(trouble));
        }
        fetched
    }

    /// Tells apart what the server said which refs it has, once it was asked.
    pub(super) fn advertised(&self) -> Option<String> {
        self.advertised.borrow().clone()
    }

    /// A ref that was not taken into the mirror, and why.
    pub(super) fn left_out(&self) -> Option<String> {
        self.left_out.borrow().clone()
    }

    /// Refuses a pack that would fill the disk, or that has no end.
    fn check_room(&self, received: usize) -> bool {
        if received.saturating_sub(self.weighed.get()) < WEIGH_EVERY {
            return true;
        }
        self.weighed.set(received);
        let free = self.d.host.root.space(&self.d.layout.mirror());
        let free = free.ok().flatten().map_or(u64::MAX, |space| space.free);
        let (repo, mirror) = (&self.d.spec.repo, self.d.layout.mirror());
        let received = received as u64;
        if received > MAX_PACK {
            self.end(
                Failure::new(format!(
                    "cannot fetch {repo}: the server sent more than {} GiB at once",
                    MAX_PACK >> 30
                ))
                .hint("is that the server you mean? Large files belong into Git LFS"),
            );
            return false;
        }
        // The index of a pack comes after it.
        let left = RESERVE.saturating_add(received / 8);
        if free < left {
            self.end(
                Failure::new(format!(
                    "no room in {} for what {repo} sends: {} MiB came and {} MiB are free",
                    mirror.display(),
                    received >> 20,
                    free >> 20
                ))
                .hint("make room on that filesystem; what came was removed again"),
            );
            return false;
        }
        true
    }

    /// Asks which refs there are, and counts them.
    pub(super) fn refs(&self) -> Result<usize, Failure> {
        let _operation = self.declare("list the refs of");
        let way = self.way()?;
        let url = self.url(&way).to_owned();
        let call = Call::new(way, self.patience());
        let (listed, trouble) = line::during(call, || {
            let mut remote = git2::Remote::create_detached(url.as_str())?;
            let connection = remote.connect_auth(Direction::Fetch, Some(self.callbacks()), None)?;
            Ok(connection.list()?.len())
        });
        listed.map_err(|error: git2::Error| match (self.ended(), trouble) {
            (Some(failure), _) => failure,
            (None, Some(trouble)) => self.troubled(trouble),
            (None, None) => self.explain(&error),
        })
    }

    /// The line of `known_hosts` for the key that the server shows, if it is one that nothing here
    /// knows.
    pub(super) fn unknown_server(&self) -> Result<Option<String>, Failure> {
        let (Some(ssh), Some(server)) = (&self.ssh, self.d.spec.repo.ssh()) else {
            return Ok(None);
        };
        let shown = ssh
            .line_for(server, self.patience())
            .map_err(|error| Failure::new(format!("cannot run `ssh`: {error}")))?;
        Ok((!shown.is_empty() && !ssh.knows(&shown)).then_some(shown))
    }

    fn way(&self) -> Result<Way, Failure> {
        let repo = &self.d.spec.repo;
        Ok(match (&self.ssh, repo.ssh()) {
            (Some(ssh), Some(server)) => Way::Ssh(ssh.fetch(server)),
            _ if repo.url().starts_with("http") => Way::Http {
                http: Http::proxied(),
                base: repo.url().to_owned(),
            },
            _ => owned::serve(self.d)?.map_or(Way::Local, Way::Ssh),
        })
    }

    /// What libgit2 picks the transport by.
    fn url(&self, way: &Way) -> &str {
        match (way, &self.ssh) {
            (Way::Ssh(_), None) => owned::ADDRESS,
            _ => self.d.spec.repo.url(),
        }
    }

    /// What is left of it.
    fn patience(&self) -> Patience {
        let gone = self.d.host.clock.tick().duration_since(self.begun);
        let left = self.d.spec.fetch_timeout().saturating_sub(gone);
        Patience::new(left, SILENCE, self.d.host.stop.clone())
    }

    fn declare(&self, verb: &str) -> watchdog::Operation {
        let what = format!("{verb} {}", self.d.spec.repo);
        watchdog::begin(what, self.patience().left())
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

    fn progress(&self, progress: &Progress<'_>) -> bool {
        let now = self.d.host.clock.tick();
        let due = |told: Instant| now.duration_since(told) >= TELL_EVERY;
        // Nothing at all is said about what takes less than a second.
        if due(self.told.get().unwrap_or(self.begun)) {
            self.told.set(Some(now));
            tracing::info!(target: "progress", "{}: fetching {}: {}", self.d.spec.app, self.d.spec.repo, words(progress));
        }
        self.in_time() && self.check_room(progress.received_bytes())
    }

    /// Whether to go on; if not, the reason is kept.
    pub(super) fn in_time(&self) -> bool {
        let limit = self.d.spec.fetch_timeout();
        if self.d.host.stop.is_set() {
            self.verdict.replace(Some(Failure::stopped()));
            return false;
        }
        if self.d.host.clock.tick().duration_since(self.begun) < limit {
            return true;
        }
        self.end(self.too_slow());
        false
    }

    fn end(&self, failure: Failure) {
        self.verdict.replace(Some(failure));
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
