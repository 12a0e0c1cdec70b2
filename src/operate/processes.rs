//! The processes of an app: of each of its services, and from which release they run.

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use crate::exit::Exit;
use crate::operate::CommandError;
use crate::pass::{CronStatus, DeployedApp, Session};
use crate::ports::Host;
use crate::ports::process_usage::{ProcessUsage, process_usage};
use crate::ports::services::ActiveState;
use crate::release;
use crate::resource::{ExpectedState, Failure, FailureKind, ServiceSummary};
use crate::role::Resource;

/// The document of `ps --output`.
#[derive(Debug, Serialize)]
pub(crate) struct ProcessReport {
    version: u32,
    pub app: String,
    pub outcome: Exit,
    /// The active release.
    pub release: Option<String>,
    pub services: Vec<ServiceReport>,
    /// A failed run does not change the outcome.
    pub cron: Vec<CronStatus>,
}

/// A service of the app.
#[derive(Debug, Serialize)]
pub(crate) struct ServiceReport {
    pub id: String,
    pub name: String,
    /// `null`: unknown.
    pub state: Option<ActiveState>,
    pub outcome: Exit,
    /// Why it is not as described, or is not to run.
    pub why: Option<String>,
    pub processes: Vec<ProcessReportRow>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ProcessReportRow {
    pub pid: u32,
    pub parent: u32,
    pub user: String,
    pub resident_bytes: u64,
    pub cpu_ms: u64,
    pub started: Option<Timestamp>,
    /// The release that it runs from; `null`: none, or unknown.
    pub release: Option<String>,
    /// Whether that is the active release.
    pub active: Option<bool>,
    pub command: String,
}

/// Lists the processes of an app.
pub(crate) fn list(session: &Session, name: &str) -> Result<ProcessReport, CommandError> {
    let apps = session.apps()?;
    let app = apps.find(name)?;
    let host = &session.host;
    let release = release::active_release_name(app.spec, host)?;
    let services = apps.services(app).into_iter();
    let services: Vec<ServiceReport> = services
        .map(|service| report_service(service, app, release.as_deref(), host))
        .collect();
    let outcomes = services.iter().map(|service| service.outcome);
    Ok(ProcessReport {
        version: crate::report::VERSION,
        app: app.spec.app.clone(),
        outcome: outcomes.fold(Exit::Converged, Exit::merge),
        release,
        services,
        cron: apps.cron_jobs(app, host),
    })
}

fn report_service(
    resource: &Resource,
    app: DeployedApp<'_>,
    active: Option<&str>,
    host: &Host,
) -> ServiceReport {
    let mut report = ServiceReport {
        id: resource.id.clone(),
        name: String::new(),
        state: None,
        outcome: Exit::Converged,
        why: None,
        processes: Vec::new(),
    };
    let Some(service) = resource.body.service() else {
        return report;
    };
    service.name().clone_into(&mut report.name);
    let inspect = || -> Result<(ServiceSummary, Vec<ProcessUsage>), Failure> {
        let summary = service.summary(host)?;
        let ids = service.process_ids(host)?;
        let no_proc = || Failure::new("cannot read /proc to find running processes");
        Ok((summary, process_usage(&ids).ok_or_else(no_proc)?))
    };
    match inspect() {
        Ok((summary, processes)) => {
            report.state = Some(summary.active);
            let rows = processes.into_iter();
            let deploy_to = app.spec.layout().deploy_to().to_owned();
            report.processes = rows
                .map(|process| report_process(process, &deploy_to, active))
                .collect();
            (report.outcome, report.why) = evaluate(&report, summary);
        }
        Err(failure) => {
            report.why = Some(failure.summary());
            // What this user may not see is not known to be wrong.
            if !failure.is(FailureKind::PermissionDenied) {
                report.outcome = Exit::Failed;
            }
        }
    }
    report
}

fn report_process(
    process: ProcessUsage,
    deploy_to: &Path,
    active: Option<&str>,
) -> ProcessReportRow {
    let mut paths = process.paths.iter();
    let release = paths.find_map(|path| release::release_in_path(path, deploy_to));
    ProcessReportRow {
        pid: process.pid,
        parent: process.parent,
        user: process.user,
        resident_bytes: process.resident,
        cpu_ms: u64::try_from(process.cpu.as_millis()).unwrap_or(u64::MAX),
        started: process.started,
        active: release.as_ref().map(|name| Some(name.as_str()) == active),
        release,
        command: process.command,
    }
}

/// Whether a service has the processes that it should have, and why not.
fn evaluate(report: &ServiceReport, summary: ServiceSummary) -> (Exit, Option<String>) {
    let stale = report
        .processes
        .iter()
        .find(|row| row.active == Some(false));
    if let Some((row, release)) = stale.and_then(|row| Some((row, row.release.as_ref()?))) {
        let why = format!(
            "process {} runs from release {release}, which is not active",
            row.pid
        );
        return (Exit::Failed, Some(why));
    }
    let runs = !report.processes.is_empty() || summary.active == ActiveState::Running;
    let because = |why: &str| Some(why.to_owned());
    match summary.expected {
        _ if runs => (Exit::Converged, None),
        ExpectedState::Running => (Exit::Failed, because("it should run, and has no process")),
        ExpectedState::Masked => (Exit::Waiting, because("an operator masked it")),
        ExpectedState::AwaitsRelease => {
            (Exit::Converged, because("it starts with the first release"))
        }
        ExpectedState::Any if summary.active == ActiveState::Failed => {
            (Exit::Failed, because("it failed"))
        }
        ExpectedState::Stopped | ExpectedState::Any => (Exit::Converged, None),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn row(path: &str) -> ProcessReportRow {
        let process = ProcessUsage {
            pid: 7,
            parent: 1,
            user: "deploy".into(),
            resident: 4096,
            cpu: Duration::from_millis(1500),
            started: None,
            command: "puma".into(),
            paths: vec![path.into(), "/usr/bin/ruby".into()],
        };
        report_process(process, Path::new("/srv/www/shop"), Some("20261121050000"))
    }

    fn outcome(rows: Vec<ProcessReportRow>, active: ActiveState, expected: ExpectedState) -> Exit {
        let report = ServiceReport {
            id: "service:puma".into(),
            name: "puma".into(),
            state: Some(active),
            outcome: Exit::Converged,
            why: None,
            processes: rows,
        };
        evaluate(&report, ServiceSummary { active, expected }).0
    }

    #[test]
    fn service_that_should_run_without_a_process_fails_ps() {
        use ActiveState::{Failed, Running, Stopped};
        use ExpectedState::{Any, AwaitsRelease, Masked};
        let should = ExpectedState::Running;
        for (active, expected, exit) in [
            (Failed, should, Exit::Failed),
            (Stopped, should, Exit::Failed),
            (Stopped, Masked, Exit::Waiting),
            (Stopped, AwaitsRelease, Exit::Converged),
            (Stopped, ExpectedState::Stopped, Exit::Converged),
            (Stopped, Any, Exit::Converged),
            (Failed, Any, Exit::Failed),
            // A socket has no process.
            (Running, should, Exit::Converged),
        ] {
            let found = outcome(Vec::new(), active, expected);
            assert_eq!(found, exit, "{active:?}, {expected:?}");
        }
        let here = row("/srv/www/shop/releases/20261121050000");
        assert_eq!(outcome(vec![here], Running, should), Exit::Converged);
    }

    #[test]
    fn process_of_another_release_is_marked_and_fails_ps() {
        let old = row("/srv/www/shop/releases/20261120050000/public (deleted)");
        assert_eq!(old.release.as_deref(), Some("20261120050000"));
        assert_eq!((old.active, old.cpu_ms), (Some(false), 1500));
        let elsewhere = row("/");
        assert_eq!((&elsewhere.release, elsewhere.active), (&None, None));
        let rows = vec![elsewhere, old];
        let found = outcome(rows, ActiveState::Running, ExpectedState::Running);
        assert_eq!(found, Exit::Failed);
    }
}
