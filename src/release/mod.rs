//! The pipeline that deploys an app at a sha: fetch → materialise → link → build → assets → migrate →
//! activate → gate → keep. One stage per file.
//!
//! Its invariants: the record calls a release `building` before its folder exists, `built` only after its
//! last step succeeded and all of it is on disk, and `good` once it passed its gate; `current` is switched
//! only to a built or good release. So a pass may be killed at any instant: the next one resumes at the stage
//! where it stopped. Until a release's tree is complete and has its owner, its folder is hidden and
//! accessible only to root, because the repository's content is not trusted.
//!
//! Steps whose inputs did not change are skipped (see `skip`), and compiled assets outlive the release that
//! produced them (see `assets`).
//!
//! The record notes a switch of `current` as a *trial* before it happens. The pass restarts the services that
//! run from it, as after any change of a dependency; then the gate decides, and the trial ends with
//! [`confirm`] or [`roll_back`].

mod activate;
mod adopt;
mod allowed_refs;
mod assets;
mod attempt;
mod build;
mod clean;
mod commit_graph;
mod deploy_key;
mod diff;
mod entry;
mod exec;
mod fetch;
pub mod files;
mod gate;
mod health;
mod hooks;
mod inventory;
mod keep;
mod layout;
mod link;
mod listener;
mod log;
mod materialise;
mod migrate;
mod mirror;
mod overrides;
mod pipeline;
mod private;
mod probe_remote;
mod record;
mod ref_names;
mod repo;
mod rollback;
mod run;
mod skip;
mod spec;
#[cfg(test)]
mod tests;
mod tree;

use std::time::{Duration, Instant};

use attempt::Attempt;

pub use allowed_refs::AllowedRefs;
pub use clean::{CleanResult, clean, finish_cleanup};
pub use diff::{ChangeType, ChangedFile};
pub use entry::{ReleaseEntry, ReleaseStatus, Stage, StageEntry, StageStatus};
pub use exec::exec_command;
pub use gate::{RollbackOutcome, confirm, roll_back, roll_back_bad, run_gate};
pub use health::{HealthCheck, check_health};
pub use hooks::Hooks;
pub use inventory::{
    Inventory, ReleaseInfo, ReleasePhase, active_release_name, inventory, release_names,
};
pub use keep::KeepFailed;
pub use layout::Layout;
pub use listener::{ServiceUids, port_conflict};
pub use log::{ReleaseHistory, read_history};
pub use overrides::{Overrides, Pin, QuarantinedSha};
pub use private::{PrivateBuild, PrivateRelease, build_private, resolve_ref};
pub use probe_remote::{count_remote_refs, unknown_host_key};
pub use record::{ActiveRelease, FailedRemoval, Record, Trial, active};
pub use repo::Repo;
pub use rollback::{RollbackTarget, SelectionError, lift_quarantine, pin, select_target, unpin};
pub use skip::describe_commands;
pub use spec::{AssetsSpec, MigrationSpec, ReleaseSpec, Step};
pub use tree::FilterPolicy;

use crate::desired::Sha;
use crate::ports::Host;
use crate::ports::root::Attrs;
use crate::resource::{Access, Failure};

/// The owner of an app's files. `None`: trueup's own user or group.
#[derive(Debug, Clone, Copy)]
struct Owner {
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Owner {
    fn attrs(self, mode: u32) -> Attrs {
        Attrs {
            mode: Some(mode),
            uid: self.uid,
            gid: self.gid,
        }
    }
}

/// The deployment of one app at one sha.
struct Deployment<'a> {
    spec: &'a ReleaseSpec,
    sha: Sha,
    host: &'a Host,
    layout: Layout,
    owner: Owner,
    /// The active sha.
    previous: Option<Sha>,
    /// Set for a private build.
    private: Option<PrivateBuild>,
    started: Instant,
    /// Time limit from `started` until the release is built.
    build_deadline: Option<Duration>,
}

