//! `trueup maintenance`: visitors of an app get a page instead of the app.

use super::Output;
use super::args::{MaintenanceArgs, Switch};
use super::format::{current_user, parse_one_line};
use super::locked::require_root;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::maintenance::{self, MaintenanceReport, MaintenanceRequest, MaintenanceRow};
use crate::pass::{Paths, Session};
use crate::ports::exec::StopFlag;
use crate::problem::Problem;
use crate::report::Paint;

pub(super) fn run(
    args: &MaintenanceArgs,
    paths: &Paths,
    output: &Output,
) -> Result<Exit, CommandError> {
    let is_on = args.switch == Some(Switch::On);
    if !is_on && (args.time.is_some() || args.drain || args.reason.is_some()) {
        let problem = Problem::new("--for, --drain and --reason are for `on`");
        return Err(CommandError::Usage(
            problem.hint("`trueup maintenance APP on --for 30m --reason TEXT`"),
        ));
    }
    let reason = parse_one_line("--reason", args.reason.as_deref()).map_err(CommandError::Usage)?;
    let by = parse_one_line("--by", args.by.as_deref()).map_err(CommandError::Usage)?;
    let by = by.unwrap_or_else(current_user);
    let session = Session::open(paths, StopFlag::default())?;
    let Some((app, switch)) = args.app.as_deref().zip(args.switch) else {
        let report = maintenance::list(&session, args.app.as_deref())?;
        return Ok(print(&report, output, |row| list_line(row, output.paint)));
    };
    require_root(
        &session,
        "`trueup maintenance`",
        "`trueup maintenance` alone shows which apps are in maintenance",
    )?;
    if switch == Switch::Off {
        let (is_ended, report) = maintenance::end(&session, app, &by)?;
        return Ok(print(&report, output, |row| end_line(row, is_ended)));
    }
    let request = MaintenanceRequest {
        by,
        reason,
        time: args.time,
        drain: args.drain,
    };
    let report = maintenance::begin(&session, app, request)?;
    Ok(print(&report, output, begin_lines))
}

fn print(
    report: &MaintenanceReport,
    output: &Output,
    line: impl Fn(&MaintenanceRow) -> String,
) -> Exit {
    if output.is_document() {
        output.print_document(report);
    } else if report.apps.is_empty() {
        output.print_line("the roles of this host deploy no app");
    } else {
        report
            .apps
            .iter()
            .for_each(|row| output.print_line(line(row)));
    }
    report.outcome
}

fn list_line(row: &MaintenanceRow, paint: Paint) -> String {
    let line = match (&row.maintenance, &row.why) {
        (Some(maintenance), _) => paint.changed(&maintenance.describe()),
        (None, Some(why)) => paint.bad(why),
        (None, None) => "not in maintenance".into(),
    };
    let note = match row.described {
        true => "",
        false => " (no role of this host describes it any more)",
    };
    format!("{}: {line}{note}", row.app)
}

fn end_line(row: &MaintenanceRow, is_ended: bool) -> String {
    match is_ended {
        true => format!("{} is no longer in maintenance", row.app),
        false => format!("{} was not in maintenance", row.app),
    }
}

fn begin_lines(row: &MaintenanceRow) -> String {
    let Some(maintenance) = &row.maintenance else {
        return list_line(row, Paint::default());
    };
    let app = &row.app;
    let balancers = match (maintenance.drain, &row.health_path) {
        (true, _) => {
            "its health check gets 503 as well: load balancers take this host out".to_owned()
        }
        (false, Some(path)) => format!(
            "its health check, {path}, still reaches it: load balancers keep this host (`--drain` takes it out)"
        ),
        (false, None) => {
            "it has no health check with a path of its own: load balancers get 503 as well"
                .to_owned()
        }
    };
    let end = match maintenance.until {
        Some(until) => format!(
            "it ends with the first pass after {until:.0}, or `trueup maintenance {app} off`"
        ),
        None => format!("it ends with `trueup maintenance {app} off`"),
    };
    format!(
        "{app} is {}\n{balancers}\ndeploys go on; {end}",
        maintenance.describe()
    )
}
