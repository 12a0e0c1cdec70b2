//! Prints the results of `trueup init` once all checks have run.

use std::path::Path;

use serde::Serialize;

use super::InitRun;
use crate::checks::{Check, Verdict};
use crate::cli::error;
use crate::exit::Exit;
use crate::pass::Paths;

/// The document of `init --output`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    outcome: Exit,
    checks: &'a [Check],
    /// Written files; empty if a check failed.
    written: &'a [String],
    /// Whether the timer is active.
    timer: bool,
}

impl InitRun<'_> {
    pub(super) fn print_summary(self, timer: bool) -> Result<Exit, error::CliError> {
        let InitRun {
            output,
            checks,
            written_files: written,
            paths: places,
            ..
        } = self;
        let here = location_options(places);
        let bad = checks.iter().any(Check::is_bad);
        let outcome = if bad { Exit::Failed } else { Exit::Converged };
        if output.is_document() {
            output.print_document(&Document {
                version: crate::report::VERSION,
                outcome,
                checks: &checks,
                written: &written,
                timer,
            });
            return Ok(outcome);
        }
        for check in &checks {
            let about = &check.about;
            match &check.verdict {
                Verdict::Good { said } => {
                    output.print_line(format!("{} {about}: {said}", output.paint.good("good")));
                }
                Verdict::Note(problem) => {
                    output.print_line(format!(
                        "{} {about}: {problem}",
                        output.paint.changed("note")
                    ));
                }
                Verdict::Bad(problem) => {
                    output.print_line(format!("{} {about}: {problem}", output.paint.bad("bad")));
                }
            }
        }
        for file in &written {
            output.print_line(format!("wrote {file}"));
        }
        if bad {
            // `--unchecked` still validates the settings against the roles, so it is no remedy for those.
            let checked = |check: &Check| check.is_bad() && check.about != "settings";
            let or = match checks.iter().any(checked) {
                true => ", or skip the checks with --unchecked",
                false => "",
            };
            output.print_error(&format!(
                "trueup: nothing was written; fix the failed checks and run it again{or}"
            ));
        } else if timer {
            output.print_line(
                "the timer is active: the first pass starts within seconds; see `trueup status`",
            );
        } else {
            output.print_line(format!(
                "next: `trueup plan{here}`, then `trueup converge{here}`"
            ));
        }
        Ok(outcome)
    }
}

/// Options that make a command act on this host instead of the machine's real one.
fn location_options(paths: &Paths) -> String {
    let usual = crate::pass::resolve_paths(None, Some(&paths.root), None);
    let mut words = String::new();
    if paths.root != Path::new("/") {
        words += &format!(" --root {}", paths.root.display());
    }
    if paths.config != usual.config {
        words += &format!(" --config {}", paths.config.display());
    }
    words
}
