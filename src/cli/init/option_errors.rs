//! Attributes mistakes in the settings to the option that set them: the file is not written yet, so its line
//! numbers would help nobody.

use std::path::Path;

use crate::operate::CommandError;
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
pub(super) fn attribute_to_options(error: CommandError, config: &Path) -> CommandError {
    match error {
        CommandError::Input(problems) => CommandError::Input(attribute_problems(problems, config)),
        CommandError::Pass(PassError::Input(problems)) => {
            PassError::Input(attribute_problems(problems, config)).into()
        }
        error => error,
    }
}

fn attribute_problems(problems: Problems, config: &Path) -> Problems {
    let file = config.display().to_string();
    let attribute = |problem: Problem| match &problem.at {
        Some(at) if *at.file == *file => attribute_to_option(problem),
        _ => problem,
    };
    Problems(problems.0.into_iter().map(attribute).collect())
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
        let text = |problem: Problem| attribute_problems(problem.into(), config).to_string();
        let wrong = Problem::new("no")
            .field("environment")
            .at(&at("/etc/trueup/node.yml"));
        assert_eq!(text(wrong), "--env: no");
        let wrong = Problem::new("no")
            .field("apps.shop.prot")
            .at(&at("/etc/trueup/node.yml"));
        assert_eq!(text(wrong), "apps.shop.prot: no");
        let other = Problem::new("no")
            .field("environment")
            .at(&at("/etc/trueup/node.d/a.yml"));
        assert_eq!(
            text(other),
            "/etc/trueup/node.d/a.yml:12:14: environment: no"
        );
    }
}
