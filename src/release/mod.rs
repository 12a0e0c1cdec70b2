//! The pipeline that brings an app to a sha: fetch → materialise → link → build → assets →
//! activate → keep. One stage per file.
//!
//! What holds it together: a release is recorded as `building` before its folder exists, and as
//! `good` only after its last step succeeded and all of it is on disk; `current` is switched only to
//! a good one. So a pass may be killed at any instant: the next one removes what is unfinished and
//! begins that release again. Until a release is complete and has its owner, its folder is hidden
//! and closed to everybody but root, because the repository's content is not trusted.

mod activate;
mod build;
mod deploy_key;
mod fetch;
mod keep;
mod known_hosts;
mod layout;
mod link;
mod materialise;
mod mirror;
mod record;
mod repo;
mod spec;
#[cfg(test)]
mod tests;

use std::path::Path;

use materialise::Trouble;

pub use layout::Layout;
pub use record::{Active, Entry, Record, Stage, Standing, active};
pub use repo::Repo;
pub use spec::{Assets, Spec, Step};

use crate::desired::Sha;
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
    sha: &'a Sha,
    host: &'a Host,
    layout: Layout,
    owner: Owner,
}

/// Makes `sha` the active release: an existing good release of it, or a new one.
pub fn deploy(spec: &Spec, sha: &Sha, host: &Host) -> Result<(), Failure> {
    let d = Deployment {
        spec,
        sha,
        host,
        layout: spec.layout(),
        owner: owner(spec, host)?,
    };
    d.go_on()?;
    activate::possible(&d)?;
    d.prepare()?;
    let mut record = Record::load(host, &d.layout)?;
    keep::sweep(&d, &mut record)?;
    let name = match record.good(sha, host, &d.layout) {
        Some(name) => name,
        None => d.make(&mut record)?,
    };
    d.go_on()?;
    activate::switch(&d, &mut record, &name)?;
    keep::prune(&d, &mut record)
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

    fn note(
        &self,
        record: &mut Record,
        name: &str,
        state: Standing,
        stage: Stage,
        why: Option<String>,
    ) -> Result<(), Failure> {
        record.put(Entry {
            name: name.to_owned(),
            sha: self.sha.clone(),
            state,
            stage,
            at: self.host.clock.now(),
            why,
        });
        record.save(self.host, &self.layout)
    }

    /// The folders of the layout. `releases` must be out of the app user's reach, or he could swap
    /// what root lays out there.
    fn prepare(&self) -> Result<(), Failure> {
        let root = &self.host.root;
        let (deploy_to, releases) = (self.layout.deploy_to(), self.layout.releases());
        root.make_dirs(deploy_to, &Attrs::mode(0o755))?;
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
        let ours = Attrs {
            mode: Some(0o755),
            uid: root.privileged().then_some(0),
            gid: root.privileged().then_some(0),
        };
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

    /// Builds a new release and returns its name; the record calls it good by then.
    fn make(&self, record: &mut Record) -> Result<String, Failure> {
        let (root, layout) = (&self.host.root, &self.layout);
        let mirror = mirror::with_commit(self)?;
        self.go_on()?;
        let taken = |name: &str| {
            record.find(name).is_some() || !matches!(root.meta(&layout.release(name)), Ok(None))
        };
        let name = layout::free_name(self.host.clock.now(), self.sha, taken);
        let (partial, release) = (layout.partial(&name), layout.release(&name));
        self.note(record, &name, Standing::Building, Stage::Materialise, None)?;
        if let Err(failure) = self.lay_out(mirror, &partial, record, &name) {
            root.remove_tree(&partial)?;
            record.forget(&name);
            record.save(self.host, layout)?;
            return Err(failure);
        }
        root.rename(&partial, &release)?;
        build::build(self, record, &name)?;
        self.go_on()?;
        root.sync_all(&release)?;
        self.note(record, &name, Standing::Good, Stage::Activate, None)?;
        Ok(name)
    }

    fn lay_out(
        &self,
        mirror: git2::Repository,
        partial: &Path,
        record: &mut Record,
        name: &str,
    ) -> Result<(), Failure> {
        match materialise::materialise(self, &mirror, partial) {
            Ok(()) => {}
            Err(Trouble::Other(failure)) => return Err(failure),
            Err(Trouble::Mirror(why)) => {
                tracing::warn!(
                    "{}: the mirror is broken ({why}): fetching it anew",
                    self.spec.app
                );
                drop(mirror);
                self.host.root.remove_tree(partial)?;
                let mirror = mirror::anew(self)?;
                match materialise::materialise(self, &mirror, partial) {
                    Ok(()) => {}
                    Err(Trouble::Other(failure)) => return Err(failure),
                    Err(Trouble::Mirror(why)) => return Err(Failure::new(why)),
                }
            }
        }
        self.go_on()?;
        self.note(record, name, Standing::Building, Stage::Link, None)?;
        link::link(self, partial)?;
        materialise::hand_over(self, partial)?;
        self.go_on()
    }
}
