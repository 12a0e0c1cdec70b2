//! Parses the part of a systemd unit file that a plain process needs, and ignores everything else.
//!
//! | section | read |
//! | --- | --- |
//! | Service | ExecStartPre, ExecStart (one), ExecReload; WorkingDirectory, Environment, EnvironmentFile, User, Group; KillSignal, KillMode, TimeoutStartSec, TimeoutStopSec |
//! | Socket | ListenStream, SocketMode |
//! | Install | whether there is one |
//!
//! Of the prefixes of a command, `-` (may fail) and `:` (no variables) count; `@`, `+` and `!` are removed.
//! Type is ignored: the program of ExecStart must stay in the foreground. Specifiers: `%n %N %p %i %%`.
//! Paths are those that a process outside the sandbox sees.

use crate::ports::exec::DEFAULT_UMASK;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::command_line::split_words;
use crate::ports::services::name::UnitName;

/// A command of a unit, split into words, before variables are expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnitCommand {
    pub(super) argv: Vec<String>,
    pub(super) ignore_failure: bool,
    pub(super) expand_variables: bool,
}

/// Which processes get the kill signal before SIGKILL ends the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KillMode {
    All,
    /// The main process alone, which should end the others.
    Main,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) exec_start_pre: Vec<UnitCommand>,
    pub(super) exec_start: Vec<UnitCommand>,
    pub(super) exec_reload: Vec<UnitCommand>,
    pub(super) working_directory: Option<PathBuf>,
    pub(super) environment: Vec<String>,
    /// Each with whether it may be missing.
    pub(super) environment_files: Vec<(PathBuf, bool)>,
    pub(super) user: Option<String>,
    pub(super) group: Option<String>,
    pub(super) umask: u32,
    pub(super) kill_signal: Signal,
    pub(super) kill_mode: KillMode,
    pub(super) start_timeout: Duration,
    pub(super) stop_timeout: Duration,
    pub(super) listen_streams: Vec<String>,
    pub(super) socket_mode: u32,
    pub(super) installable: bool,
    /// Parse errors; a unit with errors cannot be started.
    pub(super) errors: Vec<String>,
}

