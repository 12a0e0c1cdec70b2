mod folder;
mod observed;
mod stopped_before_exec;
mod unkillable;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::*;
use crate::ports::deadline::DeadlineError;
use crate::ports::testing::skip_test;

fn sh(line: &str) -> Command {
    Command::shell(line).timeout(Duration::from_secs(20))
}

#[test]
fn output_of_both_streams_is_kept_in_order_with_the_exit_code() {
    let done = Exec.run(sh("echo out; echo err >&2; exit 3")).unwrap();
    assert_eq!(done.exit_reason, ExitReason::Exited(3));
    assert_eq!(done.output.text(), "out\nerr\n");
}

#[test]
fn the_environment_is_only_what_was_given() {
    let done = Exec
        .run(sh("env | cut -d= -f1 | sort | tr '\\n' ' '").env("A", "1"))
        .unwrap();
    let environment = done.output.text();
    for inherited in ["HOME", "CARGO", "USER"] {
        assert!(!environment.contains(inherited), "{environment}");
    }
    assert!(
        environment.contains("A ") && environment.contains("PATH"),
        "{environment}"
    );
}

#[test]
fn timed_out_child_is_killed_with_its_process_group() {
    let started = Instant::now();
    let command = sh("sleep 60 & echo $!; wait").timeout(Duration::from_millis(300));
    let done = Exec.run(command).unwrap();
    assert!(
        matches!(done.exit_reason, ExitReason::TimedOut(_)),
        "{:?}",
        done.exit_reason
    );
    assert!(started.elapsed() < Duration::from_secs(15));
    let grandchild: i32 = done.output.text().trim().parse().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let stat = std::fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
    assert!(
        stat.is_empty() || stat.contains(") Z "),
        "still there: {stat}"
    );
}

#[test]
fn child_that_ignores_sigterm_is_killed() {
    let command =
        sh("trap '' TERM; while :; do sleep 0.1; done").timeout(Duration::from_millis(200));
    assert!(matches!(
        Exec.run(command).unwrap().exit_reason,
        ExitReason::TimedOut(_)
    ));
}

#[test]
fn background_process_with_an_open_pipe_does_not_block_the_pass() {
    let started = Instant::now();
    let done = Exec.run(sh("sleep 30 & echo started")).unwrap();
    assert_eq!(done.exit_reason, ExitReason::Exited(0));
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_hundred_megabytes_of_output_are_bounded_on_disk_and_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut command = sh("head -c 100000000 /dev/zero | tr '\\0' x; echo; echo done");
    command.log = Some(std::fs::File::create(&path).unwrap());
    let done = Exec.run(command).unwrap();
    assert_eq!(done.output.total(), 100_000_006);
    assert_eq!(done.output.tail(1), "done");
    assert!(std::fs::metadata(&path).unwrap().len() < output::LOG_LIMIT + 100_000);
}

#[test]
fn missing_program_is_named_in_the_error() {
    let error = Exec
        .run(Command::new(["/no/such/program", "a b"]))
        .unwrap_err();
    assert!(
        error.to_string().contains("/no/such/program 'a b'"),
        "{error}"
    );
}

#[test]
fn a_failure_carries_the_last_lines() {
    let error = Exec
        .run_checked(sh("echo one; echo two; exit 1"))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`echo one; echo two; exit 1` exited with 1\n  | one\n  | two"
    );
}

#[test]
fn extra_fds_start_at_three() {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let mut command = sh("echo through >&3");
    command.extra_fds = vec![writer];
    assert!(Exec.run(command).unwrap().success());
    let mut buffer = [0; 16];
    let n = nix::unistd::read(&reader, &mut buffer).unwrap();
    assert_eq!(&buffer[..n], b"through\n");
}

fn deadline_in(millis: u64) -> Deadline {
    Duration::from_millis(millis).into()
}

fn deadline_error(error: &std::io::Error) -> Option<DeadlineError> {
    error.get_ref()?.downcast_ref::<DeadlineError>().cloned()
}

#[test]
fn piped_child_exchanges_data_and_returns_its_stderr() {
    let command = sh("echo hello >&2; read a; echo \"got $a\"; read b; echo \"and $b\"; exit 4");
    let mut talk = Exec.spawn_piped(&command, deadline_in(10_000)).unwrap();
    let mut answer = [0; 64];
    talk.write_all(b"one\n").unwrap();
    let n = talk.read(&mut answer).unwrap();
    assert_eq!(&answer[..n], b"got one\n");
    talk.write_all(b"two\n").unwrap();
    let mut rest = String::new();
    talk.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "and two\n");
    assert_eq!(talk.finish(), (ExitReason::Exited(4), "hello\n".into()));
}

