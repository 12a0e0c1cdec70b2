//! Children that their user stops after they have switched to that user and before their program begins.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::libc;

use super::super::spawn::BEFORE_EXEC;
use super::*;
use crate::ports::testing::skip_test;

const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Stops each child of this test before its program begins, from now on.
fn stop_children_before_exec() {
    // SAFETY: the child sends the signal to itself.
    BEFORE_EXEC.set(|| {
        unsafe { libc::raise(libc::SIGSTOP) };
    });
}

fn command_as_nobody() -> Option<Command> {
    if !nix::unistd::geteuid().is_root() {
        skip_test("a child of another user", "needs root");
        return None;
    }
    let mut command = sh("echo never");
    command.identity = Some(nobody());
    Some(command)
}

/// The descriptors of a stopped child that runs as `nobody`, once one has this many.
fn wait_for_stopped_child_fds(count: usize) -> BTreeMap<i32, PathBuf> {
    let started = Instant::now();
    while started.elapsed() < TEST_TIMEOUT {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let folder = entry.path();
            let status = fs::read_to_string(folder.join("status")).unwrap_or_default();
            let has = |line: &str| status.lines().any(|other| other.starts_with(line));
            let parent_line = format!("PPid:\t{}", std::process::id());
            if !(has(&parent_line) && has("State:\tT") && has("Uid:\t65534\t")) {
                continue;
            }
            let open: BTreeMap<i32, PathBuf> = fs::read_dir(folder.join("fd"))
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|fd| {
                    let number = fd.file_name().to_str()?.parse().ok()?;
                    Some((number, fs::read_link(fd.path()).ok()?))
                })
                .collect();
            if open.len() == count {
                return open;
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("no child is stopped with {count} descriptors");
}

#[test]
fn child_stopped_before_exec_is_killed_at_its_deadline() {
    let Some(command) = command_as_nobody() else {
        return;
    };
    let started = Instant::now();
    let run = std::thread::spawn(|| {
        stop_children_before_exec();
        Exec.run(command.timeout(Duration::from_secs(2)))
    });
    let error = run.join().unwrap().unwrap_err();
    assert!(started.elapsed() < TEST_TIMEOUT);
    assert!(!error.is_program_missing());
    let message = error.to_string();
    assert!(message.starts_with("`echo never` did not start within 5 s and was killed: another process of nobody stopped it"), "{message}");
    assert!(message.contains("`ps -fu nobody`"), "{message}");
}

#[test]
fn child_of_another_user_inherits_no_fds_of_trueup_before_exec() {
    let Some(mut command) = command_as_nobody() else {
        return;
    };
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let lock = tempfile::tempfile().unwrap();
    // SAFETY: a descriptor that the caller would have left open.
    let inherited = unsafe { libc::dup(lock.as_raw_fd()) };
    command.extra_fds = [&writer, &writer, &writer]
        .map(|fd| fd.try_clone().unwrap())
        .into();
    let stop = StopFlag::default();
    command.stop = Some(stop.clone());
    let run = std::thread::spawn(|| {
        stop_children_before_exec();
        Exec.run(command)
    });
    let open = wait_for_stopped_child_fds(7);
    stop.set();
    assert_eq!(
        run.join().unwrap().unwrap().exit_reason,
        ExitReason::Stopped
    );
    let numbers: Vec<i32> = open.keys().copied().collect();
    assert_eq!(numbers[..6], [0, 1, 2, 3, 4, 5], "{open:?}");
    assert_eq!(open[&0], PathBuf::from("/dev/null"));
    // The last one is the pipe that reports start errors.
    for fd in &numbers[1..] {
        assert!(open[fd].to_str().unwrap().starts_with("pipe:"), "{open:?}");
    }
    assert!(open[&3] == open[&4] && open[&4] == open[&5], "{open:?}");
    drop((reader, writer));
    // SAFETY: the copy from above.
    unsafe { libc::close(inherited) };
}

#[test]
fn piped_child_stopped_before_exec_times_out() {
    let Some(command) = command_as_nobody() else {
        return;
    };
    let started = Instant::now();
    let talk = std::thread::spawn(move || {
        stop_children_before_exec();
        let talk = Exec.spawn_piped(&command, deadline_in(2000));
        talk.map(drop)
    });
    wait_for_stopped_child_fds(4);
    let error = talk.join().unwrap().unwrap_err();
    assert!(matches!(error, ExecError::StartTimedOut { .. }), "{error}");
    assert!(started.elapsed() < TEST_TIMEOUT);
}

#[test]
fn detached_service_stopped_before_exec_times_out() {
    let Some(command) = command_as_nobody() else {
        return;
    };
    let started = Instant::now();
    let service = std::thread::spawn(move || {
        stop_children_before_exec();
        Exec.spawn_detached(command)
    });
    let error = service.join().unwrap().unwrap_err();
    assert!(matches!(error, ExecError::StartTimedOut { .. }), "{error}");
    assert!(started.elapsed() < TEST_TIMEOUT);
}

#[test]
fn a_child_that_stops_itself_later_ends_at_its_deadline() {
    let command = sh("kill -STOP $$").timeout(Duration::from_millis(300));
    let done = Exec.run(command).unwrap();
    assert!(
        matches!(done.exit_reason, ExitReason::TimedOut(_)),
        "{:?}",
        done.exit_reason
    );
}
