//! `trueup logs`: what the services of an app print.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::Output;
use crate::exit::Exit;
use crate::operate::CommandError;
use crate::operate::logs::{AppLogs, LogLine};
use crate::pass::{Paths, Session};
use crate::ports::exec::StopFlag;
use crate::ports::services::LogRange;
use crate::ports::{backoff, pipe, signals};
use crate::printable;

/// Interval at which logs without news are read again.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
#[command(
    after_help = "From the journal of systemd, from the log files of supervisord or, in a sandbox, from those of trueup. \
                  With several services each line begins with the name of its service, and the last lines come one \
                  service after the other. Characters that control a terminal are escaped, and the app's secrets are \
                  redacted. Ctrl-C ends `--follow`, which then exits with 0. With `-o json` each line is a document."
)]
pub struct LogsArgs {
    /// Which app
    #[arg(value_name = "APP")]
    pub app: String,
    /// Only this process or cron job, or this service as `trueup ps` shows it [default: all of the app]
    #[arg(long, value_name = "PROCESS")]
    pub process: Option<String>,
    /// Continue with what is printed from now on
    #[arg(short, long)]
    pub follow: bool,
    /// How many of the last lines of each service to show
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub lines: u32,
}

/// The document of a line with `--output`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    app: &'a str,
    #[serde(flatten)]
    line: &'a LogLine,
}

pub(super) fn run(args: &LogsArgs, paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
    let stop = StopFlag::default();
    signals::stop_on_termination(&stop);
    let session = Session::open(paths, stop.clone())?;
    let range = LogRange {
        lines: args.lines,
        follow: args.follow,
    };
    let mut logs = AppLogs::open(&session, &args.app, args.process.as_deref(), range)?;
    let (mut is_empty, mut outcome) = (true, Exit::Converged);
    loop {
        let read = logs.read();
        for failure in logs.take_failures() {
            output.print_error(&format!("trueup: {failure}"));
            outcome = Exit::Failed;
        }
        let Some(lines) = read else { break };
        if stop.is_set() || pipe::has_no_reader(std::io::stdout()) {
            return Ok(outcome);
        }
        if lines.is_empty() {
            backoff::sleep(POLL_INTERVAL);
        }
        is_empty &= lines.is_empty();
        for line in &lines {
            match print_line(&args.app, line, logs.has_several, output) {
                Ok(()) => {}
                // The reader is gone.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(outcome),
                Err(error) => {
                    let why = format!("cannot write the lines: {error}");
                    return Err(CommandError::failed(why));
                }
            }
        }
    }
    if is_empty && args.lines > 0 {
        let may_read = match session.host.root.is_privileged() || !session.host.root.is_real() {
            true => "",
            false => " that this user may read (`sudo` reads all)",
        };
        output.print_error(&format!(
            "trueup: {} has printed nothing{may_read}",
            args.app
        ));
    }
    Ok(outcome)
}

fn print_line(
    app: &str,
    line: &LogLine,
    has_several: bool,
    output: &Output,
) -> std::io::Result<()> {
    if output.is_document() {
        return output.stream_document(&Document {
            version: crate::report::VERSION,
            app,
            line,
        });
    }
    // Without the colours of the program, which would go on into trueup's own text.
    let text = printable::text(&line.line);
    match has_several {
        true => {
            let name = output.paint.faint(&format!("{} |", line.service));
            output.stream_line(&format!("{name} {text}"))
        }
        false => output.stream_line(&text),
    }
}
