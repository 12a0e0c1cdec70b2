//! Maintenance of the apps of a host: which are in it, and an operator's decision about one.

use serde::Serialize;

use crate::exit::Exit;
use crate::operate::CommandError;
use crate::pass::{Apps, DeployedApp, Session};
use crate::ports::Host;
use crate::problem::Problem;
use crate::release::{self, Maintenance};
use crate::settings;

/// Largest file of a web server that is searched, in bytes.
const MAX_SITE: usize = 4 << 20;

/// The document of `maintenance --output`.
#[derive(Debug, Serialize)]
pub(crate) struct MaintenanceReport {
    version: u32,
    pub outcome: Exit,
    pub apps: Vec<MaintenanceRow>,
}

/// One app.
#[derive(Debug, Serialize)]
pub(crate) struct MaintenanceRow {
    pub app: String,
    /// `null`: it is not in maintenance, or its file cannot be used.
    pub maintenance: Option<Maintenance>,
    /// Why its file cannot be used: it is in maintenance nevertheless.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Whether the roles of this host describe the app.
    pub described: bool,
    /// The path of its health check that reaches the app during maintenance, unless it is drained.
    pub health_path: Option<String>,
}

/// An operator's wish.
pub(crate) struct MaintenanceRequest {
    pub by: String,
    pub reason: Option<String>,
    /// How long; `None`: until an operator ends it.
    pub time: Option<std::time::Duration>,
    pub drain: bool,
}

impl MaintenanceReport {
    fn new(apps: Vec<MaintenanceRow>) -> MaintenanceReport {
        MaintenanceReport {
            version: crate::report::VERSION,
            outcome: Exit::Converged,
            apps,
        }
    }
}

impl MaintenanceRow {
    fn of_app(app: DeployedApp<'_>, host: &Host) -> MaintenanceRow {
        let health = app.spec.health.as_ref();
        MaintenanceRow {
            described: true,
            health_path: health.and_then(|health| release::health_path(&health.url)),
            ..MaintenanceRow::of_name(&app.spec.app, host)
        }
    }

    fn of_name(app: &str, host: &Host) -> MaintenanceRow {
        let (maintenance, why) = match Maintenance::load(&host.root, app) {
            Ok(found) => (found, None),
            Err(failure) => (None, Some(failure.message)),
        };
        MaintenanceRow {
            app: app.to_owned(),
            maintenance,
            why,
            described: false,
            health_path: None,
        }
    }
}

/// Lists the app of this name, or all apps of the host and those in maintenance that no role describes any more.
pub(crate) fn list(
    session: &Session,
    name: Option<&str>,
) -> Result<MaintenanceReport, CommandError> {
    let (apps, host) = (session.apps()?, &session.host);
    let selected = apps.select(name)?.into_iter();
    let mut rows: Vec<MaintenanceRow> = selected
        .map(|app| MaintenanceRow::of_app(app, host))
        .collect();
    if name.is_none() {
        let known: Vec<String> = rows.iter().map(|row| row.app.clone()).collect();
        let all = release::apps_in_maintenance(&host.root)?;
        let others = all.iter().filter(|app| !known.contains(app));
        rows.extend(others.map(|app| MaintenanceRow::of_name(app, host)));
    }
    Ok(MaintenanceReport::new(rows))
}

/// Puts an app into maintenance, or changes how it is.
pub(crate) fn begin(
    session: &Session,
    name: &str,
    request: MaintenanceRequest,
) -> Result<MaintenanceReport, CommandError> {
    let (apps, host) = (session.apps()?, &session.host);
    let app = apps.find(name)?;
    require_site(&apps, app, host)?;
    require_health(app, request.drain)?;
    let now = host.clock.now();
    let mut wanted = Maintenance::new(request.by, now);
    wanted.until = request
        .time
        .map(|time| now.saturating_add(time))
        .transpose()
        .map_err(|_| {
            CommandError::Usage(Problem::new("--for: expected an end before the year 10000"))
        })?;
    wanted.drain = request.drain;
    wanted.reason = request.reason;
    release::begin_maintenance(app.spec, host, wanted)?;
    Ok(MaintenanceReport::new(vec![MaintenanceRow::of_app(
        app, host,
    )]))
}

/// Ends the maintenance of an app. Returns whether there was one. Roles with mistakes do not prevent it.
pub(crate) fn end(
    session: &Session,
    name: &str,
    by: &str,
) -> Result<(bool, MaintenanceReport), CommandError> {
    let host = &session.host;
    let apps = session.apps();
    // The name becomes part of a path.
    if !settings::is_name(name) {
        session.apps()?.find(name)?;
    }
    let app = apps.as_ref().ok().and_then(|apps| apps.find(name).ok());
    let is_ended = release::end_maintenance(name, app.map(|app| app.spec), host, by)?;
    let row = match app {
        Some(app) => MaintenanceRow::of_app(app, host),
        None if is_ended => MaintenanceRow::of_name(name, host),
        // A wrong name, or roles that do not tell.
        None => MaintenanceRow::of_app(apps?.find(name)?, host),
    };
    Ok((is_ended, MaintenanceReport::new(vec![row])))
}

/// Refuses an app whose visitors would not notice: nothing on this host looks for its flag.
fn require_site(apps: &Apps, app: DeployedApp<'_>, host: &Host) -> Result<(), CommandError> {
    let name = &app.spec.app;
    let flag = host.root.machine_path(&release::maintenance_file(name));
    let flag = flag.display().to_string();
    for path in apps.written_files() {
        let text = host.root.read(&path, MAX_SITE).ok().flatten();
        if text.is_some_and(|text| contains(&text, flag.as_bytes())) {
            return Ok(());
        }
    }
    let problem = Problem::new(format!(
        "no web server of this host can show a page for {name}"
    ));
    Err(CommandError::Usage(match apps.has_service("nginx") {
        false => problem.hint(
            "its roles describe no nginx (`nginx: false`?): use what is in front of the app, such as a load balancer",
        ),
        true => problem.hint(format!(
            "no file that its roles wrote names {flag}, as the shipped nginx/site.conf does: run `trueup converge` if that \
             did not happen since trueup was upgraded; a template of your own in its place needs those lines as well"
        )),
    }))
}

/// Refuses an app whose own health check would get the page: trueup would take a good release back.
fn require_health(app: DeployedApp<'_>, drain: bool) -> Result<(), CommandError> {
    let Some(health) = &app.spec.health else {
        return Ok(());
    };
    let is_open = !drain && release::health_path(&health.url).is_some();
    if is_open || !release::asks_web_server(&health.url, app.spec.port) {
        return Ok(());
    }
    Err(CommandError::Usage(
        Problem::new(format!(
            "the health check of {} goes through the web server ({}) and would get the page as well: trueup would take its release back",
            app.spec.app, health.url
        ))
        .hint("give it a path of its own instead of `/`, or the port of the app; with such a path, leave out --drain"),
    ))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
