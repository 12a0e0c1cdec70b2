//! Shared outputs: what a step makes from the same inputs is made once and linked into each release.
//!
//! A step works at the path where its output stays (`OUTPUTS_PATH`), because virtual environments and native
//! extensions contain their own path. What it makes in the release instead is moved there afterwards. Then the
//! output loses its write permissions: a later step that added to it would change it under other releases.

mod check;
pub(super) mod forecast;
mod key;
mod store;

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::attempt::{Attempt, StageOutcome};
use super::parents::make_parents;
use super::run::{self, Task};
use super::skip::basis::SkipBasis;
use crate::desired::ResumePolicy;
use crate::ports::exec::{Command, Identity};
use crate::ports::root::{Attrs, FileKind};
use crate::release::app::outputs::SharedOutputs;
use crate::release::deployment::Deployment;
use crate::resource::Failure;
use check::find_outward_link;
use forecast::is_proper;
use key::{OutputInputs, OutputKey, find_inputs, folder_of_step};
use store::{OutputStore, SharedOutput};

/// Time limit of a command `key`.
const KEY_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest output of a command `key`, in bytes.
const MAX_KEY_OUTPUT: u64 = 64 << 10;

/// Time to take the write permissions from an output.
const SEAL_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Links the outputs of a step into the release; runs the step if they do not exist yet.
pub(crate) fn provide(
    attempt: &mut Attempt<'_, '_>,
    task: &Task<'_>,
    outputs: &SharedOutputs,
) -> Result<StageOutcome, Failure> {
    let deployment = attempt.deployment;
    let job = OutputJob {
        deployment,
        release: &attempt.name,
        task,
        outputs,
        store: store_of(deployment),
        step: folder_of_step(&task.name),
    };
    let Some(key) = job.find_key()? else {
        job.run_at(deployment.app_folder(job.release).path())?;
        return Ok(StageOutcome::Done);
    };
    let record = &*attempt.record;
    let existing = match deployment.spec.resume_policy {
        ResumePolicy::FromScratch => None,
        _ => job.store.find(&job.step, &key.name(), |release| {
            release == job.release || is_proper(record, release)
        })?,
    };
    if let Some((output, user)) = existing
        && job.has_all_paths(&output)?
    {
        job.use_output(&output)?;
        let why = SkipBasis::describe_release(record, &user);
        return Ok(StageOutcome::Skipped(why));
    }
    // What a killed build left must not pile up.
    if let Err(failure) = job.store.sweep() {
        tracing::warn!("{}: clearing up outputs: {failure}", deployment.spec.app);
    }
    let output = job
        .store
        .create(&job.step, &key, deployment.host.clock.now())?;
    job.make(&output)?;
    Ok(StageOutcome::Done)
}

/// Removes the outputs that no release uses any more.
pub(crate) fn sweep(deployment: &Deployment<'_>) -> Result<(), Failure> {
    store_of(deployment).sweep()
}

fn store_of<'a>(deployment: &'a Deployment<'_>) -> OutputStore<'a> {
    OutputStore {
        root: &deployment.host.root,
        layout: &deployment.layout,
    }
}

/// A step with shared outputs, in one release.
struct OutputJob<'a> {
    deployment: &'a Deployment<'a>,
    release: &'a str,
    task: &'a Task<'a>,
    outputs: &'a SharedOutputs,
    store: OutputStore<'a>,
    /// The folder of the step's outputs.
    step: String,
}

