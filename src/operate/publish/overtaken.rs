//! Publishes a request of CI, unless another job with a newer commit comes first: the older job would take that back.

use super::prepare::{LookupOptions, Preparation};
use crate::desired::{CommitList, PublishRequest, PublishSummary, ShaChange};
use crate::operate::CommandError;
use crate::operate::commits::{Direction, Repositories};
use crate::problem::Problem;

/// How often it looks again. Each time somebody else has published the same app.
const MAX_LOOKS: u32 = 10;

/// Publishes a prepared request, by `publish`. Looks again at an app that somebody else moved since it was prepared.
pub(crate) fn publish_prepared(
    prepared: &mut Preparation,
    options: LookupOptions,
    repositories: &mut Repositories<'_>,
    request: &mut PublishRequest,
    publish: &mut dyn FnMut(&PublishRequest) -> Result<PublishSummary, CommandError>,
) -> Result<PublishSummary, CommandError> {
    for _ in 0..MAX_LOOKS {
        match publish(request) {
            Err(CommandError::Overtaken(moved)) => {
                for change in &moved {
                    look_again(change, prepared, options, repositories, request)?;
                }
            }
            done => return done,
        }
    }
    publish(request)
}

/// Accepts a sha that came first if the one to publish contains it.
fn look_again(
    change: &ShaChange,
    prepared: &mut Preparation,
    options: LookupOptions,
    repositories: &mut Repositories<'_>,
    request: &mut PublishRequest,
) -> Result<(), CommandError> {
    let ShaChange { app, from, to } = change;
    let refuse = |why: String| {
        Err(CommandError::Held(
            Problem::new(format!("{app}: {why}")).hint(format!(
                "nothing was written; run the job again if {} is to go nevertheless",
                to.short()
            )),
        ))
    };
    let Some(from) = from else {
        return refuse("somebody else removed it meanwhile".into());
    };
    let came_first = format!("somebody else published {} meanwhile", from.short());
    let environments = prepared.manifest.as_ref().map(|known| &known.environments);
    let environment = environments.and_then(|known| known.get(&request.environment));
    let settings = environment.and_then(|known| known.settings.as_ref().ok());
    let commits = match options.unchecked {
        true => None,
        false => repositories.open(app, settings)?,
    };
    let Some(commits) = commits else {
        return refuse(format!(
            "{came_first}, and no repository says which of the two is newer"
        ));
    };
    let range = commits.commits_between(from, to)?;
    match range.direction {
        Direction::Forward | Direction::Same => {}
        Direction::Backward => {
            return refuse(format!("{came_first}, which is newer than {}", to.short()));
        }
        Direction::Diverged => {
            return refuse(format!(
                "{came_first}, which {} does not contain",
                to.short()
            ));
        }
        Direction::Unknown => {
            let why = range.why_unknown.unwrap_or_default();
            return refuse(format!("{came_first}, which may be newer: {why}"));
        }
    }
    let list = CommitList {
        from: from.clone(),
        lines: range.subjects(),
    };
    request.commits.insert(app.clone(), list);
    request.relied_on.insert(app.clone(), Some(from.clone()));
    prepared.ranges.insert(app.clone(), range);
    Ok(())
}
