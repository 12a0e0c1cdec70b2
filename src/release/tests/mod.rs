//! Tests of the pipeline against real git repositories, in a sandbox.
// The world outside the sandbox (repositories, servers, files that must stay untouched) is not a managed
// host.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod active_links;
mod advertisement;
mod assets;
mod assets_hostile;
mod bounds;
mod config_files;
mod crash;
mod disks;
mod drain;
mod filters;
mod holds;
mod hostile;
mod http;
mod killed;
mod lfs;
mod malformed;
mod once;
mod owned_repository;
mod pipeline;
mod refs;
mod remote;
mod resume;
mod retention;
mod same_files;
mod secrets;
mod shared_outputs;
mod skip_unchanged;
mod spare;
mod ssh;
mod stages;
mod subdir;
mod tree;
mod unshared_outputs;
mod unusable_repository;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use git2::{Oid, Repository, Signature};

use super::app::health::HealthCheck;
use super::app::layout::Layout;
use super::app::stage::Stage;
use super::*;
use crate::desired::{ResumePolicy, Sha};
use crate::kind::{Condition, Kind, ReleaseCondition};
use crate::ports::Host;
use crate::ports::accounts::Accounts;
use crate::ports::clock::SystemClock;
use crate::ports::exec::{Exec, StopFlag};
use crate::ports::permission::Permissions;
use crate::ports::root::Root;
use crate::ports::services::fake::FakeServices;
use crate::resource::{ApplyOutcome, Change, Failure, TrialOutcome, Verb};
use crate::yaml;

/// The uid of the app's user in the sandbox.
const DEPLOY_UID: u32 = 7001;

/// A sandbox host, a repository beside it, and an app between them.
struct Bench {
    dir: tempfile::TempDir,
    repo: Repository,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        // The app's user needs access to its releases.
        std::fs::set_permissions(
            dir.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let repo = Repository::init_bare(dir.path().join("repo.git")).unwrap();
        std::fs::create_dir_all(dir.path().join("host/etc")).unwrap();
        std::fs::write(
            dir.path().join("host/etc/passwd"),
            format!("deploy:x:{DEPLOY_UID}:{DEPLOY_UID}::/home/deploy:/bin/sh\n"),
        )
        .unwrap();
        std::fs::write(
            dir.path().join("host/etc/group"),
            format!("deploy:x:{DEPLOY_UID}:\n"),
        )
        .unwrap();
        Bench { dir, repo }
    }

    fn host(&self) -> Host {
        host_at(&self.host_path(""))
    }

    /// The real path of a path on the host.
    fn host_path(&self, path: &str) -> PathBuf {
        self.dir
            .path()
            .join("host")
            .join(path.trim_start_matches('/'))
    }

    fn app_path(&self, path: &str) -> PathBuf {
        self.host_path("srv/www/shop").join(path)
    }

    /// A spec with these additional lines and the wanted `sha`.
    fn spec(&self, sha: &Sha, more: &str) -> ReleaseSpec {
        let url = self.repo.path().display().to_string();
        spec(&format!("app: shop\nrepo: {url}\n{more}"), sha)
    }

    /// A commit of these files (a text each) on `master`.
    fn commit(&self, files: &[(&str, &str)]) -> Sha {
        let modes: Vec<(&str, &str, u32)> =
            files.iter().map(|(p, t)| (*p, *t, 0o100_644)).collect();
        self.commit_modes(&modes)
    }

    fn commit_modes(&self, files: &[(&str, &str, u32)]) -> Sha {
        let mut index = git2::Index::new().unwrap();
        self.repo.set_head("refs/heads/master").unwrap();
        for (path, text, mode) in files {
            let entry = git2::IndexEntry {
                ctime: git2::IndexTime::new(0, 0),
                mtime: git2::IndexTime::new(0, 0),
                dev: 0,
                ino: 0,
                mode: *mode,
                uid: 0,
                gid: 0,
                file_size: 0,
                id: self.repo.blob(text.as_bytes()).unwrap(),
                flags: 0,
                flags_extended: 0,
                path: path.as_bytes().to_vec(),
            };
            index.add(&entry).unwrap();
        }
        let tree = index.write_tree_to(&self.repo).unwrap();
        self.commit_tree(tree, Some("refs/heads/master"))
    }

