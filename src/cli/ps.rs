//! `trueup ps`: the processes of the services of an app.

use clap::Args;
use jiff::Timestamp;

use super::Output;
use super::format::{cron_text, format_age, format_bytes, format_duration};
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::processes::{self, ProcessReport, ProcessReportRow, ServiceReport};
use crate::pass::{Paths, Session};
use crate::ports::exec::StopFlag;
use crate::ports::services::ActiveState;
use crate::printable;
use crate::report::Paint;

#[derive(Debug, Args)]
#[command(
    after_help = "Exits with 1 if a service that should run has no process, or if a process runs from a release that is not \
                  active; with 3 if an operator masked a service that should run. A failed run of a cron job is shown and changes \
                  nothing of that. Memory is what a process has in RAM; \
                  what processes share counts in each. The kernel shows the release of a process only to its user \
                  and to root."
)]
pub struct PsArgs {
    /// Which app
    #[arg(value_name = "APP")]
    pub app: String,
}

const COLUMNS: [&str; 8] = [
    "SERVICE", "PID", "USER", "MEMORY", "CPU", "UP", "RELEASE", "COMMAND",
];

/// Longest command line in the table, in characters.
const MAX_COMMAND_WIDTH: usize = 200;

pub(super) fn run(args: &PsArgs, paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
    let session = Session::open(paths, StopFlag::default())?;
    let report = processes::list(&session, &args.app)?;
    if output.is_document() {
        output.print_document(&report);
    } else {
        print_report(&report, session.host.clock.now(), output);
    }
    Ok(report.outcome)
}

fn print_report(report: &ProcessReport, now: Timestamp, output: &Output) {
    let paint = output.paint;
    if report.services.is_empty() {
        output.print_line(format!("no service runs from {}", report.app));
    } else {
        print_services(report, now, output);
    }
    for job in &report.cron {
        output.print_line(format!("cron {}: {}", job.name, cron_text(job, now, paint)));
    }
}

fn print_services(report: &ProcessReport, now: Timestamp, output: &Output) {
    let paint = output.paint;
    let mut table = vec![COLUMNS.map(String::from).to_vec()];
    for service in &report.services {
        if service.processes.is_empty() {
            table.push(row_without_process(service, paint));
        }
        let rows = service.processes.iter();
        table.extend(rows.map(|process| row(service, process, now, paint)));
    }
    output.print_table(&table);
    for service in &report.services {
        let Some(why) = &service.why else { continue };
        let why = match service.outcome {
            Exit::Failed => paint.bad(why),
            _ => paint.changed(why),
        };
        output.print_line(format!("{}: {why}", service.name));
    }
}

fn row(
    service: &ServiceReport,
    process: &ProcessReportRow,
    now: Timestamp,
    paint: Paint,
) -> Vec<String> {
    let none = || "-".to_owned();
    let release = match (&process.release, process.active) {
        (Some(release), Some(false)) => paint.bad(&format!("{release} (not active)")),
        (Some(release), _) => release.clone(),
        (None, _) => none(),
    };
    vec![
        service.name.clone(),
        process.pid.to_string(),
        printable::line(&process.user).into_owned(),
        format_bytes(process.resident_bytes),
        format_duration(process.cpu_ms),
        process.started.map_or_else(none, |at| format_age(at, now)),
        release,
        shorten(&printable::line(&process.command)),
    ]
}

fn row_without_process(service: &ServiceReport, paint: Paint) -> Vec<String> {
    let state = match service.state {
        None => "unknown",
        Some(ActiveState::Running) => "active, without a process",
        Some(ActiveState::Starting) => "starting",
        Some(ActiveState::Stopping) => "stopping",
        Some(ActiveState::Stopped) => "stopped",
        Some(ActiveState::Failed) => "failed",
    };
    let state = format!("({state})");
    let state = match service.outcome {
        Exit::Failed => paint.bad(&state),
        _ => paint.faint(&state),
    };
    let mut row = vec!["-".to_owned(); COLUMNS.len()];
    service.name.clone_into(&mut row[0]);
    row[COLUMNS.len() - 1] = state;
    row
}

fn shorten(command: &str) -> String {
    match command.char_indices().nth(MAX_COMMAND_WIDTH) {
        Some((end, _)) => format!("{}…", &command[..end]),
        None => command.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_command_line_is_cut_between_characters() {
        let long = "ü".repeat(MAX_COMMAND_WIDTH + 1);
        let shown = shorten(&long);
        assert_eq!(shown.chars().count(), MAX_COMMAND_WIDTH + 1);
        assert!(shown.ends_with("ü…"));
        assert_eq!(shorten("puma -p 3000"), "puma -p 3000");
    }
}
