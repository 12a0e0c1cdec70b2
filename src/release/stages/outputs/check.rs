//! Finds links that lead out of an output: they end elsewhere once it is moved, or nowhere once the release
//! that they lead to is removed.

use std::path::{Component, Path, PathBuf};

use crate::ports::root::{FileKind, WalkLimits};
use crate::release::app::outputs::SharedOutputs;
use crate::release::deployment::Deployment;
use crate::resource::Failure;

/// Limits for walking an output: they bound the memory and the time.
const WALK_LIMITS: WalkLimits = WalkLimits {
    entries: 1_000_000,
    name_bytes: 128 << 20,
};

/// A link that leads out of an output.
pub(super) struct OutwardLink {
    path: PathBuf,
    target: PathBuf,
}

impl OutwardLink {
    pub(super) fn failure(&self, step: &str) -> Failure {
        Failure::new(format!(
            "the output {} of `{step}` is a link to {}, outside of the outputs",
            self.path.display(),
            self.target.display()
        ))
        .hint("outputs with `by` must not depend on the place of the release, as those of a workspace do: use `when_changed` and a list of `outputs`, which are copied")
    }
}

/// The first link below `top`/`path` that leads out of the outputs. `top`: what their paths are relative to.
pub(super) fn find_outward_link(
    deployment: &Deployment<'_>,
    top: &Path,
    path: &Path,
    outputs: &SharedOutputs,
) -> Result<Option<OutwardLink>, Failure> {
    let root = &deployment.host.root;
    let Some(tree) = root.open_user_tree(top)? else {
        return Ok(None);
    };
    let Some(tree) = tree.subtree(path)? else {
        return Ok(None);
    };
    let layout = &deployment.layout;
    let is_of_the_app = |target: &Path| {
        let is_below = |folder: &Path| target.starts_with(root.machine_path(folder));
        is_below(layout.deploy_to()) && !is_below(&layout.outputs()) && !is_below(&layout.shared())
    };
    for (below, entry) in tree.walk(WALK_LIMITS)? {
        if entry.kind != FileKind::Symlink {
            continue;
        }
        let folder = tree.open_folder(below.parent().unwrap_or(Path::new("")))?;
        let Some((folder, name)) = folder.zip(below.file_name()) else {
            continue;
        };
        let target = PathBuf::from(folder.read_link(name)?);
        let own = path.join(&below);
        let is_inside = match target.is_absolute() {
            true => !is_of_the_app(&target),
            false => resolve(&own, &target)
                .is_some_and(|end| outputs.paths.iter().any(|path| end.starts_with(path))),
        };
        if !is_inside {
            return Ok(Some(OutwardLink { path: own, target }));
        }
    }
    Ok(None)
}

/// The end of a relative link at `path`, if it is below the folder that `path` is relative to.
fn resolve(path: &Path, target: &Path) -> Option<PathBuf> {
    let mut end = path.parent()?.to_owned();
    for part in target.components() {
        match part {
            Component::ParentDir if !end.pop() => return None,
            Component::ParentDir | Component::CurDir => {}
            Component::Normal(name) => end.push(name),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_resolved_relative_to_their_own_folder() {
        let end = |path, target| resolve(Path::new(path), Path::new(target));
        assert_eq!(
            end("node_modules/.bin/x", "../x/cli.js"),
            Some("node_modules/x/cli.js".into())
        );
        assert_eq!(
            end("node_modules/common", "../packages/common"),
            Some("packages/common".into())
        );
        assert_eq!(end("node_modules/common", "../../common"), None);
    }
}
