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
//! A switch of `current` is put on record as a *trial* before it happens. The services that run from
//! it are restarted by the pass, like all that a change makes necessary; then the gate decides, and
//! the trial ends with [`confirm`] or [`put_back`].

mod activate;
mod attempt;
mod build;
mod deploy_key;
mod entry;
mod fetch;
pub mod files;
mod found;
mod gate;
mod health;
mod hooks;
mod keep;
mod layout;
mod link;
mod materialise;
mod migrate;
mod mirror;
mod orders;
mod record;
mod repo;
mod run;
mod spec;
#[cfg(test)]
mod tests;
mod tree;

use std::path::Path;
use std::time::{Duration, Instant};

use attempt::{Attempt, Work};
use materialise::{Laid, Trouble};

pub use entry::{Ended, Entry, Note, Stage, Standing};
pub use gate::{Back, confirm, leave_bad, put_back, watch};
pub use health::Health;
pub use hooks::Hooks;
pub use layout::Layout;
pub use orders::{Barred, Orders, Pin};
pub use record::{Active, Record, Trial, active};
pub use repo::Repo;
pub use spec::{Assets, Migrate, Spec, Step};

use crate::desired::{Sha, TakeUp};
use crate::ports::Host;
use crate::ports::root::{Attrs, FileKind};
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
            begun: host.clock.tick(),
            limit: spec.build_deadline.map(|seconds| seconds.0),
        })
    }
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
pub fn build_ahead(spec: &Spec, sha: &Sha, host: &Host) -> Result<String, Failure> {
    let d = Deployment::new(spec, sha, host)?;
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

/// Removes what is no longer needed and makes ready what comes next, where the pass that should have
/// done so was killed.
pub fn tidy(spec: &Spec, host: &Host) -> Result<(), Failure> {
    let layout = spec.layout();
    let active = record::active(host, &layout, spec.keep_releases)?;
    let Some(sha) = active.and_then(|active| active.sha) else {
        return Ok(());
    };
    let d = Deployment::new(spec, &sha, host)?;
    let mut record = Record::load(host, &layout)?;
    keep::sweep(&d, &mut record)?;
    keep::prune(&d, &mut record)?;
    record.save_if_changed(host, &layout)?;
    match record.is_stocked(&sha) {
        true => Ok(()),
        false => stock_up(&d, &mut record),
    }
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

fn stopped() -> Failure {
    Failure::new("stopped on request; goes on in the next pass")
}

impl Deployment<'_> {
    /// Between stages: not if somebody asked trueup to stop.
    fn go_on(&self) -> Result<(), Failure> {
        if self.host.stop.is_set() {
            return Err(stopped());
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

    /// A whole release of the sha: one that is there, one that was begun and is finished now, or a
    /// new one.
    fn built(&self) -> Result<(Record, String), Failure> {
        self.go_on()?;
        activate::possible(self)?;
        self.prepare()?;
        let mut record = Record::load(self.host, &self.layout)?;
        keep::sweep(self, &mut record)?;
        let take_up = self.spec.take_up;
        if take_up != TakeUp::Fresh {
            let whole = record.whole(&self.sha, self.host, &self.layout);
            let begun = record.unfinished(&self.sha).map(|entry| entry.name.clone());
            let there = whole.clone().or(begun.clone());
            let entry = there.as_deref().and_then(|name| record.find(name));
            if take_up == TakeUp::Usual
                && let Some(failure) =
                    entry.and_then(|entry| attempt::not_now(entry, self.host.clock.now()))
            {
                return Err(failure);
            }
            if let Some(name) = whole {
                return Ok((record, name));
            }
            if let Some(name) = begun {
                tracing::info!("{}: release {name} is taken up again", self.spec.app);
                self.finish(&mut record, &name, None)?;
                return Ok((record, name));
            }
        }
        let name = self.make(&mut record)?;
        Ok((record, name))
    }

    /// The folders of the layout. `releases` must be out of the app user's reach, or he could swap
    /// what root lays out there.
    fn prepare(&self) -> Result<(), Failure> {
        let root = &self.host.root;
        let (deploy_to, releases) = (self.layout.deploy_to(), self.layout.releases());
        root.make_dirs(deploy_to, &Attrs::mode(0o755))?;
        let ours = Attrs {
            mode: Some(0o755),
            uid: root.privileged().then_some(0),
            gid: root.privileged().then_some(0),
        };
        if !root.is_trusted_place(&releases)? && root.is_trusted_place(deploy_to)? {
            // Another tool gave the folder to the app's user. Nothing in it is touched.
            tracing::info!(
                "{}: {} is root's from now on; what the app writes belongs into shared/",
                self.spec.app,
                deploy_to.display()
            );
            root.make_dir(deploy_to, &ours)?;
        }
        if !root.is_trusted_place(&releases)? {
            return Err(Failure::new(format!(
                "others than root could replace what is built in {}: they can write to it or to a folder above it, or a link leads there",
                deploy_to.display()
            ))
            .hint(format!(
                "give it to root (`chown root:root {0}; chmod 755 {0}`; what the app writes belongs into shared/), and write the path without links",
                deploy_to.display()
            )));
        }
        let inside = releases.join("any");
        if root.meta(&releases)?.is_none() || !root.is_trusted_place(&inside)? {
            root.make_dir(&releases, &ours)?;
        }
        let shared = self.layout.shared();
        match root.meta(&shared)?.map(|meta| meta.kind) {
            None => Ok(root.make_dir(&shared, &self.owner.attrs(0o755))?),
            Some(FileKind::Directory | FileKind::Symlink) => Ok(()),
            Some(other) => Err(Failure::new(format!(
                "{} is {} and no folder",
                shared.display(),
                other.words()
            ))),
        }
    }

    /// Builds a new release and returns its name; the record calls it built by then.
    fn make(&self, record: &mut Record) -> Result<String, Failure> {
        let (root, layout) = (&self.host.root, &self.layout);
        let taken = |name: &str| {
            record.find(name).is_some() || !matches!(root.meta(&layout.release(name)), Ok(None))
        };
        let name = layout::free_name(self.host.clock.now(), &self.sha, taken);
        let mut entry = Entry::begun(&name, &self.sha, self.host.clock.now());
        entry.reference = self.spec.reference.clone();
        entry.by = self.spec.by.clone();
        record.put(entry);
        let partial = layout.partial(&name);
        let mut attempt = Attempt {
            d: self,
            record,
            name: name.clone(),
        };
        let laid = match self.lay_out(&mut attempt, &partial) {
            Ok(laid) => laid,
            Err(failure) => {
                root.remove_tree(&partial)?;
                record.forget(&name);
                record.save(self.host, layout)?;
                return Err(failure);
            }
        };
        root.rename(&partial, &layout.release(&name))?;
        self.finish(record, &name, Some(laid))?;
        Ok(name)
    }

    /// The stages up to a tree that is laid out and linked, hidden as yet.
    fn lay_out(&self, attempt: &mut Attempt<'_, '_>, partial: &Path) -> Result<Laid, Failure> {
        let (mut mirror, mut laid) = (None, None);
        attempt.stage(Stage::Fetch, None, |_| {
            mirror = Some(mirror::with_commit(self)?);
            Ok(Work::Done)
        })?;
        let mirror = mirror.expect("the stage ends with a mirror or with an error");
        self.in_time()?;
        attempt.save()?;
        attempt.stage(Stage::Materialise, None, |_| {
            laid = Some(self.materialise(mirror, partial)?);
            Ok(Work::Done)
        })?;
        attempt.stage(Stage::Link, None, |_| {
            link::link(self, partial)?;
            materialise::hand_over(self, partial)?;
            files::put(self, partial)?;
            Ok(Work::Done)
        })?;
        self.go_on()?;
        attempt.save()?;
        Ok(laid.expect("the stage ends with a tree or with an error"))
    }

    fn materialise(&self, mirror: git2::Repository, partial: &Path) -> Result<Laid, Failure> {
        match materialise::materialise(self, &mirror, partial) {
            Ok(laid) => return Ok(laid),
            Err(Trouble::Other(failure)) => return Err(failure),
            Err(Trouble::Mirror(why)) => tracing::warn!(
                "{}: the mirror is broken ({why}): fetching it anew",
                self.spec.app
            ),
        }
        drop(mirror);
        self.host.root.remove_tree(partial)?;
        let mirror = mirror::anew(self)?;
        match materialise::materialise(self, &mirror, partial) {
            Ok(laid) => Ok(laid),
            Err(Trouble::Other(failure)) => Err(failure),
            Err(Trouble::Mirror(why)) => Err(Failure::new(why)),
        }
    }

    /// The stages from a tree that is laid out (just now, if `laid` is there) to a whole release.
    fn finish(&self, record: &mut Record, name: &str, laid: Option<Laid>) -> Result<(), Failure> {
        let mut attempt = Attempt {
            d: self,
            record,
            name: name.to_owned(),
        };
        attempt.enter(Standing::Building, None);
        let built = build::steps(&mut attempt).and_then(|()| build::assets(&mut attempt));
        if let Err(failure) = built {
            return Err(self.failed(&mut attempt, failure));
        }
        self.go_on()?;
        // What steps wrote, nobody else waits for.
        let by_steps = !self.spec.steps.is_empty() || self.spec.assets.is_some();
        if by_steps || !laid.is_some_and(|laid| laid.on_disk) {
            self.host.root.sync_all(&self.layout.release(name))?;
        }
        attempt.enter(Standing::Built, None);
        attempt.save()
    }

    /// Puts a failure on record, unless it is only that trueup was told to stop.
    fn failed(&self, attempt: &mut Attempt<'_, '_>, failure: Failure) -> Failure {
        if self.host.stop.is_set() {
            return attempt.save().err().unwrap_or(failure);
        }
        let late = self.in_time().err();
        let failure = late.clone().unwrap_or(failure);
        let noted = attempt
            .failed(&failure, late.is_some())
            .and_then(|()| keep::failed(self, attempt.record));
        noted.err().unwrap_or(failure)
    }
}
