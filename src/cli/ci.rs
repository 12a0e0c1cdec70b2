//! What a CI system says about its job: who, which commit, which ref.

use crate::desired::Sha;
use crate::printable;
use crate::problem::Problem;

/// A CI system, and the variables in which it says so; of several, the first that is set counts.
struct System {
    name: &'static str,
    /// Set in each of its jobs, to anything but `false`.
    marker: &'static str,
    sha: &'static [&'static str],
    reference: &'static [&'static str],
    by: &'static [&'static str],
}

/// The first whose marker is set counts: a script that sets its own goes before all.
const SYSTEMS: &[System] = &[
    System {
        name: "TRUEUP_SHA",
        marker: "TRUEUP_SHA",
        sha: &["TRUEUP_SHA"],
        reference: &["TRUEUP_REF"],
        by: &["TRUEUP_BY"],
    },
    System {
        name: "GitHub Actions",
        marker: "GITHUB_ACTIONS",
        sha: &["GITHUB_SHA"],
        // In a pull request GITHUB_REF_NAME is `7/merge`, and GITHUB_SHA a merge that is on no branch.
        reference: &["GITHUB_REF_NAME"],
        // Who started this run, which may be another one than who caused the first.
        by: &["GITHUB_TRIGGERING_ACTOR", "GITHUB_ACTOR"],
    },
    System {
        name: "GitLab CI",
        marker: "GITLAB_CI",
        sha: &["CI_COMMIT_SHA"],
        reference: &["CI_COMMIT_REF_NAME"],
        by: &["GITLAB_USER_LOGIN"],
    },
    System {
        name: "CircleCI",
        marker: "CIRCLECI",
        sha: &["CIRCLE_SHA1"],
        reference: &["CIRCLE_TAG", "CIRCLE_BRANCH"],
        by: &["CIRCLE_USERNAME"],
    },
    System {
        name: "Buildkite",
        marker: "BUILDKITE",
        sha: &["BUILDKITE_COMMIT"],
        reference: &["BUILDKITE_TAG", "BUILDKITE_BRANCH"],
        by: &["BUILDKITE_UNBLOCKER", "BUILDKITE_BUILD_CREATOR"],
    },
    System {
        name: "Jenkins",
        marker: "JENKINS_URL",
        sha: &["GIT_COMMIT"],
        reference: &["TAG_NAME", "BRANCH_NAME", "GIT_LOCAL_BRANCH", "GIT_BRANCH"],
        // Of its plug-in "build user vars"; without it Jenkins says nobody.
        by: &["BUILD_USER_ID", "BUILD_USER"],
    },
];

/// Variables that name the pull request of a job. In such a job the commit is a proposal, or its merge, which nobody has
/// reviewed.
const PULL_REQUEST_VARIABLES: &[&str] = &[
    "CI_MERGE_REQUEST_IID",
    "CHANGE_ID",
    "CIRCLE_PULL_REQUEST",
    "CI_PULL_REQUEST",
    "BUILDKITE_PULL_REQUEST",
];

/// Refuses a job of a pull request, whichever system has set the variables.
fn check_reviewed(variable: &impl Fn(&str) -> Option<String>) -> Result<(), Problem> {
    let event = value(variable, "GITHUB_EVENT_NAME");
    let event = event.filter(|(_, name)| name.starts_with("pull_request"));
    let mut named = PULL_REQUEST_VARIABLES.iter();
    let named = named.find_map(|name| value(variable, name).filter(|(_, text)| text != "false"));
    match event.or(named) {
        None => Ok(()),
        Some((name, text)) => Err(Problem::new(format!(
            "--via-ci: this is a job of a pull request ({name} is `{}`), whose commit nobody has reviewed",
            printable::line(&text)
        ))
        .hint("publish in the job of the branch, after the merge")),
    }
}

/// A job of CI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CiJob {
    /// The name of the system.
    pub system: &'static str,
    pub sha: Sha,
    pub reference: Option<String>,
    /// `None`: the system does not say.
    pub by: Option<String>,
}

/// Who runs the job of CI that this is; `None`: the system does not say. For a job whose commit does not matter.
pub(super) fn job_author() -> Result<Option<String>, Problem> {
    check_reviewed(&variable)?;
    let value = |name: &&'static str| value(&variable, name);
    Ok(author(System::detect(&variable)?, &value))
}

