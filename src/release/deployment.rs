//! The deployment of one app at one sha: the value that sources, stages and operators' commands share.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::app::layout::{AppFolder, Layout};
use super::app::spec::ReleaseSpec;
use super::record::entry::ReleaseEntry;
use super::record::{self, ReleaseRecord};
use crate::desired::Sha;
use crate::ports::Host;
use crate::ports::root::Attrs;
use crate::resource::{Access, Failure};

/// The request for a private release.
#[derive(Debug, Clone)]
pub(crate) struct PrivateBuild {
    /// When the release expires.
    pub until: Timestamp,
    pub by: Option<String>,
    /// The branch or tag that its sha came from.
    pub reference: Option<String>,
}

/// The owner of an app's files. `None`: trueup's own user or group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

impl Owner {
    pub(crate) fn attrs(self, mode: u32) -> Attrs {
        Attrs {
            mode: Some(mode),
            uid: self.uid,
            gid: self.gid,
        }
    }
}

/// The result of a deployment that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeployOutcome {
    /// A release of the sha is active, and on trial.
    Activated,
    /// The sha changes nothing of what is checked out: this release stays, and stands for it.
    Unchanged(String),
    /// An operator rolled back from a release with the same files: nothing was activated, for this reason.
    OnHold(String),
    /// The release is complete, and the fleet does not permit its activation now, for this reason.
    Waiting(String),
    /// The sha failed on another host: it was not activated.
    RefusedByFleet(Failure),
    /// The release failed its preflight, or has the files of a quarantined sha: it was not activated.
    Refused(Failure),
}

/// The deployment of one app at one sha.
pub(crate) struct Deployment<'a> {
    pub spec: &'a ReleaseSpec,
    pub sha: Sha,
    pub host: &'a Host,
    pub layout: Layout,
    pub owner: Owner,
    /// The active sha; for a release that is active itself and on trial, the one that was active before it.
    pub previous: Option<Sha>,
    /// Set for a private build.
    pub private: Option<PrivateBuild>,
    /// The `subdir` of each release on record: that of the spec may be another one.
    pub subdirs: RefCell<BTreeMap<String, PathBuf>>,
    pub started: Instant,
    /// Time limit from `started` until the release is built.
    pub build_deadline: Option<Duration>,
}

impl<'a> Deployment<'a> {
    pub(crate) fn new(
        spec: &'a ReleaseSpec,
        sha: &Sha,
        host: &'a Host,
    ) -> Result<Deployment<'a>, Failure> {
        let layout = spec.layout();
        let previous =
            record::active(host, &layout, spec.keep_releases)?.and_then(|active| active.sha);
        let record = ReleaseRecord::load(host, &layout)?;
        let subdirs = record.entries().iter();
        let subdirs = subdirs.map(|entry| (entry.name.clone(), entry.subdir.clone()));
        Ok(Deployment {
            subdirs: RefCell::new(subdirs.collect()),
            spec,
            sha: sha.clone(),
            host,
            owner: resolve_owner(spec, host)?,
            layout,
            previous,
            private: None,
            started: host.clock.monotonic_now(),
            build_deadline: spec.build_deadline.map(|seconds| seconds.0),
        })
    }
}

/// A deployment for operations on the app as a whole, with the wanted sha as a stand-in.
pub(super) fn deployment_of_app<'a>(
    spec: &'a ReleaseSpec,
    host: &'a Host,
) -> Result<Deployment<'a>, Failure> {
    let sha = spec.wanted.clone().unwrap_or_else(null_sha);
    Deployment::new(spec, &sha, host)
}

pub(super) fn null_sha() -> Sha {
    Sha::parse(&"0".repeat(40)).expect("git's own name for no commit at all")
}

fn resolve_owner(spec: &ReleaseSpec, host: &Host) -> Result<Owner, Failure> {
    let access = Access {
        owner: spec.user.as_deref(),
        group: spec.group.as_deref(),
        mode: None,
    };
    let attrs = access.resolve_attrs(host)?;
    let own_group = match (&spec.user, attrs.uid) {
        (Some(user), Some(_)) => host.accounts.user(&host.root, user)?.map(|user| user.gid),
        _ => None,
    };
    Ok(Owner {
        uid: attrs.uid,
        gid: attrs.gid.or(own_group),
    })
}

impl Deployment<'_> {
    /// The app's folder in a release.
    pub(crate) fn app_folder(&self, name: &str) -> AppFolder {
        let subdirs = self.subdirs.borrow();
        let subdir = subdirs.get(name).map(PathBuf::as_path);
        self.layout
            .app_folder(name, subdir.unwrap_or(self.spec.subdir()))
    }

    /// Takes note of a release that is built now.
    pub(crate) fn add_release(&self, entry: &ReleaseEntry) {
        let mut subdirs = self.subdirs.borrow_mut();
        subdirs.insert(entry.name.clone(), entry.subdir.clone());
    }

    /// Fails if a secret that the release needs has no value.
    pub(crate) fn check_secrets(&self) -> Result<(), Failure> {
        match &self.spec.missing_secret {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    /// Fails if trueup was asked to stop. Called between stages.
    pub(crate) fn check_stop(&self) -> Result<(), Failure> {
        if self.host.stop.is_set() {
            return Err(Failure::stopped());
        }
        Ok(())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        let now = self.host.clock.monotonic_now();
        now.saturating_duration_since(self.started)
    }

    /// Fails once `build_deadline` has passed.
    pub(crate) fn check_deadline(&self) -> Result<(), Failure> {
        match self.build_deadline {
            Some(limit) if self.elapsed() >= limit => Err(Failure::new(format!(
                "it was not built within `build_deadline` ({} s)",
                limit.as_secs()
            ))
            .hint("nothing was activated; raise `build_deadline`, or try again with `trueup converge`")),
            _ => Ok(()),
        }
    }
}
