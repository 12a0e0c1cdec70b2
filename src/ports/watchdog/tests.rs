use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use super::*;

const CHILD_VARIABLE: &str = "TRUEUP_TEST_WATCHDOG";

const SECOND: Duration = Duration::from_secs(1);

fn limits() -> Limits {
    Limits {
        grace: 60 * SECOND,
        idle: 600 * SECOND,
        check_interval: 5 * SECOND,
    }
}

/// Polls the state once per tick for up to `seconds`; returns after how many seconds it hung.
fn hangs_after(
    watch: &mut HangDetector,
    state: &mut OperationStack,
    seconds: u64,
) -> Option<(u64, String)> {
    (1..=seconds / 5).find_map(|n| {
        let progress = watch.progress;
        let hung = watch.check(state, progress, 5 * SECOND)?;
        Some((n * 5, hung))
    })
}

/// Leaks the guard: for an operation in the test's own state, it must not end one of the process's.
fn push_operation(state: &mut OperationStack, name: &str, limit: Option<u64>) -> u64 {
    let operation = state.push(name.into(), limit.map(Duration::from_secs));
    let id = operation.id;
    std::mem::forget(operation);
    id
}

#[test]
fn an_operation_past_its_deadline_hangs_and_is_named() {
    let (mut watch, mut state) = (HangDetector::new(limits()), OperationStack::new());
    push_operation(&mut state, "release:shop", None);
    push_operation(&mut state, "fetch git@host:shop.git\x1b]52;\n", Some(300));
    let (after, why) = hangs_after(&mut watch, &mut state, 1000).unwrap();
    // The first poll notices the operation.
    assert_eq!(after, 300 + 60 + 5);
    assert_eq!(
        why,
        "it hung at release:shop: fetch git@host:shop.git ]52; , 60 s past the deadline of 300 s"
    );
}

#[test]
fn innermost_operation_decides_and_the_outer_gets_grace_afterwards() {
    let (mut watch, mut state) = (HangDetector::new(limits()), OperationStack::new());
    push_operation(&mut state, "fetch", Some(10));
    let inner = push_operation(&mut state, "build", Some(900));
    assert!(hangs_after(&mut watch, &mut state, 900).is_none());
    state.remove(inner);
    let (after, why) = hangs_after(&mut watch, &mut state, 1000).unwrap();
    assert_eq!(after, 60 + 5);
    assert!(why.contains("at fetch, "), "{why}");
}

#[test]
fn work_hangs_only_after_progress_stops() {
    let (mut watch, mut state) = (HangDetector::new(limits()), OperationStack::new());
    push_operation(&mut state, "directory:/srv", None);
    for n in 1..1000 {
        assert_eq!(watch.check(&mut state, n, 5 * SECOND), None);
    }
    let (after, why) = hangs_after(&mut watch, &mut state, 5000).unwrap();
    assert_eq!(after, 660);
    assert_eq!(why, "it hung at directory:/srv, without progress for 660 s");
}

#[test]
fn suspended_time_does_not_count() {
    let (mut watch, mut state) = (HangDetector::new(limits()), OperationStack::new());
    push_operation(&mut state, "build", Some(10));
    for _ in 0..6 {
        assert_eq!(watch.check(&mut state, 0, 86_400 * SECOND), None);
    }
}

#[test]
fn dropped_watchdog_ends_nothing() {
    let limits = Limits {
        grace: Duration::ZERO,
        idle: 100 * SECOND,
        check_interval: Duration::from_secs(3600),
    };
    let over = Arc::new(AtomicBool::new(true));
    assert_eq!(watch_once(limits, &over), None);
}

fn watch_once(limits: Limits, over: &Arc<AtomicBool>) -> Option<String> {
    let observed = over.clone();
    let thread = std::thread::spawn(move || watch_for_hang(limits, &observed));
    thread.thread().unpark();
    thread.join().unwrap()
}

/// Waits for input that never comes, in a system call that no signal of trueup interrupts.
fn hang() -> ! {
    let (mut reader, _writer) = std::io::pipe().unwrap();
    loop {
        let _ = reader.read(&mut [0]);
    }
}

#[test]
fn child() {
    let Some(kind) = std::env::var_os(CHILD_VARIABLE) else {
        return;
    };
    let limits = Limits {
        grace: Duration::from_millis(100),
        idle: Duration::from_millis(100),
        check_interval: Duration::from_millis(20),
    };
    let stuck = kind == "stuck";
    let _watchdog = Watchdog::start_with(limits, move |why| {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), why.as_bytes());
        if stuck {
            hang();
        }
    });
    let stop = crate::ports::exec::StopFlag::default();
    crate::ports::signals::stop_on_termination(&stop);
    if kind == "idle" {
        let _resource = begin_unbounded("file:/srv/fifo");
        hang();
    }
    let operation = begin("fetch shop", Duration::from_millis(100));
    #[allow(clippy::zombie_processes, reason = "this process is to end before it")]
    let left = Command::new("/bin/sh")
        .args(["-c", "trap '' TERM; sleep 1000 & wait"])
        .process_group(0)
        .spawn()
        .unwrap();
    operation.set_process_group(Pid::from_raw(left.id().cast_signed()));
    // A signal to stop only sets a flag.
    nix::sys::signal::raise(Signal::SIGTERM).unwrap();
    hang();
}

/// Runs a child that hangs; returns its exit status and its output.
fn run_hanging_child(kind: &str) -> (std::process::ExitStatus, String) {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["ports::watchdog::tests::child", "--exact", "--nocapture"])
        .env(CHILD_VARIABLE, kind)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Its standard error only closes once all its children have ended, too.
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status, text)
}

#[test]
fn hung_pass_kills_its_children_and_names_the_operation() {
    for (kind, what) in [
        ("fetch", "it hung at fetch shop, "),
        ("idle", "it hung at file:/srv/fifo, without progress"),
    ] {
        let (status, text) = run_hanging_child(kind);
        assert_eq!((status.code(), status.signal()), (Some(1), None), "{text}");
        assert!(text.contains(what), "{text}");
    }
}

#[test]
fn hung_pass_ends_even_if_reporting_hangs() {
    let (status, text) = run_hanging_child("stuck");
    assert_eq!((status.code(), status.signal()), (Some(1), None), "{text}");
}
