//! A program of this host that gets the notice. It runs as root only if nobody else could have written it.

use std::path::Path;

use crate::notify::notice::Notice;
use crate::ports::Host;
use crate::ports::deadline::Deadline;
use crate::ports::exec::{Command, Identity};
use crate::problem::Problem;

/// Lines of its output that an error quotes.
const MAX_LINES: usize = 5;

/// Runs the program with the document on its standard input.
pub(super) fn run(
    host: &Host,
    argv: &[String],
    user: Option<&str>,
    notice: &Notice,
    document: Vec<u8>,
    deadline: &Deadline,
) -> Result<String, Problem> {
    let identity = check(host, argv, user)?;
    let mut program = Command::new(argv.iter().skip(1));
    program
        .argv
        .insert(0, host.root.machine_path(Path::new(&argv[0])).into());
    let mut program = program
        .env("TRUEUP_NOTICE", notice.transition.word())
        .env("TRUEUP_NOTICE_ID", notice.message_id())
        .env("TRUEUP_ENVIRONMENT", &notice.environment)
        .env("TRUEUP_APP", &notice.app)
        .env("TRUEUP_SUMMARY", &notice.summary)
        .timeout(deadline.remaining());
    if let Some(identity) = &identity {
        program = program
            .env("HOME", &identity.home)
            .env("USER", &identity.name);
    }
    program.identity = identity.filter(|_| host.root.is_privileged());
    program.input = document;
    run_program(host, program)
}

/// Whether the program may run, and as whom. An error if it may not.
pub(super) fn check(
    host: &Host,
    argv: &[String],
    user: Option<&str>,
) -> Result<Option<Identity>, Problem> {
    let Some(program) = argv.first() else {
        return Err(Problem::new("the channel has no program"));
    };
    let Some(user) = user else {
        require_trusted(host, Path::new(program))?;
        return Ok(None);
    };
    let missing = || Problem::new(format!("there is no user `{user}` on this host"));
    let found = host.accounts.identity(&host.root, user);
    let found = found.map_err(|error| Problem::new(error.to_string()))?;
    found.map(Some).ok_or_else(missing)
}

/// Refuses a program that is not there, or that a user other than root can change.
pub(super) fn require_trusted(host: &Host, program: &Path) -> Result<(), Problem> {
    match host.root.has_trusted_program(program) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Problem::new(format!(
            "there is no program {}",
            program.display()
        ))),
        Err(error) => Err(Problem::new(error.to_string()).optional_hint(error.hint())),
    }
}

pub(super) fn run_program(host: &Host, mut program: Command) -> Result<String, Problem> {
    program.stop = Some(host.stop.clone());
    let line = program.command_line();
    let completed = host.exec.run(program);
    let completed = completed.map_err(|error| Problem::new(error.to_string()))?;
    if completed.success() {
        return Ok(format!("`{line}` exited with 0"));
    }
    let output = completed.output.tail(MAX_LINES);
    let ended = completed.exit_reason;
    Err(Problem::new(match output.is_empty() {
        true => format!("`{line}` {ended}"),
        false => format!("`{line}` {ended}:\n{output}"),
    }))
}
