//! Rewords the errors of Tera: the place, what is wrong, and what to do.

use tera::ErrorKind;

use super::scope::Scope;
use crate::problem::{Location, Problem, nearest};

/// What the message of each begins with.
pub(super) const PREFIX: &str = "template error: ";

/// `path_of` returns the path of a template file by its name; `None`: the error is in a string of a role.
pub(super) fn explain(
    error: &tera::Error,
    scope: &Scope,
    path_of: Option<&dyn Fn(&str) -> String>,
) -> Problem {
    let report = match error.kind() {
        ErrorKind::SyntaxError(report) | ErrorKind::RenderingError(report) => report,
        _ => return explain_text(&error.to_string(), path_of),
    };
    // Tera lists every known variable; the closest one is enough.
    let message = report.message().split(". Available variables").next();
    let message = message.unwrap_or_default();
    let mut problem = Problem::new(format!("{PREFIX}{message}"));
    if let Some(path_of) = path_of {
        let span = report.span();
        problem = problem.at(&Location {
            file: path_of(report.filename()).into(),
            line: span.start_line as u32,
            column: span.start_col as u32 + 1,
        });
    }
    if message.starts_with("Unexpected end of input") {
        return problem.hint("something is not closed: `{{` needs `}}`, `{%` needs `%}`, and each `{% if %}` and `{% for %}` its `{% endif %}` or `{% endfor %}`");
    }
    // Undefined names are the most common mistake: suggest the closest one.
    let name = message.split('`').nth(1).unwrap_or_default();
    if scope.at_path(name).is_some() {
        return problem;
    }
    match nearest(name, visible_names(scope)) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None if message.starts_with("Variable ") => problem.hint(
            "a template sees the parameters of its role and of the roles that it includes, `facts`, `node`, `root`, and in a `for_each` its item: `trueup roles show ROLE` lists the parameters",
        ),
        None => problem,
    }
}

/// An error that Tera has only as text, such as that of an unknown filter: a message, then
/// ` --> TEMPLATE:LINE:COLUMN`, then the lines of the template.
fn explain_text(text: &str, path_of: Option<&dyn Fn(&str) -> String>) -> Problem {
    let first = text.lines().next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(first);
    let mut problem = Problem::new(format!("{PREFIX}{message}"));
    let position = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("--> "));
    if let (Some(path_of), Some(position)) = (path_of, position) {
        let mut parts = position.trim().rsplitn(3, ':');
        let column = parts.next().and_then(|column| column.parse().ok());
        let line = parts.next().and_then(|line| line.parse().ok());
        if let (Some(column), Some(line), Some(name)) = (column, line, parts.next()) {
            let file = path_of(name).into();
            problem = problem.at(&Location { file, line, column });
        }
    }
    match message.starts_with("Unknown ") {
        true => problem.hint("docs/roles.md lists the filters, tests and functions of templates"),
        false => problem,
    }
}

/// Every name that a template can use.
pub(super) fn visible_names(scope: &Scope) -> Vec<&str> {
    let mut names = scope.names();
    names.push("facts");
    names
}
