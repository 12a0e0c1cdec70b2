//! Looks up the files of roles, templates and environments.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::files::{read_file, unreadable};
use crate::ports::root::{Meta, Root};
use crate::problem::Problem;

/// The files of a policy bundle, in memory. They stand for files of root's own: whoever makes one has verified that they are
/// what a signed manifest names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PolicyFiles {
    /// What stands for its folder in messages.
    pub name: String,
    /// By path, such as `roles/app.yml`.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// Search path for roles, templates and environments: beside the settings first, then the policy bundle, then the shipped ones.
#[derive(Debug, Clone)]
pub(crate) struct Lookup {
    /// The folder of the settings; `None`: there are none.
    own: Option<PathBuf>,
    policy: Option<Rc<PolicyFiles>>,
    /// The folder of the package.
    share: PathBuf,
    pub(super) root: Rc<Root>,
}

/// A file of the search path.
pub(super) struct LookedUp {
    pub path: PathBuf,
    /// `None`: it is in a policy bundle.
    pub meta: Option<Meta>,
    pub body: Vec<u8>,
}

impl Lookup {
    /// `config` is the settings file, `share` the folder of the shipped roles.
    pub(crate) fn for_config(config: &Path, share: &Path) -> Result<Lookup, Problem> {
        let root = Rc::new(Root::real().map_err(unreadable)?);
        Ok(Lookup::with_root(root, config, share))
    }

    /// Those of a bundle and of the package alone.
    pub(crate) fn for_policy(policy: Rc<PolicyFiles>, share: &Path) -> Result<Lookup, Problem> {
        Ok(Lookup {
            own: None,
            policy: Some(policy),
            share: share.to_owned(),
            root: Rc::new(Root::real().map_err(unreadable)?),
        })
    }

    pub(super) fn with_root(root: Rc<Root>, config: &Path, share: &Path) -> Lookup {
        Lookup {
            own: Some(config.parent().unwrap_or(Path::new("/")).to_owned()),
            policy: None,
            share: share.to_owned(),
            root,
        }
    }

    /// The same search path with this policy bundle.
    pub(super) fn with_policy(&self, policy: Option<Rc<PolicyFiles>>) -> Lookup {
        Lookup {
            policy,
            ..self.clone()
        }
    }

    /// The content of `folder/name`, with its path.
    pub(crate) fn read(
        &self,
        folder: &str,
        name: &str,
    ) -> Result<Option<(PathBuf, Vec<u8>)>, Problem> {
        let found = self.find(folder, name)?;
        Ok(found.map(|found| (found.path, found.body)))
    }

    pub(super) fn find(&self, folder: &str, name: &str) -> Result<Option<LookedUp>, Problem> {
        let relative = Path::new(name);
        let climbs = |part| !matches!(part, std::path::Component::Normal(_));
        if name.is_empty() || relative.components().any(climbs) {
            return Err(Problem::new(format!(
                "`{name}` is not a name in {folder}/: expected a relative path without `..`"
            )));
        }
        if let Some(own) = &self.own
            && let Some(found) = self.find_in(own, folder, relative)?
        {
            return Ok(Some(found));
        }
        let key = format!("{folder}/{name}");
        let policy = self.policy.as_ref();
        if let Some((policy, body)) = policy.and_then(|p| Some((p, p.files.get(&key)?))) {
            return Ok(Some(LookedUp {
                path: Path::new(&policy.name).join(&key),
                meta: None,
                body: body.clone(),
            }));
        }
        self.find_in(&self.share, folder, relative)
    }

    fn find_in(
        &self,
        base: &Path,
        folder: &str,
        relative: &Path,
    ) -> Result<Option<LookedUp>, Problem> {
        let path = base.join(folder).join(relative);
        let found = read_file(&self.root, &path)?;
        Ok(found.map(|(meta, body)| LookedUp {
            path,
            meta: Some(meta),
            body,
        }))
    }

    /// The names in `folder` that end in `suffix`, without it, from the whole search path; for suggestions.
    pub(crate) fn names(&self, folder: &str, suffix: &str) -> Vec<String> {
        let mut names = Vec::new();
        for base in self.own.iter().chain([&self.share]) {
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
        let policy = self.policy.iter().flat_map(|policy| policy.files.keys());
        names.extend(policy.filter_map(|path| {
            let name = path.strip_prefix(folder)?.strip_prefix('/')?;
            let name = name.strip_suffix(suffix)?;
            (!name.contains('/')).then(|| name.to_owned())
        }));
        names.sort();
        names.dedup();
        names
    }

    /// The searched folders, for messages.
    pub(crate) fn searched_folders(&self, folder: &str) -> String {
        let policy = self.policy.iter().map(|policy| Path::new(&policy.name));
        let folders = self.own.iter().map(PathBuf::as_path).chain(policy);
        let folders = folders.chain([self.share.as_path()]);
        let paths: Vec<String> = folders
            .map(|base| base.join(folder).display().to_string())
            .collect();
        match paths.as_slice() {
            [own, policy, share] => format!("{own}, {policy} and {share}"),
            _ => paths.join(" and "),
        }
    }
}
