//! What is left to say once everything was looked at.

use serde::Serialize;

use super::Work;
use crate::checks::{Check, Verdict};
use crate::cli::edge;
use crate::exit::Exit;

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
            ..
        } = self;
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
            output.error("trueup: nothing was written; mend what is bad and run it again, or leave the checks out with --unchecked");
        } else if timer {
            output.line("the timer runs: the first pass begins within seconds; `trueup status` tells how it stands");
        } else {
            output.line("next: look with `trueup plan`, then `trueup converge`");
        }
        Ok(outcome)
    }
}