impl<'a> Deployment<'a> {
    fn new(spec: &'a ReleaseSpec, sha: &Sha, host: &'a Host) -> Result<Deployment<'a>, Failure> {
        let layout = spec.layout();
        let previous =
            record::active(host, &layout, spec.keep_releases)?.and_then(|active| active.sha);
        Ok(Deployment {
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
fn deployment_of_app<'a>(spec: &'a ReleaseSpec, host: &'a Host) -> Result<Deployment<'a>, Failure> {
    let sha = spec.wanted.clone().unwrap_or_else(null_sha);
    Deployment::new(spec, &sha, host)
}

fn null_sha() -> Sha {
    Sha::parse(&"0".repeat(40)).expect("git's own name for no commit at all")
}

/// Activates a release of `sha`, an existing complete one or a new one, and puts it on trial.
pub fn deploy(spec: &ReleaseSpec, sha: &Sha, host: &Host) -> Result<(), Failure> {
    let d = Deployment::new(spec, sha, host)?;
    let (mut record, name) = d.ensure_built()?;
    let mut attempt = Attempt {
        d: &d,
        record: &mut record,
        name,
    };
    // A release that was built with other settings gets the current ones, all at once with the switch.
    let release = d.layout.release(&attempt.name);
    let switched = files::write_files(&d, &release)
        .and_then(|()| migrate::migrate(&mut attempt))
        .and_then(|()| d.check_stop())
        .and_then(|()| activate::switch_current(&mut attempt));
    switched.map_err(|failure| d.record_failure(&mut attempt, failure))
}

/// Builds a release of `sha` without activating it. Returns the release's name.
///
/// First removes releases that were built ahead and are no longer wanted: otherwise a manifest that names
/// another sha each time would fill the disk.
pub fn build_ahead(spec: &ReleaseSpec, sha: &Sha, host: &Host) -> Result<String, Failure> {
    let d = Deployment::new(spec, sha, host)?;
    let mut record = Record::load(host, &d.layout)?;
    keep::prune(&d, &mut record)?;
    d.ensure_built().map(|(_, name)| name)
}

/// Prepares a spare for the next release, at the lowest priority. Contacts no server; on a stop request it
/// leaves the rest to the next pass.
fn prepare_spare(d: &Deployment<'_>, record: &mut Record) -> Result<(), Failure> {
    if d.host.stop.is_set() {
        return Ok(());
    }
    let made = match mirror::cached_with_commit(d) {
        Some(mirror) if !materialise::spare_is_ready(d)? => materialise::make_spare(d, &mirror),
        _ => Ok(()),
    };
    if d.host.stop.is_set() {
        return Ok(());
    }
    // Also after a failure, for lack of space say: not every pass tries again.
    record.set_spare_attempted(&d.sha);
    record.save(d.host, &d.layout)?;
    made
}

/// Rewrites the rendered files of a release that differ from the role.
pub fn refresh_files(
    spec: &ReleaseSpec,
    sha: &Sha,
    host: &Host,
    name: &str,
) -> Result<(), Failure> {
    let d = Deployment::new(spec, sha, host)?;
    files::write_files(&d, &d.layout.release(name))
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
    /// Fails if trueup was asked to stop. Called between stages.
    fn check_stop(&self) -> Result<(), Failure> {
        if self.host.stop.is_set() {
            return Err(Failure::stopped());
        }
        Ok(())
    }

    fn elapsed(&self) -> Duration {
        let now = self.host.clock.monotonic_now();
        now.saturating_duration_since(self.started)
    }

    /// Fails once `build_deadline` has passed.
    fn check_deadline(&self) -> Result<(), Failure> {
        match self.build_deadline {
            Some(limit) if self.elapsed() >= limit => Err(Failure::new(format!(
                "it was not built within `build_deadline` ({} s)",
                limit.as_secs()
            ))
            .hint("nothing was activated; raise `build_deadline`, or try again with `trueup converge --force`")),
            _ => Ok(()),
        }
    }
}