#[test]
fn piped_child_that_answers_early_does_not_deadlock() {
    // More in each direction than both pipes hold.
    let much = vec![b'x'; 600 << 10];
    let mut talk = Exec
        .spawn_piped(&sh("exec cat"), deadline_in(20_000))
        .unwrap();
    talk.write_all(&much).unwrap();
    let mut back = vec![0; much.len()];
    talk.read_exact(&mut back).unwrap();
    assert!(back == much);
    assert_eq!(talk.finish(), (ExitReason::Exited(0), String::new()));
    assert_eq!(talk.read(&mut back).unwrap(), 0);
    assert!(talk.write(b"x").is_err());
}

#[test]
fn silent_piped_child_times_out_and_its_group_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    let line = format!("sleep 60 & echo $! >{}; wait", file.display());
    let short = Duration::from_millis(700);
    let mut talk = Exec.spawn_piped(&sh(&line), short.into()).unwrap();
    let error = talk.read(&mut [0; 8]).unwrap_err();
    assert_eq!(deadline_error(&error), Some(DeadlineError::TimedOut(short)));
    drop(talk);
    let grandchild = std::fs::read_to_string(file).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", grandchild.trim()));
    let stat = stat.unwrap_or_default();
    assert!(
        stat.is_empty() || stat.contains(") Z "),
        "still there: {stat}"
    );
}

#[test]
fn stop_flag_ends_reads_and_writes_of_a_piped_child() {
    for reads in [true, false] {
        let stop = StopFlag::default();
        let long = Duration::from_secs(30);
        let deadline = Deadline::new(long, long, stop.clone());
        let mut talk = Exec.spawn_piped(&sh("exec sleep 60"), deadline).unwrap();
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            stop.set();
        });
        let error = if reads {
            talk.read(&mut [0; 8]).unwrap_err()
        } else {
            talk.write_all(&vec![0; 1 << 20]).unwrap_err()
        };
        assert_eq!(deadline_error(&error), Some(DeadlineError::Stopped));
        stopper.join().unwrap();
    }
}

#[test]
fn piped_child_that_does_not_exit_is_killed() {
    let started = Instant::now();
    let mut talk = Exec
        .spawn_piped(&sh("exec sleep 60"), deadline_in(30_000))
        .unwrap();
    assert!(matches!(talk.finish().0, ExitReason::TimedOut(_)));
    assert!(started.elapsed() < Duration::from_secs(10));
    let missing = Exec.spawn_piped(&Command::new(["/no/such"]), deadline_in(1));
    assert!(matches!(missing, Err(ExecError::Start { .. })));
}

#[test]
fn mem_file_is_accessible_to_a_child_of_the_same_user_only() {
    let handed = MemFile::new(b"secret\n").unwrap();
    let path = handed.path();
    let line = format!(
        "cat {0}; stat -Lc '%a %U' {0}; echo more >>{0}",
        path.display()
    );
    let done = Exec.run(sh(&line)).unwrap();
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
    let expected = format!("secret\n600 {}\n", user.unwrap().unwrap().name);
    assert_eq!(done.output.text(), expected);
    assert_eq!(handed.read().unwrap(), b"secret\nmore\n");
    drop(handed);
    assert!(!path.exists());
}

fn nobody() -> Identity {
    Identity {
        name: "nobody".into(),
        uid: 65534,
        gid: 65534,
        groups: vec![65534],
        home: "/".into(),
        shell: "/bin/sh".into(),
    }
}

#[test]
fn child_dies_with_trueup_as_root_and_as_another_user() {
    let death_signal = |identity: Option<Identity>| {
        let python = "import ctypes; signal = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(signal)); print(signal.value)";
        let mut command = Command::new(["python3", "-c", python]);
        command.identity = identity;
        Exec.run_checked(command).unwrap().output.text()
    };
    assert_eq!(death_signal(None), "9\n", "PR_GET_PDEATHSIG: SIGKILL");
    if !nix::unistd::geteuid().is_root() {
        return skip_test("a child of another user", "needs root");
    }
    assert_eq!(death_signal(Some(nobody())), "9\n");
}

