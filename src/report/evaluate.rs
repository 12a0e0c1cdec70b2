//! Evaluates a report: the state of each app, and the reason why a host is not converged in one line.

use super::{AppReport, AppState, Report, ResourceReport, ResourceStatus};
use crate::exit::Exit;
use crate::resource::one_line;

/// Derives the state of an app from its own resources: the one that deploys it and those that run from it.
pub(super) fn evaluate<'r>(
    app: &AppReport,
    rows: impl Iterator<Item = &'r ResourceReport>,
    stale: Option<&str>,
    refused: Option<&str>,
    stopped: bool,
) -> (AppState, Option<String>) {
    let mut worst = (AppState::Converged, None);
    let mut add = |state, why: Option<String>| {
        if state > worst.0 {
            worst = (state, why);
        }
    };
    add_if(&mut add, AppState::Stale, stale);
    add_if(&mut add, AppState::Refused, refused);
    add_if(&mut add, AppState::Waiting, app.maintenance.as_deref());
    for row in rows {
        let why = || Some(row_line(row));
        match row.status {
            ResourceStatus::Skipped if stopped => add(AppState::Pending, why()),
            ResourceStatus::Failed | ResourceStatus::Skipped => add(AppState::Failed, why()),
            ResourceStatus::RolledBack => add(AppState::RolledBack, why()),
            ResourceStatus::Waiting if app.held.is_some() && app.held == row.why => {
                add(AppState::Held, app.held.clone());
            }
            ResourceStatus::Waiting => add(AppState::Waiting, row.why.clone()),
            ResourceStatus::Pending | ResourceStatus::Unknown => add(AppState::Pending, why()),
            ResourceStatus::Right | ResourceStatus::Changed if !row.owed.is_empty() => {
                add(AppState::Pending, why());
            }
            ResourceStatus::Right | ResourceStatus::Changed => {}
        }
    }
    worst
}

fn add_if(add: &mut dyn FnMut(AppState, Option<String>), state: AppState, why: Option<&str>) {
    if let Some(why) = why {
        add(state, Some(one_line(why)));
    }
}

/// One line for a resource that is not converged.
fn row_line(row: &ResourceReport) -> String {
    let why = row.why.as_deref().map(one_line);
    match (row.status, row.owed.first(), why) {
        (ResourceStatus::Right | ResourceStatus::Changed, Some(obligation), why) => {
            let why = why.map_or(String::new(), |why| format!(": {why}"));
            format!("{} of {} is owed{why}", obligation.duty, row.id)
        }
        (_, _, Some(why)) => format!("{}: {why}", row.id),
        (ResourceStatus::Pending, ..) => format!("{} differs", row.id),
        _ => row.id.clone(),
    }
}

impl Report {
    /// The outcome of the pass, from everything in the report but its own `outcome`.
    pub(super) fn compute_outcome(&self) -> Exit {
        let mut exit = Exit::Converged;
        if self.stale.is_some() || !self.kept_lists.is_empty() || self.publish_error.is_some() {
            exit = exit.merge(Exit::Stale);
        }
        if self.refused.is_some() {
            exit = exit.merge(Exit::BadInput);
        }
        if let Some(policy) = &self.policy {
            exit = exit.merge(policy.phase.outcome());
        }
        if self.apps.iter().any(|app| app.maintenance.is_some()) {
            exit = exit.merge(Exit::Waiting);
        }
        for row in &self.resources {
            exit = exit.merge(match row.status {
                ResourceStatus::Right | ResourceStatus::Changed => Exit::Converged,
                ResourceStatus::Pending | ResourceStatus::Unknown => Exit::Pending,
                ResourceStatus::Waiting => Exit::Waiting,
                ResourceStatus::RolledBack => Exit::RolledBack,
                ResourceStatus::Skipped if self.stopped => Exit::Stopped,
                ResourceStatus::Skipped | ResourceStatus::Failed => Exit::Failed,
            });
            if !row.owed.is_empty()
                && matches!(row.status, ResourceStatus::Right | ResourceStatus::Changed)
            {
                exit = exit.merge(match self.stopped {
                    true => Exit::Stopped,
                    false => Exit::Pending,
                });
            }
        }
        exit
    }

