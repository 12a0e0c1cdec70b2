//! What processes use, and what they run, from `/proc`: for people.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use jiff::Timestamp;
use nix::unistd::{SysconfVar, sysconf};

use super::processes::{process_trees, program_name, user_name};
use super::secrets::Redactor;
use super::services::{duration_of_ticks, started_at};

/// Maximum length of a command line, in bytes.
const MAX_COMMAND_LINE: u64 = 4 << 10;

/// How long the read of one command line may take.
const COMMAND_LINE_TIMEOUT: Duration = Duration::from_secs(1);

/// A process, and what it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProcessUsage {
    pub pid: u32,
    pub parent: u32,
    /// Its effective user.
    pub user: String,
    /// Memory that it has in RAM, in bytes. Pages that it shares count in each process.
    pub resident: u64,
    pub cpu: Duration,
    pub started: Option<Timestamp>,
    /// Without secrets, and cut off after 4 KiB; its name in brackets if it has none. Another user's text.
    pub command: String,
    /// Its working folder and its program, as far as visible.
    pub paths: Vec<PathBuf>,
}

/// These processes and their descendants, oldest first; `None` if `/proc` is unreadable.
pub(crate) fn process_usage(roots: &[u32]) -> Option<Vec<ProcessUsage>> {
    let family = process_trees(roots)?;
    let mut command_lines = read_command_lines(family.iter().map(|process| process.pid).collect());
    let mut found: Vec<(u64, ProcessUsage)> = Vec::new();
    for process in family {
        let Some(stat) = read_stat(process.pid) else {
            continue;
        };
        let command = command_lines.remove(&process.pid).flatten();
        let name = || program_name(process.pid).map(|name| format!("[{name}]"));
        let usage = ProcessUsage {
            pid: process.pid,
            parent: process.parent,
            user: user_name(process.uids[1]),
            resident: stat.resident_pages.saturating_mul(page_size()),
            cpu: duration_of_ticks(stat.cpu_ticks),
            started: started_at(stat.start_ticks),
            command: command.or_else(name).unwrap_or_default(),
            paths: process.paths,
        };
        found.push((stat.start_ticks, usage));
    }
    found.sort_by_key(|(start, process)| (*start, process.pid));
    Some(found.into_iter().map(|(_, process)| process).collect())
}

/// Fields of `/proc/PID/stat`.
struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    resident_pages: u64,
}

fn read_stat(pid: u32) -> Option<Stat> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in brackets, may contain anything; the fields after it may not.
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        cpu_ticks: field(11)?.saturating_add(field(12)?),
        start_ticks: field(19)?,
        resident_pages: field(21)?,
    })
}

fn page_size() -> u64 {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u64::try_from(size).ok())
        .unwrap_or(4096)
}

/// Reads the command lines, which the kernel takes from the memory of the processes: one that maps a file of its own
/// filesystem there can delay the read for as long as it likes. So another thread reads, and is given up then.
fn read_command_lines(pids: Vec<u32>) -> HashMap<u32, Option<String>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for pid in pids {
            if sender.send((pid, read_command_line(pid))).is_err() {
                return;
            }
        }
    });
    let mut lines = HashMap::new();
    while let Ok((pid, line)) = receiver.recv_timeout(COMMAND_LINE_TIMEOUT) {
        lines.insert(pid, line);
    }
    lines
}

fn read_command_line(pid: u32) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/cmdline")).ok()?;
    file.take(MAX_COMMAND_LINE).read_to_end(&mut bytes).ok()?;
    let is_whole = (bytes.len() as u64) < MAX_COMMAND_LINE;
    join_arguments(&bytes, is_whole)
}

/// The arguments, without secrets. The beginning of one at the end of a line that was cut off is left out.
fn join_arguments(bytes: &[u8], is_whole: bool) -> Option<String> {
    let mut redactor = Redactor::new();
    let mut shown = redactor.push(bytes);
    if is_whole {
        shown.extend(redactor.finish());
    }
    let text = String::from_utf8_lossy(&shown);
    // A program that rewrites its title leaves NULs behind it.
    let text = text.trim_end_matches('\0').replace('\0', " ");
    (!text.trim().is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::processes::own_user_name;
    use crate::ports::secrets;

    #[test]
    fn usage_of_this_process_is_plausible() {
        let own = std::process::id();
        let all = process_usage(&[own]).unwrap();
        let process = all.iter().find(|process| process.pid == own).unwrap();
        assert_eq!(process.user, own_user_name());
        assert!(process.resident > 1 << 20, "{process:?}");
        assert!(process.cpu < Duration::from_secs(3600), "{process:?}");
        let age = Timestamp::now().duration_since(process.started.unwrap());
        assert!(age.as_secs() < 3600, "{process:?}");
        assert!(process.command.contains("trueup"), "{process:?}");
        assert!(!process.paths.is_empty());
    }

    #[test]
    fn command_line_has_no_secret_even_where_it_was_cut_off() {
        secrets::add_secret("canary-on-a-command-line");
        let line = b"puma\0--token=canary-on-a-command-line\0-p\x003000\0\0\0";
        assert_eq!(
            join_arguments(line, true).as_deref(),
            Some("puma --token=(secret) -p 3000")
        );
        assert_eq!(
            join_arguments(b"puma\0canary-on-a-com", false).as_deref(),
            Some("puma")
        );
        assert_eq!(
            join_arguments(b"puma\0canary-on-a-com", true).as_deref(),
            Some("puma canary-on-a-com")
        );
        assert_eq!(join_arguments(b"\0\0", true), None);
    }

    #[test]
    fn process_without_a_command_line_is_shown_by_its_name() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        // It stays a zombie until the wait, and a zombie has no command line.
        let started = std::time::Instant::now();
        let command = loop {
            let usage = process_usage(&[child.id()]).unwrap().remove(0);
            if usage.command.starts_with('[') || started.elapsed().as_secs() > 10 {
                break usage.command;
            }
        };
        child.wait().unwrap();
        assert_eq!(command, "[true]");
    }
}
