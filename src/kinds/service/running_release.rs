//! Check that the processes of a service run from the right release.
//!
//! A restart that returned 0 proves nothing: after a phased restart, or under a supervisor that resolved its
//! working folder once, the processes stay in the old release.

use crate::ports::Host;
use crate::ports::processes::{self, Process};
use crate::release::release_in_path;
use crate::resource::{Failure, Trial};

/// Checks the service's main process and its descendants. None may be in another release of the app, and, if
/// the service `serves` the app, at least one must be in the one on trial.
pub(super) fn check_processes(
    name: &str,
    main_pid: u32,
    serves: bool,
    trial: &Trial,
    host: &Host,
) -> Result<(), Failure> {
    let Some(family) = processes::process_tree(main_pid) else {
        return Err(Failure::new("cannot read /proc to find running processes"));
    };
    if family.is_empty() {
        return Err(Failure::new(format!(
            "the main process of {name} has just ended"
        )));
    }
    let release = trial.deploy_to.join("releases").join(&trial.release);
    let folder = host.root.meta(&release)?;
    let folder = folder.map(|meta| (meta.device, meta.inode));
    // Compare device and inode: anybody can create a folder of the same name.
    let is_inside = |process: &Process| {
        folder
            .is_some_and(|folder| !processes::folders_of_process(process.pid, &[folder]).is_empty())
    };
    find_mismatch(name, &family, serves, trial, &is_inside)
}

fn find_mismatch(
    name: &str,
    family: &[Process],
    serves: bool,
    trial: &Trial,
    is_inside: &dyn Fn(&Process) -> bool,
) -> Result<(), Failure> {
    let mut inside = false;
    for process in family {
        for path in &process.paths {
            match release_in_path(path, &trial.deploy_to) {
                Some(release) if release == trial.release => inside |= is_inside(process),
                Some(other) => {
                    return Err(Failure::new(format!(
                        "process {} of {name} still runs in release {other}",
                        process.pid
                    )));
                }
                None => {}
            }
        }
    }
    if serves && !inside {
        // The kernel shows the paths of a process only to its user and to root.
        if family.iter().all(|process| process.paths.is_empty()) {
            return Err(Failure::permission_denied(format!(
                "only root can see where {name} runs"
            )));
        }
        let paths: Vec<String> = family
            .iter()
            .filter_map(|process| process.paths.first())
            .map(|path| path.display().to_string())
            .collect();
        return Err(Failure::new(format!(
            "no process of {name} runs in release {}: {}",
            trial.release,
            paths.join(", ")
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(path: &str) -> Process {
        Process {
            pid: 7,
            parent: 1,
            uids: [7001; 3],
            paths: vec![path.into(), "/usr/bin/ruby".into()],
        }
    }

    #[test]
    fn processes_outside_the_trial_release_are_reported() {
        let trial = Trial {
            release: "20261121050000-4f2c9d0".into(),
            crashed: None,
            deploy_to: "/srv/www/shop".into(),
            current: "/srv/www/shop/current".into(),
        };
        let new = process("/srv/www/shop/releases/20261121050000-4f2c9d0/public");
        let old = process("/srv/www/shop/releases/20261121040000-1111111");
        let gone = process("/mnt/shop/releases/.20261121040000-1111111.removed (deleted)");
        let elsewhere = process("/");
        let check = |family: &[Process], serves| {
            find_mismatch("puma", family, serves, &trial, &|_| true)
                .map_err(|failure| failure.message)
        };
        assert_eq!(check(&[new.clone(), elsewhere.clone()], true), Ok(()));
        assert_eq!(check(std::slice::from_ref(&elsewhere), false), Ok(()));
        for stale in [&old, &gone] {
            let error = check(&[new.clone(), stale.clone()], true).unwrap_err();
            assert_eq!(
                error,
                "process 7 of puma still runs in release 20261121040000-1111111"
            );
        }
        let error = check(&[elsewhere], true).unwrap_err();
        assert!(
            error.starts_with("no process of puma runs in release"),
            "{error}"
        );
        let other_app = process("/srv/www/cart/releases/20261121040000-1111111");
        assert_eq!(check(&[new.clone(), other_app], true), Ok(()));
        let same_name = find_mismatch("puma", &[new], true, &trial, &|_| false).unwrap_err();
        assert!(same_name.message.starts_with("no process of puma runs in"));
    }
}
