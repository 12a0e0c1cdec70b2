//! The processes of this machine, from `/proc`.
//!
//! Those of the machine even for a sandbox, because its processes run there.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{Uid, User};

use super::services::{self, LiveProcess};

/// Device and inode: identify a file or folder independently of its names.
pub(crate) type FileId = (u64, u64);

/// Most levels that are searched upwards from a process's folder.
const MAX_DEPTH: usize = 256;

/// A process, with the places it runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub pid: u32,
    pub parent: u32,
    /// Real, effective and saved user id: they differ in a set-user-id program.
    pub uids: [u32; 3],
    /// Its working folder and its program, as far as visible.
    pub paths: Vec<PathBuf>,
}

/// All processes; `None` if `/proc` is unreadable. Skips those that have just ended.
pub(crate) fn list() -> Option<Vec<Process>> {
    let all: Vec<Process> = pids().filter_map(read_process).collect();
    (!all.is_empty()).then_some(all)
}

/// The ids of all processes.
pub(super) fn pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The name that a process gives itself, which may be anything; made safe for one line.
pub(crate) fn program_name(pid: u32) -> Option<String> {
    let name = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
    let visible = |c: char| if c.is_control() { '?' } else { c };
    let name = String::from_utf8_lossy(&name);
    Some(name.trim_end().chars().map(visible).collect())
}

/// The time at which a process that runs started, in ticks since boot.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    Some(LiveProcess::find(i32::try_from(pid).ok()?)?.start_time)
}

/// The time at which a process that runs started, by the wall clock as it is set now.
pub(crate) fn started_at(pid: u32) -> Option<Timestamp> {
    services::started_at(start_time(pid)?)
}

/// The arguments of a process, without its program; those that are no text are left out.
pub(crate) fn arguments(pid: u32) -> Option<Vec<String>> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = line.split(|byte| *byte == 0).skip(1);
    let texts = words.filter_map(|word| String::from_utf8(word.to_vec()).ok());
    Some(texts.collect())
}

/// A process with all its descendants.
pub(crate) fn process_tree(main: u32) -> Option<Vec<Process>> {
    process_trees(&[main])
}

/// The children of a process that run, each with the time of its start in ticks since boot: ids are reused.
pub(crate) fn child_runs(main: u32) -> Vec<(u32, u64)> {
    // The kernel's own list, where it keeps one.
    let listed = std::fs::read_to_string(format!("/proc/{main}/task/{main}/children"));
    let children: Vec<u32> = match listed {
        Ok(list) => list
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect(),
        Err(_) => pids().filter(|pid| parent_of(*pid) == Some(main)).collect(),
    };
    let runs = children
        .into_iter()
        .filter_map(|pid| Some((pid, start_time(pid)?)));
    runs.collect()
}

/// The file that a process has as its standard error, opened for reading; `None` unless it is a regular file. Opens
/// the file that the process has, whatever is at its path now.
pub(crate) fn open_stderr_file(pid: u32) -> Option<File> {
    // A pipe or a device must not delay it.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let link = format!("/proc/{pid}/fd/2");
    let is_regular = |link: &str| std::fs::metadata(link).is_ok_and(|meta| meta.is_file());
    if !is_regular(&link) {
        return None;
    }
    let file = File::from(open(Path::new(&link), flags, Mode::empty()).ok()?);
    file.metadata().ok()?.is_file().then_some(file)
}

/// Several processes with all their descendants, each once.
pub(crate) fn process_trees(roots: &[u32]) -> Option<Vec<Process>> {
    let all = list()?;
    let mut family: Vec<Process> = Vec::new();
    let mut wanted = roots.to_vec();
    // Ids that are reused during the read could form a cycle.
    let mut visited = HashSet::new();
    while let Some(pid) = wanted.pop() {
        if !visited.insert(pid) {
            continue;
        }
        family.extend(all.iter().find(|process| process.pid == pid).cloned());
        let children = all.iter().filter(|process| process.parent == pid);
        wanted.extend(children.map(|process| process.pid));
    }
    Some(family)
}

