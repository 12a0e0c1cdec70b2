//! `trueup doctor`: checks everything that a pass relies on, one line each: fine, or how to fix it.

use serde::Serialize;

use super::{Output, error};
use crate::checks::{self, Check, Verdict};
use crate::exit::Exit;
use crate::pass::{PassError, Paths, Session};
use crate::ports::exec::StopFlag;
use crate::ports::signals;
use crate::problem::Problem;
use crate::report::Paint;

/// Width of the label column, in characters; fixed, because lines are printed as results arrive. A longer
/// label, such as the address of a store, gets its own line.
const ABOUT_WIDTH: usize = 24;

/// The document of `--output`.
#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    outcome: Exit,
    checks: &'a [Check],
}

pub(super) fn run(paths: &Paths, output: &Output) -> Result<Exit, error::CliError> {
    let stop = StopFlag::default();
    signals::stop_on_termination(&stop);
    let mut checks = Vec::new();
    let mut announce = |check: Check| {
        output.print_text(check_line(&check, output.paint));
        checks.push(check);
    };
    match Session::open(paths, stop.clone()) {
        Ok(session) => checks::run_all(&session, &mut announce),
        // Without settings nothing else can be checked.
        Err(PassError::Input(problems)) => {
            for problem in problems.0 {
                announce(Check::bad("settings", problem));
            }
        }
        Err(error) => return Err(error.into()),
    }
    if stop.is_set() {
        announce(Check::note(
            "stopped",
            Problem::new("by a signal: the remaining checks did not run"),
        ));
    }
    let bad = checks.iter().filter(|check| check.is_bad()).count();
    let outcome = match (bad, stop.is_set()) {
        (0, false) => Exit::Converged,
        (0, true) => Exit::Stopped,
        _ => Exit::Failed,
    };
    if output.is_document() {
        output.print_document(&Document {
            version: crate::report::VERSION,
            outcome,
            checks: &checks,
        });
    } else if bad > 0 {
        let word = if bad == 1 { "problem" } else { "problems" };
        output.print_line(output.paint.bad(&format!("{bad} {word} found")));
    } else if !stop.is_set() {
        output.print_line(output.paint.good("no problems found"));
    }
    Ok(outcome)
}

fn check_line(check: &Check, paint: Paint) -> String {
    let (word, text) = match &check.verdict {
        Verdict::Good { said } => (paint.good("ok  "), said.clone()),
        Verdict::Note(problem) => (paint.changed("note"), problem_text(problem, paint)),
        Verdict::Bad(problem) => (paint.bad("BAD "), problem_text(problem, paint)),
    };
    let indent = format!("\n{:width$}", "", width = ABOUT_WIDTH + 8);
    let text = text.trim_end().replace('\n', &indent);
    let about = &check.about;
    match about.chars().count() > ABOUT_WIDTH {
        true => format!("{word}  {about}{indent}{text}"),
        false => format!("{word}  {about:ABOUT_WIDTH$}  {text}"),
    }
}

/// The problem with its location, and the hint on its own line.
fn problem_text(problem: &Problem, paint: Paint) -> String {
    let bare = Problem {
        hint: None,
        ..problem.clone()
    };
    match &problem.hint {
        Some(hint) => format!("{bare}\n{} {hint}", paint.strong("do:")),
        None => bare.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_check_shows_its_remedy_in_the_column() {
        let paint = Paint::default();
        assert_eq!(
            check_line(&Check::good("clock", "the same as the store's"), paint),
            "ok    clock                     the same as the store's"
        );
        let problem = Problem::new("failed:\nline 2").hint("mend it");
        assert_eq!(
            check_line(&Check::bad("check nginx", problem), paint),
            "BAD   check nginx               failed:\n\
             \x20                               line 2\n\
             \x20                               do: mend it"
        );
    }

    #[test]
    fn long_check_name_keeps_the_column() {
        let check = Check::good("store s3://acme-deploys-production", "answers");
        assert_eq!(
            check_line(&check, Paint::default()),
            "ok    store s3://acme-deploys-production\n                                answers"
        );
    }
}
