//! What is left to say once everything was looked at.

use std::path::Path;

use serde::Serialize;

use super::Work;
use crate::checks::{Check, Verdict};
use crate::cli::edge;
use crate::exit::Exit;
use crate::pass::Places;

/// The document of `init --json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    outcome: Exit,
    checks: &'a [Check],
    /// The files; empty when a check failed.
    written: &'a [String],
    /// Whether the timer runs now.
    timer: bool,
}

impl Work<'_> {
    pub(super) fn report(self, timer: bool) -> Result<Exit, edge::Error> {
        let Work {
            output,
            checks,
            written,
            places,
            ..
        } = self;
        let here = where_else(places);
        let bad = checks.iter().any(Check::is_bad);
        let outcome = if bad { Exit::Failed } else { Exit::Converged };
        if output.json {
            output.document(&Document {
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
                    output.line(format!("{} {about}: {said}", output.paint.good("good")));
                }
                Verdict::Note(problem) => {
                    output.line(format!(
                        "{} {about}: {problem}",
                        output.paint.changed("note")
                    ));
                }
                Verdict::Bad(problem) => {
                    output.line(format!("{} {about}: {problem}", output.paint.bad("bad")));
                }
            }
        }
        for file in &written {
            output.line(format!("wrote {file}"));
        }
        if bad {
            // Settings are held against roles in any case.
            let checked = |check: &Check| check.is_bad() && check.about != "settings";
            let or = match checks.iter().any(checked) {
                true => ", or leave the checks out with --unchecked",
                false => "",
            };
            output.error(&format!(
                "trueup: nothing was written; mend what is bad and run it again{or}"
            ));
        } else if timer {
            output.line("the timer runs: the first pass begins within seconds; `trueup status` tells how it stands");
        } else {
            output.line(format!(
                "next: look with `trueup plan{here}`, then `trueup converge{here}`"
            ));
        }
        Ok(outcome)
    }
}

/// What tells a command of this host from one of the real one.
fn where_else(places: &Places) -> String {
    let usual = crate::pass::places(None, Some(&places.root), None);
    let mut words = String::new();
    if places.root != Path::new("/") {
        words += &format!(" --root {}", places.root.display());
    }
    if places.config != usual.config {
        words += &format!(" --config {}", places.config.display());
    }
    words
}