fn write_program(folder: &Path, name: &str, body: &str, mode: u32) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, body).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn program_is_found_and_refused_as_by_execvp() {
    use std::io::ErrorKind;
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| dir.path().join(name));
    let refused = write_program(&first, "tool", "#!/bin/sh\necho first\n", 0o644);
    write_program(&second, "tool", "#!/bin/sh\necho second $1\n", 0o755);
    let plain = write_program(&second, "plain", "echo plain \"$1\"\n", 0o755);
    write_program(&first, "refused", "", 0o644);
    let lost = write_program(&second, "lost", "#!/no/such/interpreter\n", 0o755);
    let path = format!("/no/such:{}:{}", first.display(), second.display());
    let run = |argv: &[&str]| {
        let mut command = Command::new(argv.iter().copied()).env("PATH", &path);
        command.cwd = Some(second.clone());
        Exec.run(command)
    };
    let printed = |argv: &[&str]| run(argv).unwrap().output.text();
    let kind = |argv: &[&str]| match run(argv).unwrap_err() {
        ExecError::Start { error, .. } => error.kind(),
        other => panic!("{other}"),
    };
    let shown = |path: &Path| path.display().to_string();
    // Found in the child's own `PATH`, past entries that may not be executed.
    assert_eq!(printed(&["tool", "x"]), "second x\n");
    assert_eq!(printed(&["./tool", "x"]), "second x\n", "in the folder");
    // The shell runs a file without `#!`.
    assert_eq!(printed(&["plain", "a b"]), "plain a b\n");
    assert_eq!(printed(&[&shown(&plain), "a b"]), "plain a b\n");
    assert_eq!(kind(&["refused"]), ErrorKind::PermissionDenied);
    assert_eq!(kind(&[&shown(&refused)]), ErrorKind::PermissionDenied);
    assert_eq!(kind(&["none"]), ErrorKind::NotFound);
    assert_eq!(kind(&[""]), ErrorKind::NotFound);
    assert_eq!(kind(&[&shown(&lost)]), ErrorKind::NotFound);
    assert_eq!(kind(&["./tool/x"]), ErrorKind::NotADirectory);
    assert_eq!(kind(&["a\0b"]), ErrorKind::InvalidInput);
    assert_eq!(kind(&["tool", "a\0b"]), ErrorKind::InvalidInput);
    assert_eq!(
        kind(&["x".repeat(300).as_str()]),
        ErrorKind::InvalidFilename
    );
    assert!(run(&["none"]).unwrap_err().is_program_missing());
    assert!(!run(&["refused"]).unwrap_err().is_program_missing());
}

#[test]
fn missing_working_folder_is_an_error_of_the_start() {
    let mut command = Command::new(["true"]);
    command.cwd = Some("/no/such".into());
    let error = Exec.run(command).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot run `true`: No such file or directory (os error 2)"
    );
}

#[test]
fn empty_element_of_path_is_the_working_folder() {
    let dir = tempfile::tempdir().unwrap();
    write_program(dir.path(), "tool", "#!/bin/sh\necho second $1\n", 0o755);
    let mut command = Command::new(["tool", "x"]).env("PATH", ":/no/such");
    command.cwd = Some(dir.path().to_owned());
    assert_eq!(Exec.run(command).unwrap().output.text(), "second x\n");
}

#[test]
fn user_over_the_key_quota_gets_no_keys_of_trueup() {
    use nix::libc;
    if !nix::unistd::geteuid().is_root() {
        return skip_test("a child of another user", "needs root");
    }
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    let nameless = std::ptr::null::<libc::c_char>();
    // SAFETY: a null pointer asks for a keyring without a name; it belongs to this thread.
    let own = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, nameless) };
    if own < 0 {
        return skip_test("a keyring", "the kernel gives none");
    }
    let python = |line: &str, number: libc::c_long| {
        let line = format!("import ctypes, time; call = ctypes.CDLL(None).syscall; {line}");
        let mut command =
            Command::new(["python3", "-c", &line.replace("SYS", &number.to_string())]);
        command.identity = Some(nobody());
        command
    };
    // Adds keys to the process keyring until the quota is used up.
    let fill = "[n for n in iter(lambda: call(SYS, b'user', str(time.time()).encode(), b'x', 1, -2), -1)]; print('full', flush=True); time.sleep(60)";
    let mut filler = Exec
        .spawn_piped(&python(fill, libc::SYS_add_key), deadline_in(30_000))
        .unwrap();
    filler.read_exact(&mut [0; 5]).unwrap();
    let which = "print(call(SYS, 0, -3, 0))";
    let keyring = Exec.run_checked(python(which, libc::SYS_keyctl)).unwrap();
    let keyring = keyring.output.text();
    assert_ne!(keyring.trim(), "-1");
    assert_ne!(keyring.trim(), own.to_string());
}
