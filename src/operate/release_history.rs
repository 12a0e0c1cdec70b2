//! Finds the record and the output of one release.

use crate::operate::CommandError;
use crate::pass::Session;
use crate::problem::{Problem, nearest};
use crate::release::{self, ReleaseHistory, StageEntry};

/// Finds the release of this name, of one app or of all: returns its app and its history. `lines`: how many lines
/// of its output to read for a stage.
pub(crate) fn find(
    session: &Session,
    name: &str,
    app: Option<&str>,
    lines: impl Fn(&StageEntry) -> usize,
) -> Result<(String, ReleaseHistory), CommandError> {
    let apps = session.apps()?;
    let (mut found, mut known) = (Vec::new(), Vec::new());
    for app in apps.select(app)? {
        match release::read_history(app.spec, &session.host, name, &lines)? {
            Some(history) => found.push((app.spec.app.clone(), history)),
            None => known.extend(release::release_names(app.spec, &session.host)?),
        }
    }
    if found.len() > 1 {
        let names: Vec<String> = found.iter().map(|(app, _)| format!("`{app}`")).collect();
        return Err(CommandError::Usage(
            Problem::new(format!("{} have a release `{name}`", names.join(" and ")))
                .hint("select one with `--app APP`"),
        ));
    }
    found.pop().ok_or_else(|| {
        let problem = Problem::new(format!("no app has a release `{name}`"));
        CommandError::Usage(match nearest(name, known.iter().map(String::as_str)) {
            Some(near) => problem.hint(format!("did you mean `{near}`?")),
            None => problem.hint("`trueup releases` shows the existing releases"),
        })
    })
}
