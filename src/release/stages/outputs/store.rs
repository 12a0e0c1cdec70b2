//! The folder of the shared outputs of an app: `outputs/STEP/KEY.N/`, beside `releases/`.
//!
//! In each such folder `tree` holds what the step made, and `releases` an empty file for each release that
//! links to it. An output is complete exactly if it names a release that exists, and it is removed once it
//! names none: this needs no record that could be lost or contradict the disk.
//!
//! All these folders are root's, except `tree`, which stays its maker's: root changes no owner in it. They are
//! not in `shared/`, where the app's user could swap one for another.

use std::path::PathBuf;

use jiff::Timestamp;

use super::key::OutputKey;
use crate::ports::root::{Attrs, FileKind, Root};
use crate::release::app::layout::{Layout, OUTPUTS, is_release_name};
use crate::resource::Failure;

/// The shared outputs of an app.
pub(crate) struct OutputStore<'a> {
    pub root: &'a Root,
    pub layout: &'a Layout,
}

/// One output: what a step made from one set of inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SharedOutput {
    /// Relative to `deploy_to`.
    folder: PathBuf,
}

impl SharedOutput {
    /// The folder with the paths that the step made, relative to `deploy_to`.
    pub(crate) fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    fn releases(&self) -> PathBuf {
        self.folder.join("releases")
    }
}

impl OutputStore<'_> {
    /// The newest complete output of a step whose name begins with this key, and a release that uses it and
    /// `is_proper`.
    pub(crate) fn find(
        &self,
        step: &str,
        key_prefix: &str,
        is_proper: impl Fn(&str) -> bool,
    ) -> Result<Option<(SharedOutput, String)>, Failure> {
        let mut named = self.list(step)?;
        named.retain(|(name, _)| name.starts_with(key_prefix));
        // The last attempt of those with one key: a fresh build replaces an older output.
        named.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
        for (name, _) in named {
            let output = self.output(step, &name);
            let mut users = self.users(&output)?.into_iter();
            if let Some(release) = users.find(|release| is_proper(release)) {
                return Ok(Some((output, release)));
            }
        }
        Ok(None)
    }

    /// Creates the folder of a new output, with the time in its name: no process that a killed build left
    /// works in it.
    pub(crate) fn create(
        &self,
        step: &str,
        key: &OutputKey,
        now: Timestamp,
    ) -> Result<SharedOutput, Failure> {
        let numbers = self.list(step)?.into_iter().map(|(_, number)| number);
        let now = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let number = numbers.max().map_or(now, |last| now.max(last + 1));
        let output = self.output(step, &format!("{}.{number}", key.name()));
        let folders = [
            self.layout.outputs(),
            self.layout.outputs().join(step),
            self.layout.deploy_to().join(&output.folder),
            self.layout.deploy_to().join(output.releases()),
            self.layout.deploy_to().join(output.tree()),
        ];
        for folder in folders {
            if !self.root.is_in_trusted_folder(&folder)? {
                return Err(Failure::new(format!(
                    "users other than root could change {}",
                    folder.display()
                ))
                .hint("trueup keeps the outputs of steps there: move the folder away"));
            }
            if self.root.meta(&folder)?.is_none() {
                self.root.create_dir(&folder, &self.root_owned())?;
            }
        }
        Ok(output)
    }

    /// Records that a release uses an output.
    pub(crate) fn add_user(&self, output: &SharedOutput, release: &str) -> Result<(), Failure> {
        let file = self.layout.deploy_to().join(output.releases());
        let file = file.join(release);
        Ok(self.root.write_atomic(&file, b"", &Attrs::mode(0o644))?)
    }

    /// Removes the outputs that no existing release uses: also those of builds that did not end. Fails with the
    /// first one that stays, after it tried all.
    pub(crate) fn sweep(&self) -> Result<(), Failure> {
        let mut failed = None;
        let steps = self.root.list(&self.layout.outputs())?;
        for step in steps.unwrap_or_default() {
            let Some(step) = step.to_str() else { continue };
            for (name, _) in self.list(step)? {
                let output = self.output(step, &name);
                if let Err(failure) = self.remove_unused(&output) {
                    failed.get_or_insert(failure);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn remove_unused(&self, output: &SharedOutput) -> Result<(), Failure> {
        let users = self.users(output)?;
        if users.is_empty() {
            let folder = self.layout.deploy_to().join(&output.folder);
            return Ok(self.root.remove_tree_idle(&folder)?);
        }
        let folder = self.layout.deploy_to().join(output.releases());
        for name in self.root.list(&folder)?.unwrap_or_default() {
            if !users.iter().any(|user| name == **user) {
                self.root.remove_file(&folder.join(name))?;
            }
        }
        Ok(())
    }

    fn root_owned(&self) -> Attrs {
        let root = self.root.is_privileged().then_some(0);
        Attrs {
            mode: Some(0o755),
            uid: root,
            gid: root,
        }
    }

    fn output(&self, step: &str, name: &str) -> SharedOutput {
        SharedOutput {
            folder: [OUTPUTS, step, name].iter().collect(),
        }
    }

    /// The outputs of a step by name, complete or not, with their numbers.
    fn list(&self, step: &str) -> Result<Vec<(String, u64)>, Failure> {
        let folder = self.layout.outputs().join(step);
        let is_folder = |path: &PathBuf| -> Result<bool, Failure> {
            let kind = self.root.meta(path)?.map(|meta| meta.kind);
            Ok(kind == Some(FileKind::Directory))
        };
        if !is_folder(&self.layout.outputs())? || !is_folder(&folder)? {
            return Ok(Vec::new());
        }
        let names = self.root.list(&folder)?.unwrap_or_default();
        let names = names.into_iter().filter_map(|name| {
            let name = name.into_string().ok()?;
            let (key, number) = name.split_once('.')?;
            let number = number.parse().ok().filter(|_| OutputKey::is_name(key))?;
            Some((name, number))
        });
        Ok(names.collect())
    }

    /// The existing releases that use an output.
    fn users(&self, output: &SharedOutput) -> Result<Vec<String>, Failure> {
        let folder = self.layout.deploy_to().join(output.releases());
        let mut users = Vec::new();
        for name in self.root.list(&folder)?.unwrap_or_default() {
            let name = name.to_str().filter(|name| is_release_name(name));
            if let Some(name) = name
                && self.root.meta(&self.layout.release(name))?.is_some()
            {
                users.push(name.to_owned());
            }
        }
        users.sort();
        Ok(users)
    }
}
