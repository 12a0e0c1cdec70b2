//! Opens the repositories of apps, each once.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::server_names::ServerNames;
use super::{AppCommits, OpenRepository, Source};
use crate::desired::{AllowedRefs, EnvironmentSettings};
use crate::ports::git::{Git, GitError};

/// The repositories of apps.
pub(crate) struct Repositories<'g> {
    git: &'g Git,
    /// By app: those that the caller names, which go before those of the manifest.
    named: BTreeMap<String, Source>,
    /// For every app that has no own one.
    default: Option<Source>,
    /// By address and refs: apps may share one.
    open: BTreeMap<(String, String), Rc<OpenRepository<'g>>>,
}

impl<'g> Repositories<'g> {
    pub(crate) fn new(
        git: &'g Git,
        named: BTreeMap<String, Source>,
        default: Option<Source>,
    ) -> Repositories<'g> {
        Repositories {
            git,
            named,
            default,
            open: BTreeMap::new(),
        }
    }

    /// The repository of an app, and which refs may be deployed. `settings`: those of the environment, if the manifest has
    /// them. `None`: nobody names it.
    pub(crate) fn source(
        &self,
        app: &str,
        settings: Option<&EnvironmentSettings>,
    ) -> Option<(Source, AllowedRefs)> {
        let setting = settings.and_then(|settings| settings.repositories.get(app));
        let named = self.named.get(app).or(self.default.as_ref());
        let source = named
            .cloned()
            .or_else(|| setting.map(|setting| Source::from(setting.url.clone())))?;
        let allowed = setting.map(|setting| setting.allow_refs.clone());
        Some((source, allowed.unwrap_or_default()))
    }

    /// Opens the repository of an app; a remote one is fetched. `None`: nobody names it.
    pub(crate) fn open(
        &mut self,
        app: &str,
        settings: Option<&EnvironmentSettings>,
    ) -> Result<Option<AppCommits<'g>>, GitError> {
        let Some((source, allowed)) = self.source(app, settings) else {
            return Ok(None);
        };
        let address = match &source {
            Source::Remote(repo) => repo.url().to_owned(),
            Source::Local(path) => path.display().to_string(),
        };
        let refspecs = refspecs(&allowed);
        let key = (address, refspecs.join(" "));
        let repository = match self.open.get(&key) {
            Some(known) => known.clone(),
            None => {
                let opened = Rc::new(self.read(&source, &refspecs)?);
                self.open.insert(key, opened.clone());
                opened
            }
        };
        Ok(Some(AppCommits {
            app: app.to_owned(),
            repository,
            allowed,
        }))
    }

    fn read(&self, source: &Source, refspecs: &[String]) -> Result<OpenRepository<'g>, GitError> {
        let shown = source.to_string();
        let git = match source {
            Source::Remote(repo) => {
                repo.register_secrets();
                let cache = self.git.cache_folder()?;
                tracing::info!("fetching {shown}");
                self.git.fetch(&cache, (repo.url(), &shown), refspecs)?
            }
            Source::Local(path) => self.git.open(path)?,
        };
        let refs = git.refs()?;
        Ok(OpenRepository {
            names: ServerNames::read(&git, &refs)?,
            refs,
            is_shallow: git.is_shallow()?,
            git,
            shown,
        })
    }
}

/// All branches and tags, also those that may not be deployed, so that a refusal can say where a commit is; and the allowed
/// refs of other kinds.
fn refspecs(allowed: &AllowedRefs) -> Vec<String> {
    let mut all: Vec<String> = ["heads", "tags"]
        .map(|kind| format!("+refs/{kind}/*:refs/{kind}/*"))
        .into();
    let is_other =
        |spec: &String| !spec.starts_with("+refs/heads/") && !spec.starts_with("+refs/tags/");
    all.extend(allowed.refspecs().into_iter().filter(is_other));
    all
}