    fn commit_tree(&self, tree: Oid, reference: Option<&str>) -> Sha {
        let author = Signature::new("t", "t@example", &git2::Time::new(1_800_000_000, 0)).unwrap();
        let parent = self.repo.find_reference("refs/heads/master").ok();
        let parent = parent.map(|parent| parent.peel_to_commit().unwrap());
        let tree = self.repo.find_tree(tree).unwrap();
        let parents: Vec<&git2::Commit<'_>> = parent.iter().collect();
        let id = self
            .repo
            .commit(reference, &author, &author, "c", &tree, &parents)
            .unwrap();
        Sha::parse(&id.to_string()).unwrap()
    }

    /// The name of the active release.
    fn active_name(&self) -> Option<String> {
        let target = std::fs::read_link(self.app_path("current")).ok()?;
        let name = target.strip_prefix("releases").unwrap().to_str().unwrap();
        Some(name.to_owned())
    }

    /// All entries of the releases folder, except the folder of spares.
    fn releases(&self) -> Vec<String> {
        let mut names = list_names(&self.app_path("releases"));
        names.retain(|name| name != ".trueup");
        names
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.app_path(path)).unwrap()
    }

    fn record(&self) -> ReleaseRecord {
        ReleaseRecord::load(
            &self.host(),
            &Layout::new("shop", Path::new("/srv/www/shop")),
        )
        .unwrap()
    }
}

pub(super) fn host_at(root: &Path) -> Host {
    Host {
        root: Rc::new(Root::at(root).unwrap()),
        accounts: Rc::new(Accounts::default()),
        packages: Rc::default(),
        exec: Rc::new(Exec),
        services: Box::new(FakeServices::new(Rc::new(SystemClock))),
        supervisor: Box::new(FakeServices::new(Rc::new(SystemClock))),
        clock: Rc::new(SystemClock),
        permissions: Permissions::default(),
        stop: StopFlag::default(),
    }
}

fn list_names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .map(|entries| {
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        })
        .unwrap_or_default();
    names.sort();
    names
}

fn spec(text: &str, sha: &Sha) -> ReleaseSpec {
    let node = yaml::parse("role.yml", text.as_bytes(), yaml::ParseLimits::default()).unwrap();
    let mut spec: ReleaseSpec = yaml::decode(&node).unwrap();
    spec.wanted = Some(sha.clone());
    spec
}

type Release = crate::kinds::release::Release;

fn plan(spec: &ReleaseSpec, host: &Host) -> Option<Change> {
    let diff = Release::diff(spec, &Release::inspect(spec, host).unwrap());
    diff.map(|diff| diff.change)
}

fn condition(spec: &ReleaseSpec, host: &Host) -> Result<ReleaseCondition, Failure> {
    match Release::condition(spec, &Release::inspect(spec, host)?) {
        Condition::Release(condition) => Ok(condition),
        other => panic!("{other:?}"),
    }
}

/// One pass of a host without services: `None` if there was nothing to do.
fn run_pass(spec: &ReleaseSpec, host: &Host) -> Result<Option<ApplyOutcome>, Failure> {
    let diff = Release::diff(spec, &Release::inspect(spec, host)?);
    let outcome = diff
        .map(|diff| Release::apply(spec, &diff.action, host))
        .transpose()?;
    if condition(spec, host)?.trial.is_some() {
        match poll_gate(spec, host, &mut || Ok(()), &Vec::new)? {
            TrialOutcome::Passed => record_proven(spec, host)?,
            TrialOutcome::Stopped => return Err(Failure::stopped()),
            TrialOutcome::Conflict(why) => return Err(why),
            TrialOutcome::Failed(why) => {
                restore_previous(spec, host, &why)?;
                return Err(why);
            }
        }
    }
    Ok(outcome)
}

fn deploy_ok(spec: &ReleaseSpec, host: &Host) {
    assert_eq!(run_pass(spec, host), Ok(Some(ApplyOutcome::Done)));
}

/// Everything below a folder with all that `stat` returns, to detect any change.
fn snapshot(folder: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut all = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        all.push(format!(
            "{} {:o} {} {} {} {}.{}",
            path.display(),
            meta.mode(),
            meta.uid(),
            meta.ino(),
            meta.size(),
            meta.ctime(),
            meta.ctime_nsec()
        ));
        if meta.is_dir() {
            todo.extend(list_names(&path).iter().map(|name| path.join(name)));
        }
    }
    all.sort();
    all
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        crate::ports::testing::skip_test("owners of a release", "needs root");
    }
    root
}
