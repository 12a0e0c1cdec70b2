//! The `command` kind: runs a program when, and only when, its condition requires it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::kind::{Diff, Kind, Triggered};
use crate::ports::Host;
use crate::ports::exec::{self, ExitReason};
use crate::problem::Problem;
use crate::resource::{
    ApplyOutcome, Argv, Change, Duty, DutyOutcome, Failure, FieldValue, ResolveInputs, Seconds,
    Trigger, Verb,
};

/// Timeout of an `unless` command, which runs in every pass.
const UNLESS_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Command;

/// A command with a condition.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct CommandSpec {
    /// The command: a list of arguments, or a string for the shell.
    pub run: Argv,
    /// Run only while this path does not exist; it must exist afterwards.
    pub creates: Option<PathBuf>,
    /// Run only while this command fails. It runs in every pass and every plan, so it must change nothing.
    pub unless: Option<Argv>,
    /// Run once for every change of one of these resources (ids).
    #[serde(default)]
    pub when_changed: Vec<String>,
    /// Folder to run in; `/` when not given.
    pub cwd: Option<PathBuf>,
    /// The user that runs it; root when not given.
    pub user: Option<String>,
    /// The environment: only these variables, and a standard `PATH`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How long it may take; `10m` when not given.
    pub timeout: Option<Seconds>,
}

/// The reason why the command is due, if it is.
pub(super) struct CommandState(Option<String>);

impl CommandSpec {
    fn build_command(
        &self,
        argv: &Argv,
        timeout: Duration,
        host: &Host,
    ) -> Result<exec::Command, Failure> {
        let mut command = argv.command().timeout(timeout);
        let folder = self.cwd.as_deref().unwrap_or("/".as_ref());
        if host.root.meta(folder)?.is_none() {
            // The system's own error message would blame the program.
            return Err(Failure::not_ready(format!(
                "the folder to run it in, {}, does not exist",
                folder.display()
            ))
            .hint("describe it in a `directory` before this"));
        }
        command.cwd = Some(host.root.machine_path(folder));
        for (key, value) in &self.env {
            command.env.insert(key.into(), value.into());
        }
        if let Some(user) = &self.user {
            let identity = host.accounts.identity(&host.root, user)?;
            let identity = identity.ok_or_else(|| {
                Failure::not_ready(format!("there is no user `{user}` to run it as"))
            })?;
            let home = host.root.machine_path(&identity.home);
            for (key, value) in [("HOME", home.as_os_str()), ("USER", identity.name.as_ref())] {
                command
                    .env
                    .entry(key.into())
                    .or_insert_with(|| value.to_owned());
            }
            command.identity = host.root.is_privileged().then_some(identity);
        }
        Ok(command)
    }

    fn run(&self, host: &Host) -> Result<(), Failure> {
        let timeout = self
            .timeout
            .map_or(exec::DEFAULT_TIMEOUT, |timeout| timeout.0);
        host.exec
            .run_checked(self.build_command(&self.run, timeout, host)?)?;
        match &self.creates {
            Some(path) if host.root.meta(path)?.is_none() => Err(Failure::new(format!(
                "it exited with 0, but {} still does not exist",
                path.display()
            ))
            .hint("`creates` must name a path that the command creates")),
            _ => Ok(()),
        }
    }
}

/// The only action: its condition holds, so it runs.
pub(super) struct RunCommand;

impl Kind for Command {
    const NAME: &'static str = "command";
    const ABOUT: &'static str = "A command that runs only when its condition holds.";
    const EXAMPLE: &'static str = "command: {run: [touch, marker], cwd: /var/lib/app, creates: /var/lib/app/marker, timeout: 30s}";

    const SECRET_FIELDS: &'static [&'static [&'static str]] = &[&["env"]];

    type Spec = CommandSpec;
    type State = CommandState;
    type Action = RunCommand;

    fn subject(spec: &CommandSpec) -> String {
        spec.run.to_string()
    }

    fn resolve(spec: &mut CommandSpec, _inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        for (field, path) in [("creates", &spec.creates), ("cwd", &spec.cwd)] {
            path.as_ref()
                .map_or(Ok(()), |path| super::path_field::validate_path(field, path))?;
        }
        if spec.creates.is_none() && spec.unless.is_none() && spec.when_changed.is_empty() {
            return Err(
                Problem::new("one of `creates`, `unless` and `when_changed` is required")
                    .hint("a command without a condition would run in every pass"),
            );
        }
        Ok(())
    }

    fn inspect(spec: &CommandSpec, host: &Host) -> Result<CommandState, Failure> {
        if let Some(path) = &spec.creates {
            let missing = host.root.meta(path)?.is_none();
            return Ok(CommandState(
                missing.then(|| format!("{} is not there", path.display())),
            ));
        }
        let Some(unless) = &spec.unless else {
            return Ok(CommandState(None));
        };
        let answer = host
            .exec
            .run(spec.build_command(unless, UNLESS_TIMEOUT, host)?)?;
        match answer.exit_reason {
            ExitReason::Exited(0) => Ok(CommandState(None)),
            ExitReason::Exited(code) => {
                Ok(CommandState(Some(format!("`{unless}` exited with {code}"))))
            }
            ended => Err(Failure::new(format!("its condition `{unless}` {ended}"))),
        }
    }

    fn diff(spec: &CommandSpec, state: &CommandState) -> Option<Diff<RunCommand>> {
        let why = FieldValue::value(state.0.as_ref()?);
        let change = Change::new(Verb::Run).with_field("run", why, FieldValue::value(&spec.run));
        Some(Diff::new(RunCommand, change))
    }

    fn apply(spec: &CommandSpec, _: &RunCommand, host: &Host) -> Result<ApplyOutcome, Failure> {
        spec.run(host)?;
        Ok(ApplyOutcome::Done)
    }

    fn triggered(spec: &CommandSpec) -> Option<&dyn Triggered> {
        Some(spec)
    }
}

impl Triggered for CommandSpec {
    fn triggers(&self) -> Vec<Trigger> {
        let on = self.when_changed.clone();
        if on.is_empty() {
            return Vec::new();
        }
        vec![Trigger {
            duty: Duty::Run,
            on,
        }]
    }

    fn fulfill(
        &self,
        _duty: Duty,
        _fingerprints: &[&str],
        host: &Host,
    ) -> Result<DutyOutcome, Failure> {
        self.run(host).map(|()| DutyOutcome::AsNamed)
    }
}

#[cfg(test)]
mod conformance {
    use super::Command;
    use crate::kind::ConformanceProbes;
    use crate::kind::conformance::Probe;
    use crate::resource::Verb;

    impl ConformanceProbes for Command {
        fn prepare(host: &crate::ports::testing::Sandbox) {
            host.make_dir("/var/lib/app");
        }

        fn probes() -> Vec<Probe> {
            let how = "it says how to run, which leaves nothing of its own on the host";
            vec![
                Probe::drift("creates", |host| host.remove("/var/lib/app/marker"))
                    .expect_verb(Verb::Run),
                Probe::not_set("run", how),
                Probe::not_set("unless", "it is the other condition, asked and not set"),
                Probe::not_set("when_changed", "what is owed is kept by the stages"),
                Probe::not_set("cwd", how),
                Probe::not_set("user", how),
                Probe::not_set("env", how),
                Probe::not_set("timeout", how),
            ]
        }
    }
}
