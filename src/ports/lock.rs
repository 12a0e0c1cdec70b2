//! One pass at a time: a lock that cannot outlive its process.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use super::RUN;
use super::root::{Attrs, Root, RootError};

/// Held for as long as this value lives; the kernel lets go of it when the process ends.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "held, never read")] Flock<File>);

/// What became of an attempt to take the lock.
#[derive(Debug)]
pub enum Attempt {
    Taken(Lock),
    /// Somebody has it: the process id that it left, if it can be read.
    Busy(Option<u32>),
}

/// Tries to take the lock of this host, without waiting.
pub fn try_lock(root: &Root) -> Result<Attempt, RootError> {
    let path = Path::new(RUN).join("lock");
    root.make_dirs(Path::new(RUN), &Attrs::mode(0o755))?;
    let file = root.open_lock(&path)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut held) => {
            // For people who ask who has it; a failure to say so is no reason not to go on. Always of
            // one length, so that it is written over and nothing has to be cut off.
            let _ = held.write_all(format!("{:>10}\n", std::process::id()).as_bytes());
            Ok(Attempt::Taken(Lock(held)))
        }
        Err((mut file, _)) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            let pid = text.lines().next().unwrap_or_default();
            Ok(Attempt::Busy(pid.trim().parse().ok()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_has_the_lock_and_it_goes_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path()).unwrap();
        let first = try_lock(&root).unwrap();
        assert!(matches!(first, Attempt::Taken(_)));
        match try_lock(&root).unwrap() {
            Attempt::Busy(holder) => assert_eq!(holder, Some(std::process::id())),
            Attempt::Taken(_) => panic!("taken twice"),
        }
        drop(first);
        assert!(matches!(try_lock(&root).unwrap(), Attempt::Taken(_)));
    }
}
