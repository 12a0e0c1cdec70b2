//! The part of a repository that an app is deployed from: with a `subdir` only that folder, and what it needs `also`.

use std::path::{Component, Path, PathBuf};

use super::layout::stays_inside;
use crate::problem::Problem;

/// The file with git's attributes, which apply to the folder that it is in and all below.
pub(crate) const ATTRIBUTES_FILE: &str = ".gitattributes";

/// The paths of a repository that are checked out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Empty: the app is all of the repository.
    subdir: PathBuf,
    also: Vec<PathBuf>,
}

impl Selection {
    pub(in crate::release) fn new(subdir: Option<&Path>, also: &[PathBuf]) -> Selection {
        // `services//shop` is `services/shop`.
        let plain = |path: &Path| path.components().collect();
        Selection {
            subdir: plain(subdir.unwrap_or(Path::new(""))),
            also: also.iter().map(|path| plain(path)).collect(),
        }
    }

    /// The app's folder in the repository; empty for its top.
    pub(crate) fn subdir(&self) -> &Path {
        &self.subdir
    }

    /// Whether all of the repository is checked out.
    pub(crate) fn is_everything(&self) -> bool {
        self.subdir.as_os_str().is_empty()
    }

    /// The selected paths; none if it is everything.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        let subdir = std::iter::once(self.subdir.as_path()).filter(|_| !self.is_everything());
        subdir.chain(self.also.iter().map(PathBuf::as_path))
    }

    /// Whether an entry of a commit is checked out: a selected one, a folder above it, or the attributes that apply to it.
    pub(crate) fn includes(&self, path: &Path, is_folder: bool) -> bool {
        let above = || match is_folder {
            true => Some(path),
            false if path.ends_with(ATTRIBUTES_FILE) => path.parent(),
            false => None,
        };
        self.is_everything()
            || self.paths().any(|selected| {
                path.starts_with(selected) || above().is_some_and(|it| selected.starts_with(it))
            })
    }

    /// The files with attributes that apply to selected paths from above.
    pub(crate) fn attributes_above(&self) -> impl Iterator<Item = PathBuf> {
        let above = self.paths().flat_map(|path| path.ancestors().skip(1));
        above.map(|folder| folder.join(ATTRIBUTES_FILE))
    }

    /// Whether a path that a step names is checked out, as far as it tells.
    pub(super) fn covers(&self, path: &Path) -> bool {
        let path = self.path_in_repository(path);
        self.is_everything() || self.paths().any(|selected| path.starts_with(selected))
    }

    /// A path that a step names, as one from the top of the repository: it is relative to the app's folder, unless it
    /// begins with `/`.
    pub(crate) fn path_in_repository(&self, path: &Path) -> PathBuf {
        match path.strip_prefix("/") {
            Ok(from_top) => from_top.to_owned(),
            Err(_) => {
                let parts = path.components().filter(|part| *part != Component::CurDir);
                self.subdir.components().chain(parts).collect()
            }
        }
    }

    /// Refuses paths that cannot be selected.
    pub(super) fn validate(&self) -> Result<(), Problem> {
        if self.is_everything() {
            return match self.also.is_empty() {
                true => Ok(()),
                false => Err(Problem::new("expected `subdir` beside it: without one, all of the repository is checked out")
                    .field("also")),
            };
        }
        let mut known: Vec<&Path> = Vec::new();
        for path in self.paths() {
            let field = if known.is_empty() { "subdir" } else { "also" };
            let refused = |why: String| Err(Problem::new(why).field(field));
            let is_git = |part: Component<'_>| part.as_os_str().eq_ignore_ascii_case(".git");
            if !stays_inside(path) || path.components().any(is_git) {
                return refused(format!(
                    "`{}` is not a path inside the repository: expected a relative one without `..`, such as `services/shop`",
                    path.display()
                ));
            }
            // Git reads these as patterns.
            if path
                .to_str()
                .is_none_or(|path| path.contains(['*', '?', '[', '\\']))
            {
                return refused(format!(
                    "`{}` is a pattern: expected the path of one folder",
                    path.display()
                ));
            }
            if let Some(other) = known
                .iter()
                .find(|other| path.starts_with(other) || other.starts_with(path))
            {
                return refused(format!(
                    "`{}` and `{}` overlap: list only one of them",
                    path.display(),
                    other.display()
                ));
            }
            known.push(path);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(subdir: &str, also: &[&str]) -> Selection {
        let also: Vec<PathBuf> = also.iter().map(PathBuf::from).collect();
        let subdir = Some(Path::new(subdir)).filter(|subdir| *subdir != Path::new(""));
        Selection::new(subdir, &also)
    }

    #[test]
    fn only_selected_paths_and_their_attributes_are_checked_out() {
        let shop = selection("services/shop", &["packages/common", "package.json"]);
        for (path, is_folder) in [
            ("services", true),
            ("services/shop", true),
            ("services/shop/app.js", false),
            ("packages", true),
            ("packages/common/x/y", false),
            ("package.json", false),
            (".gitattributes", false),
            ("services/.gitattributes", false),
        ] {
            assert!(shop.includes(Path::new(path), is_folder), "{path}");
        }
        for (path, is_folder) in [
            ("README", false),
            ("services", false),
            ("services/shop2", true),
            ("services/cart/.gitattributes", false),
            ("packages/other", true),
            ("docs", true),
        ] {
            assert!(!shop.includes(Path::new(path), is_folder), "{path}");
        }
        assert!(selection("", &[]).includes(Path::new("docs/x"), false));
    }

    #[test]
    fn paths_of_steps_begin_in_the_folder_of_the_app() {
        let path = |subdir, path| {
            let path = selection(subdir, &[]).path_in_repository(Path::new(path));
            path.to_str().unwrap().to_owned()
        };
        assert_eq!(path("services/shop", "Gemfile"), "services/shop/Gemfile");
        assert_eq!(path("services/shop", "."), "services/shop");
        assert_eq!(path("services/shop", "/package.json"), "package.json");
        assert_eq!(path("services/shop", "/"), "");
        assert_eq!(path("", "Gemfile"), "Gemfile");
        assert_eq!(path("", "."), "");
    }

    #[test]
    fn impossible_selections_are_refused_with_their_field() {
        for (subdir, also, field) in [
            ("/srv", &[] as &[&str], "subdir"),
            ("../shop", &[], "subdir"),
            (".", &[], "subdir"),
            ("services/*", &[], "subdir"),
            ("a/.git", &[], "subdir"),
            ("", &["packages"], "also"),
            ("shop", &["/packages"], "also"),
            ("shop", &["shop/x"], "also"),
            ("shop", &["a", "a/b"], "also"),
        ] {
            let problem = selection(subdir, also).validate().unwrap_err();
            assert!(problem.to_string().contains(field), "{problem}");
        }
        selection("shop", &["shop2", "package.json"])
            .validate()
            .unwrap();
    }
}