impl OutputJob<'_> {
    /// The key of the output. `None`: nothing identifies it, so it is not shared.
    fn find_key(&self) -> Result<Option<OutputKey>, Failure> {
        let deployment = self.deployment;
        let inputs = find_inputs(
            deployment.spec,
            deployment.host,
            self.task,
            self.outputs,
            &deployment.sha,
        )?;
        let OutputInputs::Digest(inputs) = inputs else {
            return Ok(None);
        };
        let Some(run) = &self.outputs.key else {
            return Ok(Some(OutputKey::new(inputs, "")));
        };
        let task = Task {
            name: format!("{} (key)", self.task.name),
            title: format!("{} (key)", self.task.title),
            run,
            timeout: KEY_TIMEOUT,
            ..*self.task
        };
        let printed = run::run(deployment, self.release, &task)?;
        if printed.total() > MAX_KEY_OUTPUT {
            return Err(Failure::new(format!(
                "the command `key` of `{}` printed {} bytes: expected at most {MAX_KEY_OUTPUT}",
                self.task.name,
                printed.total()
            ))
            .hint("let it end in `| sha256sum`"));
        }
        Ok(Some(OutputKey::new(inputs, &printed.text())))
    }

    /// Runs the step with this folder as `OUTPUTS_PATH`.
    fn run_at(&self, folder: &Path) -> Result<(), Failure> {
        let task = Task {
            name: self.task.name.clone(),
            title: self.task.title.clone(),
            outputs_path: Some(folder),
            ..*self.task
        };
        run::run(self.deployment, self.release, &task).map(|_| ())
    }

    /// Makes the output. What depends on its place in the release stays there.
    fn make(&self, output: &SharedOutput) -> Result<(), Failure> {
        let (root, layout) = (&self.deployment.host.root, &self.deployment.layout);
        let tree = layout.deploy_to().join(output.tree());
        let identity = run::identity(self.deployment, self.task.user)?;
        let identity = identity.filter(|_| root.is_privileged());
        root.set_attrs(
            &tree,
            &Attrs {
                mode: Some(0o755),
                uid: identity.as_ref().map(|user| user.uid),
                gid: identity.as_ref().map(|user| user.gid),
            },
        )?;
        self.run_at(&tree)?;
        if let Err(why) = self.check_release(output) {
            // Nothing was moved yet. What was made in the other place would be missing in the release.
            if !root.list(&tree)?.unwrap_or_default().is_empty() {
                return Err(why);
            }
            tracing::warn!(
                "{}: the outputs of `{}` stay in the release and are made again for the next one: {why}",
                self.deployment.spec.app,
                self.task.name
            );
            return Ok(());
        }
        self.collect(output)?;
        if let Some(link) = find_outward_link(self.deployment, &tree, Path::new(""), self.outputs)?
        {
            return Err(link.failure(&self.task.name));
        }
        if let Some(user) = identity {
            self.take_write_permissions(&tree, user)?;
        }
        // The first file in `releases` says that it is complete: also after a power cut.
        root.sync_filesystem(&tree)?;
        self.use_output(output)
    }

    /// Makes an output read-only for its owner, as its owner: root would follow a link that he puts there
    /// meanwhile. Files with other names are left out: they belong to a cache as well, such as that of uv or
    /// pnpm.
    fn take_write_permissions(&self, tree: &Path, user: Identity) -> Result<(), Failure> {
        let tree = self.deployment.host.root.machine_path(tree);
        let mut command = Command::new(["find"]).timeout(SEAL_TIMEOUT);
        command.argv.push(tree.into());
        let chosen = "( -type d -o -type f -links 1 ) -exec chmod a-w {} +";
        command.argv.extend(chosen.split(' ').map(OsString::from));
        command.identity = Some(user);
        self.deployment.host.exec.run_checked(command)?;
        Ok(())
    }

    /// Whether an output has a path. If not, the step made it in the release, or somebody removed it.
    fn has_path(&self, output: &SharedOutput, path: &Path) -> Result<bool, Failure> {
        let (root, layout) = (&self.deployment.host.root, &self.deployment.layout);
        let path = layout.deploy_to().join(output.tree()).join(path);
        Ok(root.meta(&path)?.is_some())
    }

    fn has_all_paths(&self, output: &SharedOutput) -> Result<bool, Failure> {
        for path in &self.outputs.paths {
            if !self.has_path(output, path)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Fails unless the step made all its outputs, and what it made in the release can be moved.
    fn check_release(&self, output: &SharedOutput) -> Result<(), Failure> {
        let root = &self.deployment.host.root;
        let app = self.deployment.app_folder(self.release);
        for path in &self.outputs.paths {
            if self.has_path(output, path)? {
                continue;
            }
            let kind = root.meta(&app.path().join(path))?.map(|meta| meta.kind);
            // Another user's folder is not root's to move.
            let is_own = self.task.user == self.deployment.spec.user.as_deref();
            if !is_own || !matches!(kind, Some(FileKind::Directory | FileKind::File)) {
                return Err(Failure::new(format!(
                    "the step `{}` did not make its output {}",
                    self.task.name,
                    path.display()
                ))
                .hint("it has to be in the folder `$OUTPUTS_PATH`, or in the release"));
            }
            if let Some(link) = find_outward_link(self.deployment, app.path(), path, self.outputs)?
            {
                return Err(link.failure(&self.task.name));
            }
        }
        Ok(())
    }

    /// Moves what the step made in the release to the output.
    fn collect(&self, output: &SharedOutput) -> Result<(), Failure> {
        let (root, layout) = (&self.deployment.host.root, &self.deployment.layout);
        let tree = layout.deploy_to().join(output.tree());
        let app = self.deployment.app_folder(self.release);
        let top = root.open_user_tree(&tree)?;
        let top = top.ok_or_else(|| Failure::new(format!("{} disappeared", tree.display())))?;
        for path in &self.outputs.paths {
            if self.has_path(output, path)? {
                continue;
            }
            if !make_parents(self.deployment, &top, path)? {
                return Err(blocked(&tree.join(path)));
            }
            let (from, to) = (app.path().join(path), tree.join(path));
            // A release may be a subvolume, out of which nothing can be renamed.
            if root.rename(&from, &to).is_err() {
                root.copy_tree(&from, &to, &self.deployment.host.stop)?;
                root.remove_tree(&from)?;
            }
        }
        Ok(())
    }

    /// Links the paths of an output into the release.
    fn use_output(&self, output: &SharedOutput) -> Result<(), Failure> {
        let root = &self.deployment.host.root;
        // First, so that nothing removes it meanwhile.
        self.store.add_user(output, self.release)?;
        let app = self.deployment.app_folder(self.release);
        let release = app.path();
        let top = app.open(root)?;
        let top = top.ok_or_else(|| Failure::new(format!("{} disappeared", release.display())))?;
        for path in &self.outputs.paths {
            root.remove_tree(&release.join(path))?;
            let folder = match make_parents(self.deployment, &top, path)? {
                true => top.open_folder(path.parent().unwrap_or(Path::new("")))?,
                false => None,
            };
            let Some((folder, name)) = folder.zip(path.file_name()) else {
                return Err(blocked(&release.join(path)));
            };
            let target = app.link_target(path, &output.tree().join(path));
            let attrs = self.deployment.owner.attrs(0o777);
            folder.create_symlink(name, target.as_os_str(), &attrs)?;
        }
        Ok(())
    }
}

fn blocked(path: &Path) -> Failure {
    Failure::new(format!(
        "cannot make {}: a folder on its path is a link, a file, a mount or another user's",
        path.display()
    ))
}
