//! The build of one release, stage by stage: from a sha to a complete release.

use std::path::Path;

use super::activation;
use super::app::layout::{self, AppFolder};
use super::app::spec::ReleaseSpec;
use super::app::stage::Stage;
use super::deployment::{DeployOutcome, Deployment};
use super::record::ReleaseRecord;
use super::record::entry::{ReleaseEntry, ReleaseStatus, StageEntry};
use super::source::error::SourceError;
use super::source::mirror;
use super::stages::attempt::{Attempt, StageOutcome};
use super::stages::description::BuildDescription;
use super::stages::materialise::{self, Checkout};
use super::stages::resume::{self, BuildBase};
use super::stages::unchanged::{self, Comparison, SameFiles, record_same_files};
use super::stages::{
    activate, active_links, assets, build, files, folders, keep, link, permission, rollback,
};
use crate::desired::{ResumePolicy, Sha};
use crate::ports::Host;
use crate::ports::root::FileKind;
use crate::resource::{Failure, FailureKind};

/// Activates a release of `sha`, an existing complete one or a new one, and puts it on trial.
pub(crate) fn deploy(spec: &ReleaseSpec, sha: &Sha, host: &Host) -> Result<DeployOutcome, Failure> {
    let deployment = Deployment::new(spec, sha, host)?;
    let (mut record, built) = deployment.ensure_built()?;
    let name = match built {
        Built::Release(name) => name,
        Built::Needless(same) => return record_same_files(&deployment, &mut record, same),
    };
    let mut attempt = Attempt {
        deployment: &deployment,
        record: &mut record,
        name,
    };
    // A release that was built with other settings gets the current ones, all at once with the switch. The target of
    // a rollback keeps its own.
    let app = deployment.app_folder(&attempt.name);
    let written = match resume::is_rollback_target(&deployment, attempt.record, &attempt.name)? {
        true => files::write_missing_files(&deployment, &app),
        false => files::write_files(&deployment, &app),
    };
    match written.and_then(|()| activation::activate(&mut attempt)) {
        Ok(outcome) => Ok(outcome),
        // Without a release that runs, the host may be the cause.
        Err(failure) if failure.is(FailureKind::Permanent) && deployment.previous.is_some() => {
            refuse(&mut attempt, &failure)
        }
        Err(failure) => Err(deployment.record_failure(&mut attempt, failure)),
    }
}

/// Ends the deployment of a release that failed its preflight.
fn refuse(attempt: &mut Attempt<'_, '_>, why: &Failure) -> Result<DeployOutcome, Failure> {
    permission::note_failure(attempt.deployment.spec, attempt.deployment.host, why);
    rollback::quarantine(attempt.deployment, attempt.entry(), why)?;
    attempt.set_status(ReleaseStatus::Bad, Some(why.summary()));
    attempt.save()?;
    attempt.deployment.prune_failed(attempt.record);
    let context = format!(
        "{} was not activated, because it failed its preflight",
        attempt.name
    );
    Ok(DeployOutcome::Refused(why.clone().with_context(&context)))
}

/// Builds a release of `sha` without activating it, unless none is needed.
///
/// First removes releases that were built ahead and are no longer wanted: otherwise a manifest that names
/// another sha each time would fill the disk.
pub(crate) fn build_ahead(spec: &ReleaseSpec, sha: &Sha, host: &Host) -> Result<(), Failure> {
    let deployment = Deployment::new(spec, sha, host)?;
    let mut record = ReleaseRecord::load(host, &deployment.layout)?;
    keep::prune(&deployment, &mut record)?;
    deployment.ensure_built().map(|_| ())
}

/// Rewrites the rendered files of the active release that differ from the role, and makes the links that are
/// missing.
pub(crate) fn refresh(
    spec: &ReleaseSpec,
    sha: &Sha,
    host: &Host,
    name: &str,
) -> Result<(), Failure> {
    let deployment = Deployment::new(spec, sha, host)?;
    files::write_files(&deployment, &deployment.app_folder(name))?;
    // A place that is occupied must not keep a service from its restart.
    active_links::keep_active_links(&deployment, name).map_err(|failure| Failure {
        kind: FailureKind::Degraded,
        ..failure
    })
}

/// What there is of a sha.
pub(crate) enum Built {
    /// A complete release of this name.
    Release(String),
    /// No release: the commit changes nothing.
    Needless(SameFiles),
}

/// The result of the stages up to a linked tree.
enum CreatedTree {
    Checkout(Checkout),
    Needless(SameFiles),
}

