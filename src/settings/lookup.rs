//! Looks up the files of roles, templates and environments.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::files::{read_file, unreadable};
use crate::ports::root::{Meta, Root};
use crate::problem::Problem;

/// Search path for roles, templates and environments: beside the settings first, then the shipped ones.
#[derive(Debug, Clone)]
pub(crate) struct Lookup {
    folders: Vec<PathBuf>,
    pub(super) root: Rc<Root>,
}

impl Lookup {
    /// `config` is the settings file, `share` the folder of the shipped roles.
    pub(crate) fn for_config(config: &Path, share: &Path) -> Result<Lookup, Problem> {
        let root = Rc::new(Root::real().map_err(unreadable)?);
        Ok(Lookup::with_root(root, config, share))
    }

    pub(super) fn with_root(root: Rc<Root>, config: &Path, share: &Path) -> Lookup {
        let base = config.parent().unwrap_or(Path::new("/")).to_owned();
        Lookup {
            folders: vec![base, share.to_owned()],
            root,
        }
    }

    /// The content of `folder/name`, with its path.
    pub(crate) fn read(
        &self,
        folder: &str,
        name: &str,
    ) -> Result<Option<(PathBuf, Vec<u8>)>, Problem> {
        let found = self.find(folder, name)?;
        Ok(found.map(|(path, _, body)| (path, body)))
    }

    pub(super) fn find(
        &self,
        folder: &str,
        name: &str,
    ) -> Result<Option<(PathBuf, Meta, Vec<u8>)>, Problem> {
        let relative = Path::new(name);
        let climbs = |part| !matches!(part, std::path::Component::Normal(_));
        if name.is_empty() || relative.components().any(climbs) {
            return Err(Problem::new(format!(
                "`{name}` is not a name in {folder}/: expected a relative path without `..`"
            )));
        }
        for base in &self.folders {
            let path = base.join(folder).join(relative);
            if let Some((meta, body)) = read_file(&self.root, &path)? {
                return Ok(Some((path, meta, body)));
            }
        }
        Ok(None)
    }

    /// The names in `folder` that end in `suffix`, without it, from the whole search path; for suggestions.
    pub(crate) fn names(&self, folder: &str, suffix: &str) -> Vec<String> {
        let mut names = Vec::new();
        for base in &self.folders {
            let found = self
                .root
                .list(&base.join(folder))
                .ok()
                .flatten()
                .unwrap_or_default();
            names.extend(
                found
                    .iter()
                    .filter_map(|name| Some(name.to_str()?.strip_suffix(suffix)?.to_owned())),
            );
        }
        names.sort();
        names.dedup();
        names
    }

    /// The searched folders, for messages.
    pub(crate) fn searched_folders(&self, folder: &str) -> String {
        let paths: Vec<String> = self
            .folders
            .iter()
            .map(|base| base.join(folder).display().to_string())
            .collect();
        paths.join(" and ")
    }
}