impl System {
    fn detect(variable: &impl Fn(&str) -> Option<String>) -> Result<&'static System, Problem> {
        let marker = |system: &&System| value(variable, system.marker);
        let is_here = |system: &&System| marker(system).is_some_and(|(_, text)| text != "false");
        SYSTEMS.iter().find(is_here).ok_or_else(unrecognised)
    }
}

/// A variable that is set to a line of text.
fn value(
    variable: &impl Fn(&str) -> Option<String>,
    name: &'static str,
) -> Option<(&'static str, String)> {
    let value = variable(name)?;
    let value = value.trim();
    let is_set = !value.is_empty() && !value.contains(char::is_control);
    is_set.then(|| (name, value.to_owned()))
}

fn author(
    system: &System,
    value: &impl Fn(&&'static str) -> Option<(&'static str, String)>,
) -> Option<String> {
    let by = system.by.iter().find_map(value).map(|(_, by)| by);
    by.map(|by| printable::line(&by).into_owned())
}

#[expect(
    clippy::disallowed_methods,
    reason = "cli reads the environment and passes values on"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl CiJob {
    /// Reads the job from the environment.
    pub(super) fn from_environment() -> Result<CiJob, Problem> {
        CiJob::read(variable)
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<CiJob, Problem> {
        check_reviewed(&variable)?;
        let value = |name: &&'static str| value(&variable, name);
        let system = System::detect(&variable)?;
        let Some((name, sha)) = system.sha.iter().find_map(value) else {
            return Err(Problem::new(format!(
                "--via-ci: this is {}, but {} is not set",
                system.name,
                system.sha.join(" and ")
            ))
            .hint("set it in this job, or name the commit: `APP=SHA`"));
        };
        let sha = Sha::parse(&sha).map_err(|invalid| {
            Problem::new(format!("--via-ci: {name}: {}", invalid.message)).hint(invalid.hint)
        })?;
        // Jenkins names the branch of its clone: `origin/main`.
        let reference = system.reference.iter().find_map(value);
        let reference = reference.map(|(name, value)| match name {
            "GIT_BRANCH" => value.strip_prefix("origin/").unwrap_or(&value).to_owned(),
            _ => value,
        });
        Ok(CiJob {
            system: system.name,
            sha,
            reference: reference.map(|name| printable::line(&name).into_owned()),
            by: author(system, &value),
        })
    }
}

fn unrecognised() -> Problem {
    let known = SYSTEMS.iter().map(|system| match system.marker {
        marker if system.sha == [marker] => format!("{marker} (with TRUEUP_REF and TRUEUP_BY)"),
        marker => format!(
            "{marker} with {} ({})",
            system.sha.join(" or "),
            system.name
        ),
    });
    let known: Vec<String> = known.collect();
    Problem::new("--via-ci: no CI system has set its variables here").hint(format!(
        "it reads {}; elsewhere set TRUEUP_SHA",
        known.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203";

    fn read(variables: &[(&str, &str)]) -> Result<CiJob, String> {
        let variable = |name: &str| {
            let mut known = variables.iter();
            known
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        CiJob::read(variable).map_err(|problem| problem.to_string())
    }

    /// Variables, and the system, ref and person that they name.
    type Case<'a> = (
        &'a [(&'a str, &'a str)],
        &'a str,
        Option<&'a str>,
        Option<&'a str>,
    );

    #[test]
    fn each_ci_system_names_its_commit_ref_and_person() {
        let cases: &[Case<'_>] = &[
            (
                &[
                    ("GITHUB_ACTIONS", "true"),
                    ("GITHUB_SHA", SHA),
                    ("GITHUB_REF_NAME", "main"),
                    ("GITHUB_ACTOR", "ana"),
                    ("GITHUB_TRIGGERING_ACTOR", "ben"),
                ],
                "GitHub Actions",
                Some("main"),
                Some("ben"),
            ),
            (
                &[
                    ("GITLAB_CI", "true"),
                    ("CI_COMMIT_SHA", SHA),
                    ("CI_COMMIT_REF_NAME", "v1"),
                    ("GITLAB_USER_LOGIN", "ana"),
                ],
                "GitLab CI",
                Some("v1"),
                Some("ana"),
            ),
            (
                &[
                    ("JENKINS_URL", "https://ci/"),
                    ("GIT_COMMIT", SHA),
                    ("GIT_BRANCH", "origin/feature/x"),
                ],
                "Jenkins",
                Some("feature/x"),
                None,
            ),
            (
                &[
                    ("CIRCLECI", "true"),
                    ("CIRCLE_SHA1", SHA),
                    ("CIRCLE_TAG", ""),
                    ("CIRCLE_BRANCH", "main"),
                    ("CIRCLE_USERNAME", "ana"),
                ],
                "CircleCI",
                Some("main"),
                Some("ana"),
            ),
            (
                &[
                    ("BUILDKITE", "true"),
                    ("BUILDKITE_COMMIT", SHA),
                    ("BUILDKITE_BRANCH", "main"),
                    ("BUILDKITE_BUILD_CREATOR", "Ana B"),
                ],
                "Buildkite",
                Some("main"),
                Some("Ana B"),
            ),
            (
                &[
                    ("GITHUB_ACTIONS", "true"),
                    ("GITHUB_SHA", "elsewhere"),
                    ("TRUEUP_SHA", SHA),
                    ("TRUEUP_REF", "main"),
                    ("TRUEUP_BY", "ana"),
                ],
                "TRUEUP_SHA",
                Some("main"),
                Some("ana"),
            ),
        ];
        for (variables, system, reference, by) in cases {
            let job = read(variables).unwrap();
            assert_eq!(job.system, *system);
            assert_eq!(job.sha.as_str(), SHA, "{system}");
            assert_eq!(job.reference.as_deref(), *reference, "{system}");
            assert_eq!(job.by.as_deref(), *by, "{system}");
        }
    }

    #[test]
    fn job_of_a_pull_request_is_refused_in_every_system() {
        let github = [("GITHUB_ACTIONS", "true"), ("GITHUB_SHA", SHA)];
        for (name, text, is_refused) in [
            ("GITHUB_EVENT_NAME", "push", false),
            ("GITHUB_EVENT_NAME", "pull_request", true),
            ("GITHUB_EVENT_NAME", "pull_request_target", true),
            ("CI_MERGE_REQUEST_IID", "7", true),
            ("CHANGE_ID", "7", true),
            ("CIRCLE_PULL_REQUEST", "https://host/7", true),
            ("CI_PULL_REQUEST", "https://host/7", true),
            ("BUILDKITE_PULL_REQUEST", "7", true),
            ("BUILDKITE_PULL_REQUEST", "false", false),
            ("BUILDKITE_PULL_REQUEST", "", false),
        ] {
            for own in [&github[..], &[("TRUEUP_SHA", SHA)]] {
                let job = read(&[own, &[(name, text)]].concat());
                assert_eq!(job.is_err(), is_refused, "{name}={text}");
                let error = job.err().unwrap_or_default();
                assert_eq!(error.contains(name), is_refused, "{error}");
            }
        }
    }

    #[test]
    fn job_that_names_no_commit_is_refused_with_the_variables() {
        let error = read(&[]).unwrap_err();
        for name in [
            "GITHUB_SHA",
            "CI_COMMIT_SHA",
            "GIT_COMMIT",
            "CIRCLE_SHA1",
            "BUILDKITE_COMMIT",
        ] {
            assert!(error.contains(name), "{error}");
        }
        assert!(read(&[("GITHUB_ACTIONS", "false")]).is_err());
        let error = read(&[("GITLAB_CI", "true")]).unwrap_err();
        assert!(error.contains("CI_COMMIT_SHA is not set"), "{error}");
        let head = [("BUILDKITE", "true"), ("BUILDKITE_COMMIT", "HEAD")];
        let error = read(&head).unwrap_err();
        assert!(
            error.contains("BUILDKITE_COMMIT: `HEAD` is not a git sha"),
            "{error}"
        );
        let forged = [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_SHA", SHA),
            ("GITHUB_ACTOR", "a\nb"),
        ];
        assert_eq!(read(&forged).unwrap().by, None);
    }
}
