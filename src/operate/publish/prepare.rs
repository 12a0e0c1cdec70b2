//! Turns what a person or CI names into shas, and looks up what they bring.

use std::collections::BTreeMap;

use crate::desired::{CommitList, EnvironmentSettings, Manifest, PublishRequest, Sha};
use crate::operate::CommandError;
use crate::operate::commits::{AppCommits, CommitRange, Repositories, Resolved, Revision};
use crate::operate::manifest::{check_new_names, read_manifest};
use crate::pass::PassError;
use crate::ports::git::GitError;
use crate::ports::store::{GetOutcome, Store};
use crate::problem::Problem;
use crate::settings::Signers;

/// An app, and the commit that it is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedCommit {
    pub app: String,
    pub revision: Revision,
    /// The ref that the sha came from, if the caller knows it.
    pub reference: Option<String>,
}

/// How shas are looked up.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LookupOptions {
    /// The shas are built ahead and not activated.
    pub next: bool,
    /// Full shas are taken without asking their repositories.
    pub unchecked: bool,
}

/// What is known before the manifest is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Preparation {
    /// What each app gets, where it had another sha before.
    pub ranges: BTreeMap<String, CommitRange>,
    pub warnings: Vec<Problem>,
    /// The manifest as it is now; `None`: there is none, or it is invalid.
    pub manifest: Option<Manifest>,
}

/// Resolves the commits by their repositories, and adds them to the request. Refuses what hosts would refuse. With signers,
/// one of them has to have signed the environment.
pub(crate) fn prepare(
    (store, key): (&dyn Store, &str),
    signers: Option<&Signers>,
    wanted: &[WantedCommit],
    options: LookupOptions,
    repositories: &mut Repositories<'_>,
    request: &mut PublishRequest,
) -> Result<Preparation, CommandError> {
    let manifest = match store.get(key, None).map_err(PassError::Store)? {
        // Whoever writes it says what is wrong with it.
        GetOutcome::Object(object) => match Manifest::parse(key, &object.body).ok() {
            // It names the repositories, and what is published is signed with them.
            Some(manifest)
                if signers.is_some()
                    && manifest.environments.contains_key(&request.environment) =>
            {
                Some(read_manifest(store, key, &request.environment, signers)?)
            }
            other => other,
        },
        GetOutcome::Missing | GetOutcome::Unchanged => None,
    };
    let environments = manifest.as_ref().map(|manifest| &manifest.environments);
    let environment = environments.and_then(|known| known.get(&request.environment));
    let settings = environment.and_then(|known| known.settings.as_ref().ok());
    // Before a repository is asked for an app that there is not.
    if let (Some(manifest), false) = (&manifest, request.create) {
        let apps: Vec<&str> = wanted.iter().map(|one| one.app.as_str()).collect();
        check_new_names(manifest, &request.environment, &apps, "add --create")?;
    }
    let mut preparation = Preparation::default();
    for one in wanted {
        let commits = open(
            one,
            options,
            settings,
            repositories,
            &mut preparation.warnings,
        )?;
        let resolved = match (&commits, &one.revision) {
            (Some(commits), revision) => commits.resolve(revision)?,
            (None, Revision::Full(sha)) => unresolved(sha),
            (None, Revision::Name(name)) => {
                return Err(unknown_repository(&one.app, name, &request.environment));
            }
        };
        preparation.warnings.extend(resolved.warnings);
        let before = environment.and_then(|known| known.own_entry(&one.app)?.ok());
        let before = before.map(|entry| entry.sha.clone());
        if !options.next {
            request.relied_on.insert(one.app.clone(), before.clone());
        }
        if let Some(from) = before {
            let range = match &commits {
                // A clone may lack what only this needs, such as trees; the sha is good nevertheless.
                Some(commits) => commits
                    .commits_between(&from, &resolved.sha)
                    .unwrap_or_else(|error| {
                        CommitRange::unknown(&from, &resolved.sha, error.summary())
                    }),
                None => CommitRange::unknown(&from, &resolved.sha, "its repository was not asked"),
            };
            let lines = range.subjects();
            if !lines.is_empty() && !options.next {
                let list = CommitList { from, lines };
                request.commits.insert(one.app.clone(), list);
            }
            preparation.ranges.insert(one.app.clone(), range);
        }
        // What the caller says goes before the short name of what was resolved.
        if let Some(reference) = one.reference.clone().or(resolved.reference) {
            request.references.insert(one.app.clone(), reference);
        }
        let list = match options.next {
            true => &mut request.next,
            false => &mut request.shas,
        };
        list.push((one.app.clone(), resolved.sha));
    }
    preparation.manifest = manifest;
    Ok(preparation)
}

/// Opens the repository of an app. `None`: it cannot be asked, and the full sha is taken as it is.
fn open<'g>(
    wanted: &WantedCommit,
    options: LookupOptions,
    settings: Option<&EnvironmentSettings>,
    repositories: &mut Repositories<'g>,
    warnings: &mut Vec<Problem>,
) -> Result<Option<AppCommits<'g>>, CommandError> {
    let app = &wanted.app;
    let is_full = matches!(wanted.revision, Revision::Full(_));
    if options.unchecked && is_full {
        return Ok(None);
    }
    let unasked = |why: &str| {
        Problem::new(format!(
            "{app}: {why}, so nobody has checked that the sha is there and may be deployed"
        ))
    };
    match repositories.open(app, settings) {
        Ok(None) if is_full => {
            warnings.push(unasked("no repository is known").hint(format!(
                "`_settings: {{repositories: {{{app}: URL}}}}` in the manifest names it, or `--repo {app}=URL`"
            )));
            Ok(None)
        }
        Ok(opened) => Ok(opened),
        Err(GitError::NoProgram) if is_full => {
            warnings.push(
                unasked("there is no program `git` on this machine")
                    .hint("install the package `git`"),
            );
            Ok(None)
        }
        Err(error) => {
            let hint = error.hint();
            let unchecked = is_full.then(|| {
                "`--unchecked` publishes a full sha without asking its repository".to_owned()
            });
            let hints: Vec<String> = hint.into_iter().chain(unchecked).collect();
            let problem = Problem::new(format!("{app}: {error}"));
            Err(CommandError::Failed(match hints.is_empty() {
                true => problem,
                false => problem.hint(hints.join("; ")),
            }))
        }
    }
}

fn unresolved(sha: &Sha) -> Resolved {
    Resolved {
        sha: sha.clone(),
        reference: None,
        warnings: Vec::new(),
    }
}

fn unknown_repository(app: &str, name: &str, environment: &str) -> CommandError {
    CommandError::Usage(
        Problem::new(format!(
            "{app}: no repository is known in which to look up `{name}`"
        ))
        .hint(format!(
            "`--repo {app}=URL` names it once, `_settings: {{repositories: {{{app}: URL}}}}` below {environment} in the manifest for ever; a full sha needs none"
        )),
    )
}
