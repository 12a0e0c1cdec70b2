//! Attributes mistakes in the settings to the option that set them: the file is not written yet, so its line
//! numbers would help nobody.

use std::path::Path;

use crate::pass::PassError;
use crate::problem::{Problem, Problems};

/// Fields of the settings and the options that set them.
const OPTIONS: [(&str, &str); 6] = [
    ("environment", "--env"),
    ("roles", "--role"),
    ("tags", "--tag"),
    ("node", "--node"),
    ("store", "--store"),
    ("manifest", "--manifest"),
];

/// Replaces locations in `config`, which is not written yet, with options.
pub(super) fn attribute_to_options(problems: Problems, config: &Path) -> Problems {
    let file = config.display().to_string();
    let one = |problem: Problem| match &problem.at {
        Some(at) if *at.file == *file => attribute_to_option(problem),
        _ => problem,
    };
    Problems(problems.0.into_iter().map(one).collect())
}

pub(super) fn attribute_pass_error(error: PassError, config: &Path) -> PassError {
    match error {
        PassError::Input(problems) => PassError::Input(attribute_to_options(problems, config)),
        error => error,
    }
}

fn attribute_to_option(mut problem: Problem) -> Problem {
    problem.at = None;
    let field = problem.field.take().unwrap_or_default();
    let (first, rest) = field.split_once('.').unwrap_or((&field, ""));
    let known = OPTIONS.iter().find(|(name, _)| *name == first);
    problem.field = Some(match known {
        Some((_, option)) if rest.is_empty() => (*option).to_owned(),
        Some((_, option)) => format!("{option}: {rest}"),
        None => field,
    })
    .filter(|field| !field.is_empty());
    if problem.message.starts_with("no region") {
        problem.hint = Some("set it with `--region REGION`".into());
    }
    problem
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Location;

    fn at(file: &str) -> Location {
        Location {
            file: file.into(),
            line: 12,
            column: 14,
        }
    }

    #[test]
    fn settings_problems_name_the_option_instead_of_a_line() {
        let config = Path::new("/etc/trueup/node.yml");
        let shown = |problem: Problem| attribute_to_options(problem.into(), config).to_string();
        let wrong = Problem::new("no")
            .field("environment")
            .at(&at("/etc/trueup/node.yml"));
        assert_eq!(shown(wrong), "--env: no");
        let wrong = Problem::new("no")
            .field("apps.shop.prot")
            .at(&at("/etc/trueup/node.yml"));
        assert_eq!(shown(wrong), "apps.shop.prot: no");
        let other = Problem::new("no")
            .field("environment")
            .at(&at("/etc/trueup/node.d/a.yml"));
        assert_eq!(
            shown(other),
            "/etc/trueup/node.d/a.yml:12:14: environment: no"
        );
    }
}
