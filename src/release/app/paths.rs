//! Validates the paths in a release that its spec describes: links, assets, rendered files and shared outputs.

use std::path::{Component, Path};

use super::layout::stays_inside;
use super::spec::ReleaseSpec;
use crate::problem::Problem;

/// The folder of the files that the roles render.
const ROLE_FOLDER: &str = ".trueup";

/// A path, and the field that describes it.
struct DescribedPath<'a> {
    field: String,
    path: &'a Path,
    /// Whether it is a configuration file of the app.
    is_config: bool,
}

impl ReleaseSpec {
    /// Refuses paths that lead outside, are reserved or overlap.
    pub(super) fn validate_paths(&self) -> Result<(), Problem> {
        let all = self.described_paths();
        for (i, described) in all.iter().enumerate() {
            described.validate()?;
            for other in &all[..i] {
                if described.path.starts_with(other.path) || other.path.starts_with(described.path)
                {
                    return Err(described.overlap(other));
                }
            }
        }
        if self.assets.is_some() && self.linked_dirs.iter().any(|dir| dir.starts_with("assets")) {
            return Err(Problem::new("`shared/assets` is for the compiled assets")
                .field("linked_dirs")
                .hint("remove `assets` from `linked_dirs`, or omit `assets:`"));
        }
        Ok(())
    }

    fn described_paths(&self) -> Vec<DescribedPath<'_>> {
        let plain = |field: &str, path| DescribedPath {
            field: field.to_owned(),
            path,
            is_config: false,
        };
        let dirs = self.linked_dirs.iter();
        let dirs = dirs.map(|path| plain("linked_dirs", path.as_path()));
        let files = self.linked_files.iter();
        let files = files.map(|path| plain("linked_files", path.as_path()));
        let assets = self.assets.iter();
        let assets = assets.map(|assets| plain("assets.path", assets.path.as_path()));
        let rendered = self.files.iter().map(|file| DescribedPath {
            field: file.field(),
            path: &file.path,
            is_config: file.is_config(),
        });
        let outputs = self.steps.iter().enumerate().flat_map(|(i, step)| {
            let shared = step.outputs.shared().into_iter();
            shared.flat_map(move |outputs| outputs.paths.iter().map(move |path| (i, path)))
        });
        let outputs = outputs.map(|(i, path)| plain(&format!("steps[{i}].outputs"), path));
        let all = dirs.chain(files).chain(assets).chain(rendered);
        all.chain(outputs).collect()
    }
}

impl DescribedPath<'_> {
    fn refused(&self, why: &str) -> Problem {
        Problem::new(format!("`{}` {why}", self.path.display())).field(self.field.clone())
    }

    fn validate(&self) -> Result<(), Problem> {
        if !stays_inside(self.path) {
            return Err(self
                .refused("is not a path inside a release: expected a relative one without `..`"));
        }
        let is_git = |part: Component<'_>| part.as_os_str().eq_ignore_ascii_case(".git");
        let in_git = match self.is_config {
            true => self.path.components().any(is_git),
            false => self.path.starts_with(".git"),
        };
        if self.path.starts_with("REVISION") || in_git {
            return Err(self.refused("is reserved: trueup or git writes it"));
        }
        if self.is_config && self.path.starts_with(ROLE_FOLDER) {
            let problem = self.refused("is reserved: the role renders its own files there");
            return Err(problem.hint(
                "for another start command, environment or number of workers set the role's parameters",
            ));
        }
        Ok(())
    }

    fn overlap(&self, other: &DescribedPath<'_>) -> Problem {
        let shown = other.path.display();
        let shared = match other.field.as_str() {
            _ if !self.is_config => None,
            "linked_dirs" => Some("linked_dirs"),
            "linked_files" => Some("linked_files"),
            _ => None,
        };
        match shared {
            Some(field) => self
                .refused(&format!(
                    "cannot be a file of each release: `{shown}` is in `{field}`, which all releases share"
                ))
                .hint(format!("remove `{shown}` from `{field}`, or this file")),
            None => self.refused(&format!("and `{shown}` overlap: list only one of them")),
        }
    }
}
