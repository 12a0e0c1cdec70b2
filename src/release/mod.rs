//! The pipeline that brings an app to a sha: fetch → materialise → link → build → assets → migrate →
//! activate → gate → keep. One stage per file.
//!
//! What holds it together: a release is recorded as `building` before its folder exists, as `built`
//! only after its last step succeeded and all of it is on disk, and as `good` once it was proven in
//! service; `current` is switched only to one that is built or good. So a pass may be killed at any
//! instant: the next one goes on at the stage where it stopped. Until a release is complete and has
//! its owner, its folder is hidden and closed to everybody but root, because the repository's content
//! is not trusted.
//!
//! What did not change is not made again (see `unchanged`), and compiled assets outlive the release that
//! made them (see `assets`).
//!
//! A switch of `current` is put on record as a *trial* before it happens. The services that run from
//! it are restarted by the pass, like all that a change makes necessary; then the gate decides, and
//! the trial ends with [`confirm`] or [`put_back`].

mod activate;
mod allowed_refs;
mod assets;
mod attempt;
mod between;
mod build;
mod clean;
mod deploy_key;
mod entry;
mod fetch;
pub mod files;
mod found;
mod gate;
mod health;
mod history;
mod hooks;
mod inside;
mod inventory;
mod keep;
mod layout;
mod link;
mod listener;
mod log;
mod materialise;
mod migrate;
mod mirror;
mod names;
mod orders;
mod pipeline;
mod private;
mod reach;
mod record;
mod repo;
mod rollback;
mod run;
mod spec;
#[cfg(test)]
mod tests;
mod tree;
mod unchanged;

use std::time::{Duration, Instant};

use attempt::Attempt;

pub use allowed_refs::AllowedRefs;
pub use between::{Difference, How};
pub use clean::{Cleaned, clean, tidy};
pub use entry::{Ended, Entry, Note, Stage, Standing};
pub use gate::{Back, confirm, leave_bad, put_back, watch};
pub use health::{Health, asked};
pub use hooks::Hooks;
pub use inside::inside;
pub use inventory::{Inventory, Item, State, active_name, inventory, names};
pub use keep::Failed;
pub use layout::Layout;
pub use listener::{RunsAs, disturbed};
pub use log::{Past, past};
pub use orders::{Barred, Orders, Pin};
pub use private::{BuiltPrivate, Private, build_private, resolve};
pub use reach::{reach, unknown_server};
pub use record::{Active, Record, Trial, Unremoved, active};
pub use repo::Repo;
pub use rollback::{Chosen, Refused, choose, lift, pin, unpin};
pub use spec::{Assets, Migrate, Spec, Step};
pub use tree::Filters;
pub use unchanged::forecast;

use crate::desired::Sha;
use crate::ports::Host;
use crate::ports::root::Attrs;
use crate::resource::{Access, Failure};

/// Who owns what an app gets. `None`: as trueup makes it.
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

/// One app on its way to one sha.
struct Deployment<'a> {
    spec: &'a Spec,
    sha: Sha,
    host: &'a Host,
    layout: Layout,
    owner: Owner,
    /// The sha that is active.
    previous: Option<Sha>,
    /// Who builds it for himself, if somebody does.
    private: Option<Private>,
    begun: Instant,
    /// How long it may take from `begun` until it is built.
    limit: Option<Duration>,
}

impl<'a> Deployment<'a> {
    fn new(spec: &'a Spec, sha: &Sha, host: &'a Host) -> Result<Deployment<'a>, Failure> {
        let layout = spec.layout();
        let previous =
            record::active(host, &layout, spec.keep_releases)?.and_then(|active| active.sha);
        Ok(Deployment {
            spec,
            sha: sha.clone(),
            host,
            owner: owner(spec, host)?,
            layout,
            previous,
            private: None,
            begun: host.clock.tick(),
            limit: spec.build_deadline.map(|seconds| seconds.0),
        })
    }
}

/// For what is about the app and about no sha in particular: the wanted one stands in.
fn of_app<'a>(spec: &'a Spec, host: &'a Host) -> Result<Deployment<'a>, Failure> {
    let sha = spec.wanted.clone().unwrap_or_else(nobody);
    Deployment::new(spec, &sha, host)
}

fn nobody() -> Sha {
    Sha::parse(&"0".repeat(40)).expect("git's own name for no commit at all")
}

/// Makes `sha` the active release: a whole release of it that is there, or a new one. It is on
/// trial then.
pub fn deploy(spec: &Spec, sha: &Sha, host: &Host) -> Result<(), Failure> {
    let d = Deployment::new(spec, sha, host)?;
    let (mut record, name) = d.built()?;
    let mut attempt = Attempt {
        d: &d,
        record: &mut record,
        name,
    };
    // A release that was built for other settings gets those of today, all at once with the switch.
    let release = d.layout.release(&attempt.name);
    let switched = files::put(&d, &release)
        .and_then(|()| migrate::migrate(&mut attempt))
        .and_then(|()| d.go_on())
        .and_then(|()| activate::switch(&mut attempt));
    switched.map_err(|failure| d.failed(&mut attempt, failure))
}

/// Makes `sha` the active release up to the point of activating it. Returns the release's name.
///
/// What was built ahead and is not wanted any more goes first: whoever names another sha in each manifest
/// would fill the disk.
pub fn build_ahead(spec: &Spec, sha: &Sha, host: &Host) -> Result<String, Failure> {
    let d = Deployment::new(spec, sha, host)?;
    let mut record = Record::load(host, &d.layout)?;
    keep::prune(&d, &mut record)?;
    d.built().map(|(_, name)| name)
}

/// Makes the tree of the release after the active one ahead, at the lowest priority. Asks no server;
/// told to stop, it leaves the rest to the next pass.
fn stock_up(d: &Deployment<'_>, record: &mut Record) -> Result<(), Failure> {
    if d.host.stop.is_set() {
        return Ok(());
    }
    let made = match mirror::at_hand(d) {
        Some(mirror) if !materialise::spare_is_ready(d)? => materialise::make_spare(d, &mirror),
        _ => Ok(()),
    };
    if d.host.stop.is_set() {
        return Ok(());
    }
    // Where it failed, for want of space say, it is not tried again in every pass.
    record.set_stocked(&d.sha);
    record.save(d.host, &d.layout)?;
    made
}

/// Brings the files of the active release to what is described.
pub fn refresh_files(spec: &Spec, sha: &Sha, host: &Host, name: &str) -> Result<(), Failure> {
    let d = Deployment::new(spec, sha, host)?;
    files::put(&d, &d.layout.release(name))
}

fn owner(spec: &Spec, host: &Host) -> Result<Owner, Failure> {
    let access = Access {
        owner: spec.user.as_deref(),
        group: spec.group.as_deref(),
        mode: None,
    };
    let attrs = access.attrs(host)?;
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
    /// Between stages: not if somebody asked trueup to stop.
    fn go_on(&self) -> Result<(), Failure> {
        if self.host.stop.is_set() {
            return Err(Failure::stopped());
        }
        Ok(())
    }

    fn took(&self) -> Duration {
        let now = self.host.clock.tick();
        now.saturating_duration_since(self.begun)
    }

    /// Whether there is still time to build.
    fn in_time(&self) -> Result<(), Failure> {
        match self.limit {
            Some(limit) if self.took() >= limit => Err(Failure::new(format!(
                "it was not built within `build_deadline` ({} s)",
                limit.as_secs()
            ))
            .hint("nothing was activated; raise `build_deadline`, or try again with `trueup converge --force`")),
            _ => Ok(()),
        }
    }
}
