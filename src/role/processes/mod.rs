//! The processes and cron jobs of an app, as an operator describes them, for the `for_each` of the resources that run them.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::de::{self, Deserialize, Deserializer};
use serde_json::{Value, json};

use super::schedule::Schedule;
use crate::problem::{InvalidValue, Problem};
use crate::resource::{check_variable_name, check_variable_value};
use crate::yaml::{Entry, Node, NodeKind, Seconds, decode};

/// Most instances of one process on one host.
const MAX_COUNT: u32 = 100;

/// The longest time that a pass waits for one process to stop.
const MAX_STOP_TIMEOUT: u64 = 3600;

const DEFAULT_STOP_TIMEOUT: u64 = 30;

/// The command that stands for the entry of the release's `Procfile` with the name of the process.
const FROM_PROCFILE: &str = "procfile";

/// A process as an operator describes it; a text is its `command`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Process {
    command: CommandLine,
    count: Option<Count>,
    stop_timeout: Option<StopTimeout>,
    quiet_signal: Option<SignalName>,
    stop_signal: Option<SignalName>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default, rename = "match")]
    tags: BTreeMap<String, String>,
}

/// A cron job as an operator describes it.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct CronJob {
    schedule: Schedule,
    run: CommandLine,
    timeout: Option<Seconds>,
    #[serde(default)]
    persistent: bool,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default, rename = "match")]
    tags: BTreeMap<String, String>,
}

/// The instances of processes. Each has the `name` of its process, its `unit` (`sidekiq.1`), and what its unit needs.
pub(super) fn process_units(processes: &Node) -> Result<Vec<Value>, Problem> {
    if processes.as_text() == Some(FROM_PROCFILE) {
        return Err(Problem::new("expected a map of names to processes")
            .at(&processes.at)
            .hint("name the entries of the Procfile that run on this host: `{worker: procfile}`"));
    }
    let mut units = Vec::new();
    for entry in named_entries(
        processes,
        "a map of names to processes, such as `{worker: bin/worker}`",
    )? {
        let process = decode_process(entry)
            .map_err(|problem| problem.within_field(&entry.key).at(&entry.value.at))?;
        let name = &entry.key;
        for instance in 1..=process.count.map_or(1, |count| count.0) {
            let unit = format!("{name}.{instance}");
            let mut env = process.env.clone();
            env.insert("TRUEUP_PROCESS".into(), name.clone());
            env.insert("TRUEUP_INSTANCE".into(), instance.to_string());
            let start = process.command.start(name);
            units.push(json!({
                "name": name,
                "unit": unit,
                "instance": instance,
                "script": script(&env, &start.text),
                "kill_mode": if start.is_main { "mixed" } else { "control-group" },
                "stop_timeout": process.stop_timeout.map_or(DEFAULT_STOP_TIMEOUT, |time| time.0),
                "quiet_signal": process.quiet_signal.as_ref().map(|signal| &signal.0),
                "stop_signal": process.stop_signal.as_ref().map(|signal| &signal.0),
                "match": process.tags,
            }));
        }
    }
    Ok(units)
}

/// Cron jobs. Each has its `name`, its `unit` (`cron:nightly`), and what its units need.
pub(super) fn cron_jobs(jobs: &Node) -> Result<Vec<Value>, Problem> {
    let mut units = Vec::new();
    let expected = "a map of names to cron jobs, such as `{nightly: {schedule: \"0 3 * * *\", run: bin/report}}`";
    for entry in named_entries(jobs, expected)? {
        let job = decode::<CronJob>(&entry.value)
            .and_then(|job| validate_env(&job.env, &entry.value).map(|()| job))
            .map_err(|problem| problem.within_field(&entry.key).at(&entry.value.at))?;
        let name = &entry.key;
        let mut env = job.env.clone();
        env.insert("TRUEUP_PROCESS".into(), name.clone());
        units.push(json!({
            "name": name,
            "unit": format!("cron:{name}"),
            "calendar": job.schedule.0,
            "script": script(&env, &job.run.start(name).text),
            "timeout": job.timeout.map(|timeout| timeout.0.as_secs()),
            "persistent": job.persistent,
            "match": job.tags,
        }));
    }
    Ok(units)
}

fn named_entries<'n>(node: &'n Node, expected: &str) -> Result<Vec<&'n Entry>, Problem> {
    if node.is_null() {
        return Ok(Vec::new());
    }
    let entries: Vec<&Entry> = node.expect_map(expected)?.iter().collect();
    for entry in &entries {
        let usable = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        let starts = entry.key.starts_with(|c: char| c.is_ascii_lowercase());
        if !starts || !entry.key.chars().all(usable) || entry.key.len() > 60 {
            return Err(Problem::new(format!(
                "`{}` is not a name: expected at most 60 lower-case letters, digits, `-` and `_`, starting with a letter",
                entry.key
            ))
            .at(&entry.key_at));
        }
    }
    Ok(entries)
}

