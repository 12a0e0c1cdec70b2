//! `trueup doctor`: checks everything that a pass relies on, one line each: fine, or how to fix it.

use super::Output;
use crate::checks::{Check, Verdict};
use crate::exit::Exit;
use crate::operate::{CommandError, doctor};
use crate::pass::Paths;
use crate::ports::exec::StopFlag;
use crate::ports::signals;
use crate::problem::Problem;
use crate::report::Paint;

/// Width of the label column, in characters; fixed, because lines are printed as results arrive. A longer
/// label, such as the address of a store, gets its own line.
const ABOUT_WIDTH: usize = 24;

pub(super) fn run(paths: &Paths, output: &Output) -> Result<Exit, CommandError> {
    let stop = StopFlag::default();
    signals::stop_on_termination(&stop);
    let report = doctor::run(paths, &stop, &mut |check| {
        output.print_text(check_line(check, output.paint));
    })?;
    if output.is_document() {
        output.print_document(&report);
        return Ok(report.outcome);
    }
    let bad = report.checks.iter().filter(|check| check.is_bad()).count();
    if bad > 0 {
        let word = if bad == 1 { "problem" } else { "problems" };
        output.print_line(output.paint.bad(&format!("{bad} {word} found")));
    } else if report.outcome == Exit::Converged {
        output.print_line(match report.as_ordinary_user {
            false => output.paint.good("no problems found"),
            true => "no problems found without root; `sudo trueup doctor` checks the rest".into(),
        });
    }
    Ok(report.outcome)
}

fn check_line(check: &Check, paint: Paint) -> String {
    let (word, text) = match &check.verdict {
        Verdict::Good { message } => (paint.good("ok  "), message.clone()),
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
