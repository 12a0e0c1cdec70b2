//! A command as a transient unit, started by systemd-run(1), which passes its output on and ends with it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::{CALL_TIMEOUT, SystemdServices, UnitName};
use crate::ports::exec::Command;
use crate::ports::services::{ActiveState, ServiceError, TransientEnd, TransientUnit};

/// How long the app may take to end after SIGTERM, in seconds.
const STOP_TIMEOUT: u32 = 5;

impl SystemdServices {
    /// The command that runs `command` in a transient unit.
    ///
    /// Properties of a unit are readable by everybody, so the environment with its secrets and the arguments (in which systemd
    /// would also expand variables) are a script on standard input.
    pub(super) fn systemd_run(command: Command, unit: &TransientUnit) -> Command {
        let mut argv: Vec<OsString> = ["systemd-run", "--quiet", "--pipe", "--wait"]
            .map(OsString::from)
            .into();
        let mut option = |text: String| argv.push(text.into());
        option(format!("--unit={}.service", unit.name));
        option(format!("--description={}", unit.description));
        for property in properties(&command, unit) {
            option(format!("--property={property}"));
        }
        argv.extend(["--", "/bin/sh", "-s"].map(OsString::from));
        Command {
            input: script(&command),
            argv,
            cwd: None,
            env: BTreeMap::new(),
            identity: None,
            ..command
        }
    }

    /// Stops a transient unit with all of its processes, if it still exists.
    pub(super) fn stop_transient_unit(
        &self,
        name: &UnitName,
    ) -> Result<TransientEnd, ServiceError> {
        let state = self.unit_state("stop", name)?;
        // A unit of an operator that has this name is not trueup's to stop, and keeps systemd from starting one.
        if !state.is_known() || !state.is_transient() {
            return Ok(TransientEnd::NotStarted);
        }
        let end = match state.failure_reason() {
            Some(why) => TransientEnd::Failed {
                why,
                was_killed: state.was_killed(),
            },
            None => TransientEnd::Exited,
        };
        if state.active_state() != ActiveState::Failed {
            let stopped = self.run_job("stop", "StopUnit", name, CALL_TIMEOUT);
            unless_gone(stopped)?;
        }
        // systemd keeps a failed unit until then, and starts no other of its name.
        let forgotten = self.call("stop", name, CALL_TIMEOUT, async |bus| {
            bus.call_manager("ResetFailedUnit", &name.full())
                .await
                .map(drop)
        });
        unless_gone(forgotten)?;
        Ok(end)
    }
}

/// A transient unit that ended well disappears, at any moment.
fn unless_gone(result: Result<(), ServiceError>) -> Result<(), ServiceError> {
    match result {
        Err(ServiceError::Unknown { .. }) => Ok(()),
        result => result,
    }
}

fn properties(command: &Command, unit: &TransientUnit) -> Vec<String> {
    let mut all = vec![
        format!("UMask={:04o}", command.umask),
        format!("TimeoutStopSec={STOP_TIMEOUT}"),
        format!("RuntimeMaxSec={}", unit.max_runtime.as_secs().max(1)),
        // The kernel ends this instance before anything that visitors use.
        "OOMScoreAdjust=1000".to_owned(),
        // As in the units of the roles. No mount is on a path that the app's user can change: systemd would create
        // folders at the end of a link as root.
        "NoNewPrivileges=yes".to_owned(),
        "PrivateTmp=yes".to_owned(),
        "ProtectSystem=full".to_owned(),
    ];
    if let Some(identity) = &command.identity {
        all.push(format!("User={}", identity.name));
        all.push(format!("Group={}", identity.gid));
    }
    all.extend(unit.memory.map(|bytes| format!("MemoryMax={bytes}")));
    all
}

/// The environment, the folder and the command, in shell syntax.
fn script(command: &Command) -> Vec<u8> {
    let mut script = Vec::new();
    let mut line = |parts: &[&[u8]]| {
        script.extend(parts.concat());
        script.push(b'\n');
    };
    for (name, value) in &command.env {
        // A shell cannot export other names, nor can the roles' start scripts.
        if is_shell_name(name) {
            line(&[b"export ", name.as_bytes(), b"=", &quote(value)]);
        }
    }
    if let Some(folder) = &command.cwd {
        line(&[b"cd ", &quote(folder.as_os_str()), b" || exit"]);
    }
    let argv: Vec<Vec<u8>> = command
        .argv
        .iter()
        .map(|argument| quote(argument))
        .collect();
    line(&[b"exec ", &argv.join(&b' '), b" </dev/null"]);
    script
}

fn is_shell_name(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    bytes.iter().all(is_plain) && bytes.first().is_some_and(|first| !first.is_ascii_digit())
}

fn quote(text: &OsStr) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for byte in text.as_bytes() {
        match byte {
            b'\'' => quoted.extend(b"'\\''"),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ports::exec::Exec;

    fn unit() -> TransientUnit {
        TransientUnit {
            name: "trueup-preflight-shop".into(),
            description: "Preflight of shop".into(),
            memory: Some(1 << 20),
            max_runtime: Duration::from_secs(60),
        }
    }

    #[test]
    fn secrets_of_a_transient_unit_are_in_no_argument() {
        let command = Command::shell("exec app --port $PORT").env("SECRET", "hunter2");
        let started = SystemdServices::systemd_run(command, &unit());
        let line = started.command_line();
        assert!(!line.contains("hunter2") && !line.contains("app"), "{line}");
        assert!(started.env.is_empty());
    }

    #[test]
    fn script_starts_the_command_with_its_environment_and_without_its_own_text_as_input() {
        let values = ["plain", "it's; $(touch x) \"`\\", "two\nlines"];
        let mut command = Command::new([
            "sh",
            "-c",
            "printf '%s|' \"$@\" \"$V0\" \"$V1\" \"$V2\"; pwd; cat",
            "sh",
            "a'b $V0",
        ]);
        for (index, value) in values.iter().enumerate() {
            command = command.env(format!("V{index}"), *value);
        }
        command = command.env("not.a.name", "x");
        command.cwd = Some("/usr/bin".into());
        let mut shell = Command::new(["/bin/sh", "-s"]);
        shell.input = script(&command);
        let done = Exec.run(shell).unwrap();
        let expected = format!("a'b $V0|{}|/usr/bin\n", values.join("|"));
        assert_eq!(done.output.text(), expected);
    }
}
