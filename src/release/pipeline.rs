//! The way of one release from a sha to a whole release, stage by stage.

use std::path::Path;

use super::attempt::{self, Attempt, Work};
use super::entry::{Entry, Note, Stage, Standing};
use super::materialise::{Laid, Trouble};
use super::record::Record;
use super::{
    Deployment, activate, assets, build, files, keep, layout, link, materialise, mirror, rollback,
};
use crate::desired::TakeUp;
use crate::ports::root::{Attrs, FileKind};
use crate::resource::Failure;

impl Deployment<'_> {
    /// A whole release of the sha: one that is there, one that was begun and is finished now, or a
    /// new one.
    pub(super) fn built(&self) -> Result<(Record, String), Failure> {
        self.go_on()?;
        activate::possible(self)?;
        self.prepare()?;
        let mut record = Record::load(self.host, &self.layout)?;
        keep::sweep(self, &mut record);
        let take_up = self.spec.take_up;
        if take_up != TakeUp::Fresh {
            let whole = rollback::pinned(self, &record)?
                .or_else(|| record.whole(&self.sha, self.host, &self.layout));
            let begun = record.unfinished(&self.sha).map(|entry| entry.name.clone());
            let there = whole.clone().or(begun.clone());
            let entry = there.as_deref().and_then(|name| record.find(name));
            if take_up == TakeUp::Usual
                && let Some(failure) =
                    entry.and_then(|entry| attempt::not_now(entry, self.host.clock.now()))
            {
                return Err(failure);
            }
            if let Some(name) = &there {
                self.check_refs(&mut record, name)?;
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

    /// Refuses a release that is there, and not proven yet, unless its sha was found on the refs that
    /// `allow_refs` says today. Asks no server where that is on record.
    pub(super) fn check_refs(&self, record: &mut Record, name: &str) -> Result<(), Failure> {
        let checked = self.spec.allow_refs.fingerprint();
        let Some(entry) = record.find_mut(name) else {
            return Ok(());
        };
        if entry.state == Standing::Good || entry.is_done(Stage::Fetch, None, Some(&checked)) {
            return Ok(());
        }
        mirror::with_commit(self)?;
        entry.put(Note {
            definition: Some(checked),
            ..Note::done(Stage::Fetch, self.host.clock.now())
        });
        record.save(self.host, &self.layout)
    }

    /// The folders of the layout. `releases` must be out of the app user's reach, or he could swap
    /// what root lays out there.
    pub(super) fn prepare(&self) -> Result<(), Failure> {
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
    pub(super) fn make(&self, record: &mut Record) -> Result<String, Failure> {
        let (root, layout) = (&self.host.root, &self.layout);
        let taken = |name: &str| {
            record.find(name).is_some() || !matches!(root.meta(&layout.release(name)), Ok(None))
        };
        let name = layout::free_name(self.host.clock.now(), &self.sha, taken);
        let mut entry = Entry::begun(&name, &self.sha, self.host.clock.now());
        (entry.reference, entry.by) = match &self.private {
            Some(private) => (private.reference.clone(), private.by.clone()),
            None => (self.spec.reference.clone(), self.spec.by.clone()),
        };
        entry.private_until = self.private.as_ref().map(|private| private.until);
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
                if let Err(error) = root.remove_tree(&partial) {
                    tracing::warn!("{}: {}", self.spec.app, Failure::from(error));
                }
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
        let checked = self.spec.allow_refs.fingerprint();
        attempt.stage(Stage::Fetch, Some(&checked), |_| {
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
            assets::make_place(self, partial)?;
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
            Err(Trouble::Refused(failure) | Trouble::Other(failure)) => return Err(failure),
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
            Err(Trouble::Refused(failure) | Trouble::Other(failure)) => Err(failure),
            Err(Trouble::Mirror(why)) => Err(Failure::new(why)),
        }
    }

    /// The stages from a tree that is laid out (just now, if `laid` is there) to a whole release.
    pub(super) fn finish(
        &self,
        record: &mut Record,
        name: &str,
        laid: Option<Laid>,
    ) -> Result<(), Failure> {
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
    pub(super) fn failed(&self, attempt: &mut Attempt<'_, '_>, failure: Failure) -> Failure {
        if self.host.stop.is_set() {
            return attempt.save().err().unwrap_or(failure);
        }
        // What is whole was built in time, whatever failed since.
        let is_building = !attempt.entry().state.is_whole();
        let late = is_building.then(|| self.in_time().err()).flatten();
        let failure = late.clone().unwrap_or(failure);
        let noted = attempt.failed(&failure, late.is_some());
        if let Err(failure) = keep::failed(self, attempt.record) {
            tracing::warn!("{}: clearing up: {failure}", self.spec.app);
        }
        noted.err().unwrap_or(failure)
    }
}
