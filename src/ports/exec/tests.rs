use std::time::{Duration, Instant};

use super::*;

fn sh(line: &str) -> Command {
    Command::shell(line).timeout(Duration::from_secs(20))
}

#[test]
fn output_of_both_streams_is_kept_in_order_with_the_exit_code() {
    let done = Exec.run(sh("echo out; echo err >&2; exit 3")).unwrap();
    assert_eq!(done.ended, Ended::Exited(3));
    assert_eq!(done.output.text(), "out\nerr\n");
}

#[test]
fn the_environment_is_only_what_was_given() {
    let done = Exec
        .run(sh("env | cut -d= -f1 | sort | tr '\\n' ' '").env("A", "1"))
        .unwrap();
    let seen = done.output.text();
    for inherited in ["HOME", "CARGO", "USER"] {
        assert!(!seen.contains(inherited), "{seen}");
    }
    assert!(seen.contains("A ") && seen.contains("PATH"), "{seen}");
}

#[test]
fn a_child_past_its_deadline_dies_with_its_whole_group() {
    let begun = Instant::now();
    let command = sh("sleep 60 & echo $!; wait").timeout(Duration::from_millis(300));
    let done = Exec.run(command).unwrap();
    assert!(matches!(done.ended, Ended::TimedOut(_)), "{:?}", done.ended);
    assert!(begun.elapsed() < Duration::from_secs(15));
    let grandchild: i32 = done.output.text().trim().parse().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let stat = std::fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
    assert!(
        stat.is_empty() || stat.contains(") Z "),
        "still there: {stat}"
    );
}

#[test]
fn a_child_that_ignores_the_polite_signal_is_killed() {
    let command =
        sh("trap '' TERM; while :; do sleep 0.1; done").timeout(Duration::from_millis(200));
    assert!(matches!(
        Exec.run(command).unwrap().ended,
        Ended::TimedOut(_)
    ));
}

#[test]
fn a_background_child_that_holds_the_pipe_does_not_hold_the_pass() {
    let begun = Instant::now();
    let done = Exec.run(sh("sleep 30 & echo started")).unwrap();
    assert_eq!(done.ended, Ended::Exited(0));
    assert!(begun.elapsed() < Duration::from_secs(10));
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
fn a_missing_program_says_which() {
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
    let error = Exec.must(sh("echo one; echo two; exit 1")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`echo one; echo two; exit 1` exited with 1; it printed:\none\ntwo"
    );
}

#[test]
fn descriptors_are_passed_from_three_on() {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let mut command = sh("echo through >&3");
    command.pass = vec![writer];
    assert!(Exec.run(command).unwrap().ok());
    let mut buffer = [0; 16];
    let n = nix::unistd::read(&reader, &mut buffer).unwrap();
    assert_eq!(&buffer[..n], b"through\n");
}
