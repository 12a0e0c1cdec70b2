//! Temporary names for files that are being prepared.
//!
//! In a folder that another user can write to, that user could occupy a predictable name, with a non-empty
//! folder for example, and so block all further writes. So each name is unpredictable. Preparing a file
//! removes what killed passes left of it; a failure to do so is ignored.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::openat;
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::ResolvedPath;
use super::mounts::FOLDER_FLAGS;
use crate::ports::random::random_u64;

/// Suffix of all temporary names.
const TEMPORARY_SUFFIX: &[u8] = b".trueup~";

/// Bytes of the final name that are kept: the kernel limits names to 255.
const MAX_BASE_BYTES: usize = 220;

/// Folders with more entries are not searched for leftovers: a user who fills one would decide how long the
/// search takes.
const MAX_SCANNED_ENTRIES: usize = 10_000;

/// Whether a killed pass left this name.
pub(crate) fn is_leftover(name: &OsStr) -> bool {
    name.as_bytes().ends_with(TEMPORARY_SUFFIX)
}

/// Creates a file under an unpredictable name. The name is hidden, so that `include dir/*` of nginx, cron and
/// sudo skips it.
pub(super) fn create_temporary<T>(
    resolved: &ResolvedPath,
    make: impl Fn(&OsStr) -> nix::Result<T>,
) -> nix::Result<(OsString, T)> {
    remove_leftovers(resolved);
    loop {
        let name = temporary_name(&resolved.name);
        match make(&name) {
            // The name is one of 2^64, so a collision is extremely unlikely.
            Err(Errno::EEXIST) => {}
            made => return made.map(|made| (name, made)),
        }
    }
}

/// Removes a temporary file that was not renamed.
pub(super) fn remove_temporary(resolved: &ResolvedPath, name: &OsStr) {
    if unlinkat(&resolved.parent, name, UnlinkatFlags::NoRemoveDir).is_err() {
        let _ = unlinkat(&resolved.parent, name, UnlinkatFlags::RemoveDir);
    }
}

fn temporary_name(of: &OsStr) -> OsString {
    let mut name = name_prefix(of);
    name.push(format!(".{:016x}", random_u64()));
    name.push(OsStr::from_bytes(TEMPORARY_SUFFIX));
    name
}

fn name_prefix(of: &OsStr) -> OsString {
    let of = of.as_bytes();
    let mut start = OsString::from(".");
    start.push(OsStr::from_bytes(&of[..of.len().min(MAX_BASE_BYTES)]));
    start
}

/// Removes the temporary files that killed passes left of this path.
fn remove_leftovers(resolved: &ResolvedPath) {
    let listed = openat(&resolved.parent, ".", FOLDER_FLAGS, Mode::empty()).and_then(Dir::from_fd);
    // A folder may be writable but not readable (an unprivileged sandbox).
    let Ok(mut dir) = listed else { return };
    let start = name_prefix(&resolved.name);
    let mut leftovers = Vec::new();
    for entry in dir.iter().take(MAX_SCANNED_ENTRIES).flatten() {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if is_leftover_of(name, &start) {
            leftovers.push(name.to_owned());
        }
    }
    for name in leftovers {
        remove_temporary(resolved, &name);
    }
}

/// Whether [`temporary_name`] produces such a name, or, without the number, an older version of trueup did.
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
