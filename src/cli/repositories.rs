//! Options that name the repositories of apps, and the git of whoever runs trueup.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;

use crate::operate::commits::{Repositories, Source};
use crate::ports::git::Git;
use crate::problem::Problem;
use crate::settings::is_name;

/// Time for the fetch of one repository; the first one of a large repository takes minutes.
const FETCH_TIMEOUT: Duration = Duration::from_secs(600);

#[derive(Debug, Args)]
pub struct RepositoryArgs {
    /// The git repository of an app: a URL, or a path such as CI's checkout; without `APP=` that of the only app [default: `_settings.repositories` of the manifest]
    #[arg(long = "repo", value_name = "[APP=]URL")]
    pub repositories: Vec<String>,
}

impl RepositoryArgs {
    /// The repositories that the options name. `apps`: those that the command is about; empty: all.
    pub(super) fn parse<'g>(
        &self,
        git: &'g Git,
        apps: &[&str],
    ) -> Result<Repositories<'g>, Problem> {
        let mut named = BTreeMap::new();
        let mut default = None;
        for text in &self.repositories {
            let pair = text.split_once('=').filter(|(app, _)| is_name(app));
            let parsed = |text: &str| {
                Source::parse(text).map_err(|problem| Problem {
                    message: format!("--repo: {}", problem.message),
                    ..problem
                })
            };
            match pair {
                Some((app, url)) => {
                    if !apps.is_empty() && !apps.contains(&app) {
                        let problem = Problem::new(format!(
                            "--repo {app}=…: the command is about no app `{app}`"
                        ));
                        return Err(problem.suggest(app, apps.iter().copied()));
                    }
                    if named.insert(app.to_owned(), parsed(url)?).is_some() {
                        return Err(Problem::new(format!("--repo {app}=… is given twice")));
                    }
                }
                None if apps.len() == 1 && default.is_none() => default = Some(parsed(text)?),
                None => {
                    return Err(
                        Problem::new("--repo without `APP=` goes with one app, and once")
                            .hint("as in `--repo shop=git@github.com:acme/shop.git`"),
                    );
                }
            }
        }
        Ok(Repositories::new(git, named, default))
    }
}

/// git, with the environment of whoever runs trueup.
#[expect(
    clippy::disallowed_methods,
    reason = "cli reads the environment and passes values on"
)]
pub(super) fn users_git() -> Git {
    Git::new(std::env::vars_os(), FETCH_TIMEOUT)
}