fn decode_process(entry: &Entry) -> Result<Process, Problem> {
    let written = &entry.value;
    let process = match &written.kind {
        NodeKind::Scalar { .. } if !written.is_null() => {
            let command = Entry {
                key: "command".into(),
                value: written.clone(),
                ..entry.clone()
            };
            decode(&Node::synthetic(&written.at, NodeKind::Map(vec![command])))
        }
        NodeKind::Map(_) => decode(written),
        _ => Err(Problem::new("expected a command, or a map with a `command`").at(&written.at)),
    }?;
    let Process { env, .. } = &process;
    validate_env(env, written)?;
    Ok(process)
}

/// Refuses what no shell can export.
fn validate_env(env: &BTreeMap<String, String>, written: &Node) -> Result<(), Problem> {
    env.iter().try_for_each(|(name, value)| {
        let entry = written.get("env").and_then(|env| env.entry(name));
        let at = entry.map_or(&written.at, |entry| &entry.key_at);
        check_variable_name(name)
            .and_then(|()| check_variable_value(name, value))
            .map_err(|problem| problem.at(at).field("env"))
    })
}

/// A shell script that exports these variables and then starts the command.
fn script(env: &BTreeMap<String, String>, start: &str) -> String {
    let mut text = String::new();
    for (name, value) in env {
        let value = value.replace('\'', r"'\''");
        let _ = writeln!(text, "export {name}='{value}'");
    }
    text + start
}

/// How a script starts a command.
struct Start {
    text: String,
    /// Whether the program becomes the main process of the unit, so that it gets the signals.
    is_main: bool,
}

/// A command line for a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CommandLine(String);

impl CommandLine {
    fn start(&self, process: &str) -> Start {
        let main = |text: String| Start {
            text,
            is_main: true,
        };
        let command = &self.0;
        if command == FROM_PROCFILE {
            // What the release says there may be more than one program.
            return Start {
                text: procfile_launcher(process),
                is_main: false,
            };
        }
        if command.starts_with("exec ") {
            return main(command.clone());
        }
        match command.contains(OPERATORS) {
            true => Start {
                text: command.clone(),
                is_main: false,
            },
            // `env` allows variables before the program.
            false => main(format!("exec /usr/bin/env {command}")),
        }
    }
}

/// What makes a command line more than one program with its arguments.
const OPERATORS: [char; 5] = [';', '&', '|', '(', '\n'];

/// Starts the process as the release's `Procfile` says, which only the app's user reads.
fn procfile_launcher(process: &str) -> String {
    format!(
        r#"line=$(LC_ALL=C sed -n 's/^{process}:[[:blank:]]*//p' Procfile | head -n 1)
[ -n "$line" ] || {{ echo "the Procfile of this release has no process {process}" >&2; exit 78; }}
case $line in
  exec\ *|*[\;\&\|\(]*) exec /bin/sh -c "$line" ;;
  *) exec /bin/sh -c "exec /usr/bin/env $line" ;;
esac"#
    )
}

impl<'de> Deserialize<'de> for CommandLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CommandLine, D::Error> {
        let text = String::deserialize(deserializer)?;
        let text = text.trim();
        let is_odd = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
        if text.is_empty() || text.contains(is_odd) {
            return Err(de::Error::custom(InvalidValue::new(
                "it is not a command",
                "expected a command line for a shell, without control characters",
            )));
        }
        Ok(CommandLine(text.to_owned()))
    }
}

/// How many instances of a process run.
#[derive(Debug, Clone, Copy)]
struct Count(u32);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Count, D::Error> {
        let count = u32::deserialize(deserializer)?;
        match count {
            1..=MAX_COUNT => Ok(Count(count)),
            _ => Err(de::Error::custom(InvalidValue::new(
                format!("{count} instances are not possible"),
                format!("expected 1 to {MAX_COUNT}; to run none, remove the process"),
            ))),
        }
    }
}

/// How long a process may take to stop, in seconds.
#[derive(Debug, Clone, Copy)]
struct StopTimeout(u64);

impl<'de> Deserialize<'de> for StopTimeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<StopTimeout, D::Error> {
        let seconds = Seconds::deserialize(deserializer)?.0.as_secs();
        match seconds <= MAX_STOP_TIMEOUT {
            true => Ok(StopTimeout(seconds)),
            false => Err(de::Error::custom(InvalidValue::new(
                "a deployment would wait too long for it",
                "expected at most 1h",
            ))),
        }
    }
}

/// The name of a signal without `SIG`.
#[derive(Debug, Clone)]
struct SignalName(String);

impl<'de> Deserialize<'de> for SignalName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SignalName, D::Error> {
        const SIGNALS: [&str; 9] = [
            "TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "TSTP", "WINCH", "TTIN",
        ];
        let text = String::deserialize(deserializer)?;
        let name = text.strip_prefix("SIG").unwrap_or(&text);
        match SIGNALS.contains(&name) {
            true => Ok(SignalName(name.to_owned())),
            false => Err(de::Error::custom(InvalidValue::new(
                format!("`{text}` is no signal to stop a process with"),
                format!("expected one of {}", SIGNALS.join(", ")),
            ))),
        }
    }
}

#[cfg(test)]
mod tests;
