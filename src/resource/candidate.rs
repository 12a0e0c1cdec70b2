//! Verification of new content by a program (`verify`) before it replaces a file.

use std::path::PathBuf;
use std::time::Duration;

use super::{Argv, Failure};
use crate::ports::Host;
use crate::ports::root::{Attrs, RootError};
use crate::problem::Problem;

/// The argument of the command that stands for the candidate's path.
const PLACEHOLDER: &str = "{path}";

/// Timeout of the `verify` command.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(60);

/// Rejects a command that does not name the candidate: it would check nothing.
pub(crate) fn validate_command(verify: Option<&Argv>) -> Result<(), Problem> {
    let names_it = |argv: &Argv| match argv {
        Argv::List(argv) => argv.iter().any(|word| word.contains(PLACEHOLDER)),
        Argv::Shell(line) => line.contains(PLACEHOLDER),
    };
    match verify {
        Some(argv) if !names_it(argv) => {
            let message =
                format!("expected `{PLACEHOLDER}`, which stands for a file with the new content");
            Err(Problem::new(message)
                .field("verify")
                .hint("to check installed files use `check`"))
        }
        _ => Ok(()),
    }
}

/// Runs the command on a file with this content. `secret` hides its output, which may quote the content.
pub(crate) fn verify(argv: &Argv, body: &[u8], secret: bool, host: &Host) -> Result<(), Failure> {
    let folder = candidate_dir(host);
    remove_leftovers(host)?;
    host.root.create_dir_all(&folder, &Attrs::mode(0o700))?;
    let path = folder.join("candidate");
    host.root.write_atomic(&path, body, &Attrs::mode(0o600))?;
    let outside = host.root.machine_path(&path).display().to_string();
    let here = match argv {
        Argv::List(argv) => {
            let words = argv.iter().map(|word| word.replace(PLACEHOLDER, &outside));
            Argv::List(words.collect())
        }
        Argv::Shell(line) => Argv::Shell(line.replace(PLACEHOLDER, &outside)),
    };
    let answer = host
        .exec
        .run_checked(here.command().timeout(VERIFY_TIMEOUT));
    remove_leftovers(host)?;
    let Err(error) = answer else {
        return Ok(());
    };
    let (why, remedy) = if error.is_program_missing() {
        (
            error.to_string(),
            "install the package of this program before it, or omit `verify`",
        )
    } else {
        let why = match secret {
            true => format!("`{argv}` rejected it (output hidden: the file is secret)"),
            false => error.to_string(),
        };
        (
            why,
            "fix the content, or the parameters it is rendered from",
        )
    };
    let message = format!("not replaced, because it was not verified: {why}");
    Err(Failure::new(message).hint(format!("the old content stays; {remedy}")))
}

/// Removes candidates that a killed pass left behind.
pub(crate) fn remove_leftovers(host: &Host) -> Result<(), RootError> {
    host.root.remove_tree(&candidate_dir(host))
}

fn candidate_dir(host: &Host) -> PathBuf {
    host.state_path("candidate")
}

#[cfg(test)]
mod tests {
    use crate::kind::conformance::parse_resource;
    use crate::ports::testing::Sandbox;
    use crate::resource::{ApplyOutcome, Failure};

    const FILE: &str = "/etc/app.conf";

    /// Applies this content with a `verify` command that rejects content with "bad" in it.
    fn apply_content(host: &Sandbox, content: &str, more: &str) -> Result<ApplyOutcome, Failure> {
        let judge =
            r#"verify: ["/bin/sh", "-c", "cat \"$0\" >&2; ! grep -q bad \"$0\"", "{path}"]"#;
        let text = format!("file: {{path: {FILE}, content: \"{content}\\n\", {judge}{more}}}");
        let resource = parse_resource(&text).unwrap();
        resource.inspect(&host.host)?.apply(&host.host)
    }

    #[test]
    fn rejected_content_never_replaces_the_file() {
        let host = Sandbox::with_base_system();
        apply_content(&host, "good", "").unwrap();
        let inode = host.host.root.meta(FILE.as_ref()).unwrap().unwrap().inode;
        let failure = apply_content(&host, "bad word", "").unwrap_err();
        assert!(failure.message.contains("bad word"), "{failure}");
        let now = host.host.root.meta(FILE.as_ref()).unwrap().unwrap().inode;
        assert_eq!((host.read(FILE).as_str(), now), ("good\n", inode));
        apply_content(&host, "better", "").unwrap();
        assert_eq!(host.read(FILE), "better\n");
        assert!(!host.exists("/var/lib/trueup/candidate"), "left behind");
    }

    #[test]
    fn missing_verify_program_is_distinguished_from_a_rejection() {
        let host = Sandbox::with_base_system();
        let text =
            format!("file: {{path: {FILE}, content: x, verify: [no-such-judge, '{{path}}']}}");
        let resource = parse_resource(&text).unwrap();
        let observed = resource.inspect(&host.host).unwrap();
        let failure = observed.apply(&host.host).unwrap_err();
        assert!(failure.message.contains("no-such-judge"), "{failure}");
        assert!(
            failure.hint.unwrap().contains("package"),
            "{}",
            failure.message
        );
        assert!(!host.exists(FILE));
    }

    #[test]
    fn verify_output_of_a_secret_file_is_hidden() {
        let host = Sandbox::with_base_system();
        let failure = apply_content(&host, "bad word", ", secret: true").unwrap_err();
        assert!(!failure.to_string().contains("bad word"), "{failure}");
        assert!(!host.exists(FILE));
    }

    #[test]
    fn verify_command_without_a_path_is_rejected() {
        let text = format!("file: {{path: {FILE}, content: x, verify: [visudo, -c]}}");
        let problem = parse_resource(&text).err().unwrap();
        assert_eq!(problem.field.as_deref(), Some("verify"));
        assert!(problem.message.contains("{path}"), "{problem}");
    }
}