impl Unit {
    /// Parses a unit file and its drop-ins, in their order.
    pub(super) fn parse<'a>(name: &UnitName, files: impl IntoIterator<Item = &'a str>) -> Unit {
        let mut unit = Unit {
            exec_start_pre: Vec::new(),
            exec_start: Vec::new(),
            exec_reload: Vec::new(),
            working_directory: None,
            environment: Vec::new(),
            environment_files: Vec::new(),
            user: None,
            group: None,
            umask: DEFAULT_UMASK,
            kill_signal: Signal::SIGTERM,
            kill_mode: KillMode::All,
            start_timeout: Duration::from_secs(90),
            stop_timeout: Duration::from_secs(10),
            listen_streams: Vec::new(),
            socket_mode: 0o666,
            installable: false,
            errors: Vec::new(),
        };
        for file in files {
            unit.parse_file(name, file);
        }
        unit
    }

    fn parse_file(&mut self, name: &UnitName, text: &str) {
        let mut section = String::new();
        for line in logical_lines(text) {
            if let Some(title) = line
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
            {
                title.clone_into(&mut section);
                self.installable |= title == "Install";
            } else if let Some((key, value)) = line.split_once('=') {
                let key = (section.as_str(), key.trim());
                let written = value.trim();
                let meant = expand_specifiers(name, written);
                // An invalid specifier in an ignored line does not matter.
                let fault = match self.set_directive(key, meant.as_deref().unwrap_or(written)) {
                    Ok(true) => meant.err(),
                    Ok(false) => None,
                    Err(fault) => Some(fault),
                };
                self.errors
                    .extend(fault.map(|fault| format!("{}=: {fault}", key.1)));
            }
        }
    }

    /// Sets a directive; returns false if it is ignored.
    fn set_directive(&mut self, key: (&str, &str), value: &str) -> Result<bool, String> {
        let some = || (!value.is_empty()).then(|| value.to_owned());
        match key {
            ("Service", "ExecStartPre") => push_command(&mut self.exec_start_pre, value)?,
            ("Service", "ExecStart") => push_command(&mut self.exec_start, value)?,
            ("Service", "ExecReload") => push_command(&mut self.exec_reload, value)?,
            ("Service", "WorkingDirectory") => {
                self.working_directory = some().map(|path| path.trim_start_matches('-').into());
            }
            ("Service", "Environment") if value.is_empty() => self.environment.clear(),
            ("Service", "Environment") => self.environment.extend(split_words(value)?),
            ("Service", "EnvironmentFile") => match value.strip_prefix('-') {
                _ if value.is_empty() => self.environment_files.clear(),
                Some(path) => self.environment_files.push((path.into(), true)),
                None => self.environment_files.push((value.into(), false)),
            },
            ("Service", "User") => self.user = some(),
            ("Service", "Group") => self.group = some(),
            ("Service", "UMask") => self.umask = parse_mode(value)?,
            ("Service", "KillSignal") => self.kill_signal = parse_signal(value)?,
            ("Service", "KillMode") => {
                self.kill_mode = match value {
                    "mixed" | "process" => KillMode::Main,
                    _ => KillMode::All,
                }
            }
            ("Service", "TimeoutStartSec") => self.start_timeout = parse_time_span(value)?,
            ("Service", "TimeoutStopSec") => self.stop_timeout = parse_time_span(value)?,
            ("Service", "TimeoutSec") => {
                self.start_timeout = parse_time_span(value)?;
                self.stop_timeout = self.start_timeout;
            }
            ("Socket", "ListenStream") if value.is_empty() => self.listen_streams.clear(),
            ("Socket", "ListenStream") => self.listen_streams.push(value.to_owned()),
            ("Socket", "SocketMode") => {
                self.socket_mode = parse_mode(value)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn parse_mode(value: &str) -> Result<u32, String> {
    u32::from_str_radix(value, 8).map_err(|_| format!("`{value}` is not an octal mode"))
}

/// Lines without comments, joined where a backslash at the end continues a line.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut continued = String::new();
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with(['#', ';']) || (line.is_empty() && continued.is_empty()) {
            continue;
        }
        match line.strip_suffix('\\') {
            Some(part) => {
                continued.push_str(part);
                continued.push(' ');
            }
            None => lines.push(std::mem::take(&mut continued) + line),
        }
    }
    if !continued.is_empty() {
        lines.push(continued);
    }
    lines
}

/// An empty value clears the earlier lines.
fn push_command(lines: &mut Vec<UnitCommand>, value: &str) -> Result<(), String> {
    if value.is_empty() {
        lines.clear();
        return Ok(());
    }
    let command = value.trim_start_matches(['-', '@', '+', '!', ':']);
    let prefix = &value[..value.len() - command.len()];
    let mut words = split_words(command)?;
    if words.is_empty() {
        return Err("it contains no command".into());
    }
    if prefix.contains('@') && words.len() > 1 {
        // Remove argv[0] of the `@` prefix; a plain process uses the program's own name.
        words.remove(1);
    }
    lines.push(UnitCommand {
        argv: words,
        ignore_failure: prefix.contains('-'),
        expand_variables: !prefix.contains(':'),
    });
    Ok(())
}

fn expand_specifiers(name: &UnitName, value: &str) -> Result<String, String> {
    let mut done = String::new();
    let mut chars = value.chars();
    let stem = name.stem();
    let (prefix, instance) = stem.split_once('@').unwrap_or((stem, ""));
    while let Some(c) = chars.next() {
        if c != '%' {
            done.push(c);
            continue;
        }
        match chars.next() {
            Some('%') | None => done.push('%'),
            Some('n') => done.push_str(name.full()),
            Some('N') => done.push_str(stem),
            Some('p') => done.push_str(prefix),
            Some('i') => done.push_str(instance),
            Some(other) => return Err(format!("`%{other}` is not a supported specifier")),
        }
    }
    Ok(done)
}

pub(super) fn parse_signal(text: &str) -> Result<Signal, String> {
    let number = text
        .parse()
        .ok()
        .and_then(|n: i32| Signal::try_from(n).ok());
    let named = || {
        let name = text.strip_prefix("SIG").unwrap_or(text);
        Signal::from_str(&format!("SIG{name}")).ok()
    };
    number
        .or_else(named)
        .ok_or_else(|| format!("`{text}` is not a signal"))
}

/// Parses `90`, `1min 30s`, `500ms`, `infinity` (here an hour, the longest wait).
fn parse_time_span(text: &str) -> Result<Duration, String> {
    const MAX_TIME_SPAN: Duration = Duration::from_secs(3600);
    if text == "infinity" || text == "0" {
        return Ok(MAX_TIME_SPAN);
    }
    let bad = || format!("`{text}` is not a time");
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let millis = match unit {
            "ms" | "msec" => 1,
            "" | "s" | "sec" | "second" | "seconds" => 1_000,
            "m" | "min" | "minute" | "minutes" => 60_000,
            "h" | "hr" | "hour" | "hours" => 3_600_000,
            _ => return Err(bad()),
        };
        total += Duration::from_millis(number.checked_mul(millis).ok_or_else(bad)?);
        rest = after.trim_start();
    }
    Ok(total.min(MAX_TIME_SPAN))
}
