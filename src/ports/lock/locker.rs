//! Which process has a file locked, as the kernel tells.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

/// The name of our program.
const PROGRAM: &str = "trueup";

/// A process that has a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locker {
    pub pid: u32,
    /// What its program is called.
    pub program: String,
    pub user: String,
    uid: u32,
    is_trueup: bool,
}

impl Locker {
    /// Whether it is trueup itself, run by `user`: what others call their programs proves nothing.
    pub(super) fn is_pass_of(&self, user: u32) -> bool {
        self.is_trueup && self.uid == user
    }

    /// ``process 4242 (`sleep`, run by root)``.
    pub fn words(&self) -> String {
        let Locker {
            pid, program, user, ..
        } = self;
        format!("process {pid} (`{program}`, run by {user})")
    }

    fn of(pid: u32) -> Option<Locker> {
        let place = proc(pid);
        let status = fs::read_to_string(place.join("status")).ok()?;
        // `Uid: real effective saved filesystem`
        let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        let uid = uids.split_whitespace().nth(1)?.parse().ok()?;
        let name = fs::read(place.join("comm")).ok()?;
        let name = String::from_utf8_lossy(&name);
        let visible = |c: char| if c.is_control() { '?' } else { c };
        let program: String = name.trim_end().chars().map(visible).collect();
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        Some(Locker {
            pid,
            is_trueup: program == PROGRAM || runs_trueup(&place),
            user: user.map_or_else(|| uid.to_string(), |user| user.name),
            program,
            uid,
        })
    }
}

/// Of a program that was replaced while it runs, too: that is what an upgrade does.
fn runs_trueup(place: &Path) -> bool {
    let program = fs::read_link(place.join("exe")).unwrap_or_default();
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(" (deleted)").unwrap_or(&name) == PROGRAM
}

/// The living process that has this file locked, as far as it can be seen from here. One that took the
/// lock and ended may have left it to a child: then that is it.
pub(super) fn find(file: &File) -> Option<Locker> {
    let meta = file.metadata().ok()?;
    let lockers = lockers(meta.ino());
    // An inode has its number on its own disk only.
    let told = lockers
        .iter()
        .filter(|pid| opens(**pid, &meta) != Some(false));
    let mut told = told.filter_map(|pid| Locker::of(*pid));
    told.next().or_else(|| {
        let pid = all().find(|pid| opens(*pid, &meta) == Some(true))?;
        Locker::of(pid)
    })
}

/// Who has locked a file of this number.
fn lockers(inode: u64) -> BTreeSet<u32> {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    // `1: FLOCK  ADVISORY  WRITE 4242 00:2a:1234 0 EOF`; one that waits has `->` before its kind.
    let locker = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, place, ..] = words.as_slice() else {
            return None;
        };
        let number: u64 = place.rsplit(':').next()?.parse().ok()?;
        (number == inode).then(|| pid.parse().ok()).flatten()
    };
    locks.lines().filter_map(locker).collect()
}

/// Whether it has this file open, besides our own look at it; `None`: that is not for us to see.
fn opens(pid: u32, meta: &fs::Metadata) -> Option<bool> {
    let files = fs::read_dir(proc(pid).join("fd")).ok()?;
    let opened = files
        .flatten()
        .filter_map(|file| fs::metadata(file.path()).ok());
    let opened = opened.filter(|other| (other.dev(), other.ino()) == (meta.dev(), meta.ino()));
    Some(opened.count() > usize::from(pid == std::process::id()))
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn proc(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}
