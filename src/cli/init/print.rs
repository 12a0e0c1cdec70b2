//! Prints the results of `trueup init`.

use std::path::Path;

use crate::checks::{Check, Verdict};
use crate::cli::Output;
use crate::exit::Exit;
use crate::operate::init::InitReport;
use crate::pass::Paths;

pub(super) fn print_report(report: &InitReport, paths: &Paths, output: &Output) {
    if output.is_document() {
        output.print_document(report);
        return;
    }
    for check in &report.checks {
        output.print_line(check_line(check, output));
    }
    for file in &report.written {
        output.print_line(format!("wrote {file}"));
    }
    if report.outcome != Exit::Converged {
        print_remedy(&report.checks, output);
    } else if report.timer {
        output.print_line(
            "the timer is active: the first pass starts within seconds; see `trueup status`",
        );
    } else {
        let here = location_options(paths);
        output.print_line(format!(
            "next: `trueup plan{here}`, then `trueup converge{here}`"
        ));
    }
}

fn check_line(check: &Check, output: &Output) -> String {
    let (about, paint) = (&check.about, output.paint);
    match &check.verdict {
        Verdict::Good { message } => format!("{} {about}: {message}", paint.good("good")),
        Verdict::Note(problem) => format!("{} {about}: {problem}", paint.changed("note")),
        Verdict::Bad(problem) => format!("{} {about}: {problem}", paint.bad("bad")),
    }
}

fn print_remedy(checks: &[Check], output: &Output) {
    // `--unchecked` still validates the settings against the roles, so it is no remedy for those.
    let is_skippable = |check: &Check| check.is_bad() && check.about != "settings";
    let or = match checks.iter().any(is_skippable) {
        true => ", or skip the checks with --unchecked",
        false => "",
    };
    output.print_error(&format!(
        "trueup: nothing was written; fix the failed checks and run it again{or}"
    ));
}

/// Options that make a command act on this host instead of the machine's real one.
fn location_options(paths: &Paths) -> String {
    let usual = crate::pass::resolve_paths(None, Some(&paths.root), None);
    let mut options = String::new();
    if paths.root != Path::new("/") {
        options += &format!(" --root {}", paths.root.display());
    }
    if paths.config != usual.config {
        options += &format!(" --config {}", paths.config.display());
    }
    options
}