    /// Why the host is not converged, in one line: the deciding resource, and how many more there are like
    /// it. Stable while nothing changes, so that callers can compare it.
    pub(crate) fn why(&self) -> Option<String> {
        let deciding = |row: &&ResourceReport| match self.outcome {
            Exit::Failed => matches!(row.status, ResourceStatus::Failed | ResourceStatus::Skipped),
            Exit::RolledBack => row.status == ResourceStatus::RolledBack,
            Exit::Waiting => row.status == ResourceStatus::Waiting,
            Exit::Pending => {
                matches!(
                    row.status,
                    ResourceStatus::Pending | ResourceStatus::Unknown
                ) || !row.owed.is_empty()
            }
            Exit::Stopped => row.status == ResourceStatus::Skipped || !row.owed.is_empty(),
            _ => false,
        };
        let mut rows: Vec<&ResourceReport> = self.resources.iter().filter(deciding).collect();
        // Skipped resources come last: they are only a consequence.
        rows.sort_by_key(|row| row.status == ResourceStatus::Skipped);
        match (self.outcome, rows.split_first()) {
            (Exit::BadInput, _) => self.refused.as_deref().map(one_line),
            (Exit::Stale, _) => {
                let silent = self.stale.as_ref().map(|stale| {
                    let since = stale.since.map_or("an unknown time".into(), |since| {
                        since.strftime("%F %T UTC").to_string()
                    });
                    format!("no manifest since {since}: {}", stale.why)
                });
                silent
                    .or_else(|| self.policy_line(Exit::Stale))
                    .or_else(|| self.kept_lists.first().cloned())
                    .or_else(|| self.publish_error.clone())
            }
            (_, Some((first, []))) => Some(row_line(first)),
            (_, Some((first, more))) => {
                Some(format!("{} (and {} more)", row_line(first), more.len()))
            }
            (Exit::Waiting, None) => self
                .maintenance_line()
                .or_else(|| self.policy_line(Exit::Waiting)),
            (outcome, None) => self.policy_line(outcome),
        }
    }

    /// One line about the policy bundle, if it is what makes this outcome.
    fn policy_line(&self, outcome: Exit) -> Option<String> {
        let policy = self.policy.as_ref()?;
        let is_it = policy.phase.outcome() == outcome && outcome != Exit::Converged;
        is_it.then(|| one_line(&policy.description()))
    }

    /// One line about the first app in maintenance.
    fn maintenance_line(&self) -> Option<String> {
        let mut lines = self.apps.iter().filter_map(AppReport::maintenance_line);
        lines.next()
    }
}

impl AppReport {
    /// One line that says that it is in maintenance.
    pub(crate) fn maintenance_line(&self) -> Option<String> {
        let line = self.maintenance.as_ref()?;
        Some(format!("{}: {line}", self.app))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{report, row};
    use super::*;
    use crate::owed::Obligation;
    use crate::resource::Duty;

    fn app(held: Option<&str>) -> AppReport {
        AppReport {
            app: "shop".into(),
            wanted: None,
            actual: None,
            reference: None,
            held: held.map(str::to_owned),
            maintenance: None,
            state: AppState::Converged,
            why: None,
        }
    }

    fn row_because(status: ResourceStatus, why: &str) -> ResourceReport {
        ResourceReport {
            why: Some(why.into()),
            ..row(status)
        }
    }

    #[test]
    fn worst_resource_of_an_app_decides_its_state() {
        let mut owing = row(ResourceStatus::Right);
        owing.owed = vec![Obligation {
            duty: Duty::Restart,
            causes: vec!["code".into()],
        }];
        let held = "held by ana until it is lifted: moving";
        let cases = [
            (
                vec![row(ResourceStatus::Changed)],
                AppState::Converged,
                None,
            ),
            (
                vec![owing],
                AppState::Pending,
                Some("restart of file:/a is owed"),
            ),
            (
                vec![row(ResourceStatus::Pending)],
                AppState::Pending,
                Some("file:/a differs"),
            ),
            (
                vec![row_because(ResourceStatus::Waiting, held)],
                AppState::Held,
                Some(held),
            ),
            (
                vec![row_because(ResourceStatus::Waiting, "pinned to x")],
                AppState::Waiting,
                Some("pinned to x"),
            ),
            (
                vec![
                    row_because(ResourceStatus::RolledBack, "answered 500\nmore"),
                    row_because(ResourceStatus::Waiting, held),
                ],
                AppState::RolledBack,
                Some("file:/a: answered 500"),
            ),
            (
                vec![row_because(ResourceStatus::Failed, "ENOSPC")],
                AppState::Failed,
                Some("file:/a: ENOSPC"),
            ),
        ];
        for (rows, state, why) in cases {
            let (actual, reason) = evaluate(&app(Some(held)), rows.iter(), None, None, false);
            assert_eq!((actual, reason.as_deref()), (state, why));
        }
    }

    #[test]
    fn stale_or_refused_manifest_decides_the_state_of_an_app_without_problems() {
        let none = || [].iter();
        assert_eq!(
            evaluate(&app(None), none(), Some("down"), None, false),
            (AppState::Stale, Some("down".into()))
        );
        assert_eq!(
            evaluate(&app(None), none(), None, Some("bad\nline two"), false),
            (AppState::Refused, Some("bad".into()))
        );
    }

    #[test]
    fn one_line_says_why_a_host_is_not_converged() {
        assert_eq!(report(vec![row(ResourceStatus::Changed)]).why(), None);
        let failed = report(vec![
            row_because(ResourceStatus::Skipped, "it depends on x"),
            row_because(ResourceStatus::Failed, "no such user\nline two"),
            row_because(ResourceStatus::Waiting, "pinned"),
        ]);
        let why = failed.why().unwrap();
        assert_eq!(why, "file:/a: no such user (and 1 more)");
    }
}