impl Deployment<'_> {
    /// Provides a complete release of the sha: an existing one, a resumed one or a new one.
    pub(crate) fn ensure_built(&self) -> Result<(ReleaseRecord, Built), Failure> {
        self.check_stop()?;
        let mut record = ReleaseRecord::load(self.host, &self.layout)?;
        let mut discarded = Vec::new();
        if self.spec.resume_policy == ResumePolicy::FromScratch {
            // Before anything can fail.
            discarded = resume::discard_attempts(self, &mut record)?;
        }
        activate::check_current(self)?;
        folders::prepare_folders(self)?;
        keep::remove_unfinished(self, &mut record);
        let built = match resume::choose_base(self, &record)? {
            BuildBase::Complete(name) => {
                self.check_refs(&mut record, &name)?;
                Built::Release(name)
            }
            BuildBase::Unfinished(name) => {
                self.check_refs(&mut record, &name)?;
                self.resume_build(&mut record, &name)?;
                Built::Release(name)
            }
            BuildBase::Nothing => {
                discarded.extend(resume::discard_attempts(self, &mut record)?);
                self.build_new(&mut record, discarded)?
            }
        };
        Ok((record, built))
    }

    /// Refuses an existing, unproven release unless its sha is on a ref that the current `allow_refs` allows.
    /// Contacts no server if the record says so.
    pub(crate) fn check_refs(&self, record: &mut ReleaseRecord, name: &str) -> Result<(), Failure> {
        let checked = self.spec.allow_refs.fingerprint();
        let Some(entry) = record.find_mut(name) else {
            return Ok(());
        };
        if entry.state == ReleaseStatus::Good || entry.is_done(Stage::Fetch, None, Some(&checked)) {
            return Ok(());
        }
        mirror::ensure_commit(self)?;
        entry.put_stage(StageEntry {
            definition: Some(checked),
            ..StageEntry::done(Stage::Fetch, self.host.clock.now())
        });
        record.save(self.host, &self.layout)
    }

    /// Builds a new release and records it as built, unless the commit changes nothing. First removes the releases that
    /// it replaces.
    pub(crate) fn build_new(
        &self,
        record: &mut ReleaseRecord,
        replaced: Vec<String>,
    ) -> Result<Built, Failure> {
        let (root, layout) = (&self.host.root, &self.layout);
        let taken = |name: &str| {
            record.find(name).is_some() || !matches!(root.meta(&layout.release(name)), Ok(None))
        };
        // Before the replaced ones are gone: no two builds share a name, and with it a log.
        let name = layout::free_name(self.host.clock.now(), &self.sha, taken);
        keep::remove_idle(self, record, replaced);
        let mut entry = ReleaseEntry::new(&name, &self.sha, self.host.clock.now());
        (entry.reference, entry.by) = match &self.private {
            Some(private) => (private.reference.clone(), private.by.clone()),
            None => (self.spec.reference.clone(), self.spec.requested_by.clone()),
        };
        entry.private_until = self.private.as_ref().map(|private| private.until);
        entry.subdir = self.spec.subdir().to_owned();
        self.add_release(&entry);
        record.put(entry);
        let partial = layout.partial_release(&name);
        let mut attempt = Attempt {
            deployment: self,
            record,
            name: name.clone(),
        };
        let created = self.create_tree(&mut attempt, &partial);
        let checkout = match created {
            Ok(CreatedTree::Checkout(checkout)) => checkout,
            Ok(CreatedTree::Needless(same)) => {
                record.forget(&name);
                record.save(self.host, layout)?;
                // Of the hooks up to here.
                root.remove_file(&layout.log(&name))?;
                return Ok(Built::Needless(same));
            }
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
        self.finish_build(record, &name, Some(checkout))?;
        Ok(Built::Release(name))
    }

    /// Runs the stages up to a checked out and linked tree, which is still hidden.
    fn create_tree(
        &self,
        attempt: &mut Attempt<'_, '_>,
        partial: &Path,
    ) -> Result<CreatedTree, Failure> {
        let (mut mirror, mut checkout) = (None, None);
        let checked = self.spec.allow_refs.fingerprint();
        attempt.run_stage(Stage::Fetch, Some(&checked), |_| {
            mirror = Some(mirror::ensure_commit(self)?);
            Ok(StageOutcome::Done)
        })?;
        let mirror = mirror.expect("the stage ends with a mirror or with an error");
        self.check_deadline()?;
        if self.private.is_none()
            && let Comparison::Same(same) =
                unchanged::compare(self.spec, self.host, attempt.record, &self.sha)?
        {
            return Ok(CreatedTree::Needless(same));
        }
        attempt.save()?;
        let description = BuildDescription::of(self.spec);
        let described = Some(description.materialise.as_str());
        attempt.run_stage(Stage::Materialise, described, |_| {
            checkout = Some(self.materialise(mirror, partial)?);
            Ok(StageOutcome::Done)
        })?;
        attempt.run_stage(Stage::Link, Some(&description.link), |attempt| {
            let app = AppFolder::new(partial, self.spec.subdir());
            self.check_app_folder(&app)?;
            files::check_places(self, &app)?;
            link::link(self, &app)?;
            materialise::write_revision_and_chown(self, partial, &app)?;
            assets::make_compile_folder(self, &app)?;
            files::write_files(self, &app)?;
            attempt.put_links_and_files();
            Ok(StageOutcome::Done)
        })?;
        self.check_stop()?;
        attempt.save()?;
        let checkout = checkout.expect("the stage ends with a tree or with an error");
        Ok(CreatedTree::Checkout(checkout))
    }

    /// Fails if git's attributes leave out the app's folder.
    fn check_app_folder(&self, app: &AppFolder) -> Result<(), Failure> {
        let kind = self.host.root.meta(app.path())?.map(|meta| meta.kind);
        if kind == Some(FileKind::Directory) {
            return Ok(());
        }
        Err(Failure::new(format!(
            "nothing of `{}` is left to deploy of the commit {}",
            self.spec.subdir().display(),
            self.sha.short()
        ))
        .hint("look for `export-ignore` in the `.gitattributes` of the repository"))
    }

    fn materialise(&self, mirror: git2::Repository, partial: &Path) -> Result<Checkout, Failure> {
        match materialise::materialise(self, &mirror, partial) {
            Ok(checkout) => return Ok(checkout),
            Err(error @ SourceError::BrokenMirror { .. }) => {
                tracing::warn!("{}: {error}; fetching it again", self.spec.app);
            }
            Err(error) => return Err(error.into()),
        }
        drop(mirror);
        self.host.root.remove_tree(partial)?;
        let mirror = mirror::recreate(self)?;
        Ok(materialise::materialise(self, &mirror, partial)?)
    }

    /// Goes on with an unfinished release, at the stage where it stopped.
    pub(crate) fn resume_build(
        &self,
        record: &mut ReleaseRecord,
        name: &str,
    ) -> Result<(), Failure> {
        tracing::info!("{}: resuming release {name}", self.spec.app);
        files::write_files(self, &self.app_folder(name))?;
        let mut attempt = Attempt {
            deployment: self,
            record,
            name: name.to_owned(),
        };
        attempt.put_links_and_files();
        self.finish_build(record, name, None)
    }

    /// Runs the stages from a checked out tree (with `checkout`, just now) to a complete release.
    fn finish_build(
        &self,
        record: &mut ReleaseRecord,
        name: &str,
        checkout: Option<Checkout>,
    ) -> Result<(), Failure> {
        let mut attempt = Attempt {
            deployment: self,
            record,
            name: name.to_owned(),
        };
        attempt.set_status(ReleaseStatus::Building, None);
        let built =
            build::run_steps(&mut attempt).and_then(|()| build::compile_assets(&mut attempt));
        if let Err(failure) = built {
            return Err(self.record_failure(&mut attempt, failure));
        }
        self.check_stop()?;
        // Nothing else syncs what the steps wrote.
        let by_steps = !self.spec.steps.is_empty() || self.spec.assets.is_some();
        if by_steps || !checkout.is_some_and(|checkout| checkout.is_synced) {
            self.host.root.sync_filesystem(&self.layout.release(name))?;
        }
        attempt.set_status(ReleaseStatus::Built, None);
        attempt.save()
    }

    /// Removes the failed releases before the last one: a row of bad shas must not fill the disk.
    fn prune_failed(&self, record: &mut ReleaseRecord) {
        if let Err(failure) = keep::prune_failed(self, record) {
            tracing::warn!("{}: clearing up: {failure}", self.spec.app);
        }
    }

    /// Records a failure, unless it is only a stop request.
    pub(crate) fn record_failure(
        &self,
        attempt: &mut Attempt<'_, '_>,
        failure: Failure,
    ) -> Failure {
        if self.host.stop.is_set() {
            return attempt.save().err().unwrap_or(failure);
        }
        // A complete release was built in time, whatever failed since.
        let is_building = !attempt.entry().state.is_complete();
        let late = is_building.then(|| self.check_deadline().err()).flatten();
        let failure = late.clone().unwrap_or(failure);
        let noted = attempt.record_failure(&failure, late.is_some());
        self.prune_failed(attempt.record);
        noted.err().unwrap_or(failure)
    }
}