/// Those of `folders` that a process runs in: they contain its working folder, its root or its program.
/// Compares inodes rather than names, which any user can give to his own folders.
pub(crate) fn folders_of_process(pid: u32, folders: &[FileId]) -> Vec<FileId> {
    let mut found = Vec::new();
    for link in ["cwd", "root", "exe"] {
        let path = Path::new("/proc").join(pid.to_string()).join(link);
        // O_PATH: does not open it for reading, so that no filesystem or device can delay it.
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let Ok(path) = open(&path, flags, Mode::empty()) else {
            continue;
        };
        let mut current = match link {
            // Only the path of a program leads to its folder.
            "exe" => match program_folder(pid, &path) {
                Some(folder) => folder,
                None => continue,
            },
            _ => path,
        };
        let mut last = None;
        for _ in 0..MAX_DEPTH {
            let Some(id) = file_id(&current).filter(|id| last != Some(*id)) else {
                break;
            };
            if folders.contains(&id) && !found.contains(&id) {
                found.push(id);
            }
            last = Some(id);
            let Ok(up) = openat(&current, "..", flags | OFlag::O_DIRECTORY, Mode::empty()) else {
                break;
            };
            current = up;
        }
    }
    found
}

/// The name of the user who runs this process, or the number.
pub(crate) fn own_user_name() -> String {
    user_name(Uid::current().as_raw())
}

/// The machine's name for a user id, or the number.
pub(crate) fn user_name(uid: u32) -> String {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

fn file_id(of: impl AsFd) -> Option<FileId> {
    fstat(of).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

/// Opens the folder by the kernel's path, if it contains the program under that name.
fn program_folder(pid: u32, program: &OwnedFd) -> Option<OwnedFd> {
    let named = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    // Resolved in the root of that process.
    let named = Path::new("/proc")
        .join(pid.to_string())
        .join("root")
        .join(named.strip_prefix("/").ok()?);
    let folder = open(
        named.parent()?,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .ok()?;
    let named_program = openat(&folder, named.file_name()?, flags, Mode::empty()).ok()?;
    (file_id(&named_program) == file_id(program)).then_some(folder)
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in brackets, may contain anything; the fields after it may not.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

fn read_process(pid: u32) -> Option<Process> {
    let folder = Path::new("/proc").join(pid.to_string());
    let parent = parent_of(pid)?;
    let paths = ["cwd", "exe"]
        .iter()
        .filter_map(|link| std::fs::read_link(folder.join(link)).ok());
    Some(Process {
        pid,
        parent,
        uids: read_uids(&folder)?,
        paths: paths.collect(),
    })
}

fn read_uids(folder: &Path) -> Option<[u32; 3]> {
    let status = std::fs::read_to_string(folder.join("status")).ok()?;
    // `Uid: real effective saved filesystem`
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let mut ids = line.split_whitespace().map(str::parse);
    Some([ids.next()?.ok()?, ids.next()?.ok()?, ids.next()?.ok()?])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn process_tree_lists_children_with_their_folders() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sleep 60 & wait"])
            .current_dir(&path)
            .spawn()
            .unwrap();
        let started = std::time::Instant::now();
        let family = loop {
            let family = process_tree(shell.id()).unwrap();
            if family.len() > 1 || started.elapsed().as_secs() > 10 {
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
        assert!(family.iter().all(|process| process.paths.contains(&path)));
        assert_eq!(family[1].parent, shell.id());
        assert_eq!(family[1].uids, [nix::unistd::geteuid().as_raw(); 3]);
    }

    #[test]
    fn folders_of_a_process_are_matched_by_inode_not_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let (real, other) = (dir.path().join("real/shop"), dir.path().join("other/shop"));
        std::fs::create_dir_all(real.join("deep/deeper")).unwrap();
        std::fs::create_dir_all(other.join("deep")).unwrap();
        let id = |path: &Path| {
            let meta = std::fs::metadata(path).unwrap();
            (meta.dev(), meta.ino())
        };
        let both = [id(&real), id(&other)];
        let folders = |path: &Path| {
            let mut sleep = std::process::Command::new("sleep")
                .arg("60")
                .current_dir(path)
                .spawn()
                .unwrap();
            let found = folders_of_process(sleep.id(), &both);
            sleep.kill().unwrap();
            sleep.wait().unwrap();
            found
        };
        assert_eq!(folders(&real.join("deep/deeper")), [both[0]]);
        assert_eq!(folders(&real), [both[0]]);
        assert_eq!(folders(&other.join("deep")), [both[1]]);
        assert_eq!(folders(dir.path()), []);
        // A program in the folder, with another working folder.
        let sleep = real.join("sleep");
        std::fs::copy("/bin/sleep", &sleep).unwrap();
        let mut program = std::process::Command::new(&sleep)
            .arg("60")
            .spawn()
            .unwrap();
        let found = folders_of_process(program.id(), &both);
        program.kill().unwrap();
        program.wait().unwrap();
        assert_eq!(found, [both[0]]);
    }
}
