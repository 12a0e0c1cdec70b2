//! The processes of this machine, as the kernel tells of them in `/proc`.
//!
//! Of the machine even for a sandbox, because that is where its processes are.

use std::path::{Path, PathBuf};

/// One process: where it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    /// Its working folder and its program, as far as they may be seen.
    pub places: Vec<PathBuf>,
}

/// All processes; `None` when `/proc` cannot be read. One that has just ended is left out.
pub fn all() -> Option<Vec<Process>> {
    let entries = std::fs::read_dir("/proc").ok()?;
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let all: Vec<Process> = pids.filter_map(one).collect();
    (!all.is_empty()).then_some(all)
}

/// A process and all that it started, and they in turn.
pub fn family(main: u32) -> Option<Vec<Process>> {
    let all = all()?;
    let mut family: Vec<Process> = Vec::new();
    let mut wanted = vec![main];
    while let Some(pid) = wanted.pop() {
        family.extend(all.iter().find(|process| process.pid == pid).cloned());
        let children = all.iter().filter(|process| process.parent == pid);
        wanted.extend(children.map(|process| process.pid));
    }
    Some(family)
}

fn one(pid: u32) -> Option<Process> {
    let folder = Path::new("/proc").join(pid.to_string());
    let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
    // The name of the program, in brackets, may hold anything; what follows its end does not.
    let (_, rest) = stat.rsplit_once(") ")?;
    let parent = rest.split(' ').nth(1)?.parse().ok()?;
    let places = ["cwd", "exe"]
        .iter()
        .filter_map(|what| std::fs::read_link(folder.join(what)).ok());
    Some(Process {
        pid,
        parent,
        places: places.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_with_its_children_and_where_they_run() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().canonicalize().unwrap();
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sleep 60 & wait"])
            .current_dir(&place)
            .spawn()
            .unwrap();
        let begun = std::time::Instant::now();
        let family = loop {
            let family = family(shell.id()).unwrap();
            if family.len() > 1 || begun.elapsed().as_secs() > 10 {
                break family;
            }
        };
        for process in &family[1..] {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(process.pid.cast_signed()),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
        shell.wait().unwrap();
        assert_eq!(family.len(), 2, "{family:?}");
        assert!(family.iter().all(|process| process.places.contains(&place)));
        assert_eq!(family[1].parent, shell.id());
    }
}
