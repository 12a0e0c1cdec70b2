//! The names under which things are prepared, before they get their own.
//!
//! In a folder that somebody else may write to, a name that can be known beforehand can be occupied: by
//! a folder with something in it, say, so that nothing could be written there any more. So each name is
//! unpredictable. What killed passes left of the same thing is removed when it is next prepared; that
//! it can be removed is no condition.

use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::ffi::OsStrExt;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::openat;
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::ResolvedPath;
use super::mounts::FOLDER_FLAGS;

/// How the name of everything ends that is still being prepared.
const TEMPORARY_SUFFIX: &[u8] = b".trueup~";

/// Of the final name so much is in it, in bytes: a folder holds names of up to 255.
const MAX_BASE_BYTES: usize = 220;

/// In a folder with more entries leftovers are not looked for: whoever filled it would decide how long
/// it takes.
const MAX_SCANNED_ENTRIES: usize = 10_000;

/// Whether this is the name of something that a killed pass was preparing.
pub fn is_leftover(name: &OsStr) -> bool {
    name.as_bytes().ends_with(TEMPORARY_SUFFIX)
}

/// Makes something under a name that nobody could know. Hidden, so that `include dir/*` of nginx, cron
/// and sudo skip it.
pub(super) fn create_temporary<T>(
    resolved: &ResolvedPath,
    make: impl Fn(&OsStr) -> nix::Result<T>,
) -> nix::Result<(OsString, T)> {
    remove_leftovers(resolved);
    loop {
        let name = temporary_name(&resolved.name);
        match make(&name) {
            // A name out of 2^64: by chance, or not at all.
            Err(Errno::EEXIST) => {}
            made => return made.map(|made| (name, made)),
        }
    }
}

/// Removes a thing that did not get its name.
pub(super) fn remove_temporary(resolved: &ResolvedPath, name: &OsStr) {
    if unlinkat(&resolved.parent, name, UnlinkatFlags::NoRemoveDir).is_err() {
        let _ = unlinkat(&resolved.parent, name, UnlinkatFlags::RemoveDir);
    }
}

fn temporary_name(of: &OsStr) -> OsString {
    // The standard library seeds its hash maps from the system's randomness.
    let random = RandomState::new().build_hasher().finish();
    let mut name = name_prefix(of);
    name.push(format!(".{random:016x}"));
    name.push(OsStr::from_bytes(TEMPORARY_SUFFIX));
    name
}

fn name_prefix(of: &OsStr) -> OsString {
    let of = of.as_bytes();
    let mut start = OsString::from(".");
    start.push(OsStr::from_bytes(&of[..of.len().min(MAX_BASE_BYTES)]));
    start
}

/// What killed passes left of this.
fn remove_leftovers(resolved: &ResolvedPath) {
    let listed = openat(&resolved.parent, ".", FOLDER_FLAGS, Mode::empty()).and_then(Dir::from_fd);
    // A folder that may be written but not read (an unprivileged sandbox).
    let Ok(mut dir) = listed else { return };
    let start = name_prefix(&resolved.name);
    let mut left = Vec::new();
    for entry in dir.iter().take(MAX_SCANNED_ENTRIES).flatten() {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if is_leftover_of(name, &start) {
            left.push(name.to_owned());
        }
    }
    for name in left {
        remove_temporary(resolved, &name);
    }
}

/// Whether this is a name that [`temporary_name`] gives, or, without the number, an older trueup gave.
fn is_leftover_of(name: &OsStr, start: &OsStr) -> bool {
    let rest = name.as_bytes().strip_prefix(start.as_bytes());
    let between = rest.and_then(|rest| rest.strip_suffix(TEMPORARY_SUFFIX));
    between.is_some_and(|between| match between.split_first() {
        None => true,
        Some((dot, random)) => {
            *dot == b'.' && random.len() == 16 && random.iter().all(u8::is_ascii_hexdigit)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_match_only_their_own_final_name() {
        let start = name_prefix(OsStr::new("a.conf"));
        let is_of = |name: &OsStr| is_leftover_of(name, &start);
        assert!(is_of(&temporary_name(OsStr::new("a.conf"))));
        assert!(is_of(OsStr::new(".a.conf.trueup~")));
        assert!(!is_of(&temporary_name(OsStr::new("a.conf.d"))));
        assert!(!is_of(&temporary_name(OsStr::new("a"))));
        assert!(!is_of(OsStr::new(".a.conf.x.trueup~")) && !is_of(OsStr::new("a.conf")));
        let long = "x".repeat(255);
        assert!(temporary_name(OsStr::new(&long)).len() <= 255);
        assert_ne!(
            temporary_name(OsStr::new("a")),
            temporary_name(OsStr::new("a"))
        );
    }
}
