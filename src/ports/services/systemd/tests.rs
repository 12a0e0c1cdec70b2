//! Tests that need a real systemd; skipped with a message where there is none.

use super::super::conformance::Fixture;
use super::*;

fn start_failure(bench: &Fixture, name: &str) -> (String, Vec<String>) {
    match bench.services.start(name) {
        Err(ServiceError::Failed { why, log, .. }) => (why, log),
        other => panic!("{other:?}"),
    }
}

#[test]
fn crash_looping_service_fails_its_start() {
    let Some(mut bench) = Fixture::systemd() else {
        return;
    };
    let unit =
        "[Service]\nExecStart=/bin/sh -c 'echo crashed; exit 1'\nRestart=always\nRestartSec=30\n";
    let name = bench.define("service", unit);
    let (why, log) = start_failure(&bench, &name);
    assert!(why.contains("exited with 1"), "{why}");
    assert!(why.contains("waits to be restarted"), "{why}");
    assert!(log.iter().any(|line| line == "crashed"), "{log:?}");
    let status = bench.services.status(&name).unwrap();
    assert_eq!(status.active, ActiveState::Starting);
}

#[test]
fn oneshot_start_succeeds_only_with_exit_code_zero() {
    let Some(mut bench) = Fixture::systemd() else {
        return;
    };
    let unit = "[Service]\nType=oneshot\nExecStart=/bin/true\n";
    let good = bench.define("service", unit);
    bench.services.start(&good).unwrap();
    let status = bench.services.status(&good).unwrap();
    assert_eq!(status.active, ActiveState::Stopped);
    assert!(status.ends_by_itself);
    let remaining = bench.define("service", &format!("{unit}RemainAfterExit=yes\n"));
    assert!(!bench.services.status(&remaining).unwrap().ends_by_itself);
    let bad = bench.define("service", &unit.replace("true", "false"));
    let (why, _) = start_failure(&bench, &bad);
    assert!(why.contains("exited with 1"), "{why}");
}

#[test]
fn start_waits_for_the_readiness_notification() {
    let Some(mut bench) = Fixture::systemd() else {
        return;
    };
    let ready = bench.path("ready");
    let unit = format!(
        "[Service]\nType=notify\nNotifyAccess=all\nExecStart=/bin/sh -c \
         'sleep 1; touch {}; systemd-notify --ready; exec sleep 60'\n",
        ready.display()
    );
    let name = bench.define("service", &unit);
    bench.services.start(&name).unwrap();
    assert!(ready.exists());
    let silent = "[Service]\nType=notify\nTimeoutStartSec=1\nExecStart=/bin/sleep 60\n";
    let silent = bench.define("service", silent);
    let (why, _) = start_failure(&bench, &silent);
    assert!(why.contains("longer"), "{why}");
}

#[test]
fn start_failure_names_its_cause() {
    let Some(mut bench) = Fixture::systemd() else {
        return;
    };
    let wrong = bench.define("service", "[Service]\nExecStart=relative/path\n");
    let (why, _) = start_failure(&bench, &wrong);
    assert!(why.contains("rejects"), "{why}");
    assert!(bench.services.status(&wrong).unwrap().known);
    let needed = bench.define("service", "[Service]\nType=oneshot\nExecStart=/bin/false\n");
    let unit = format!(
        "[Unit]\nRequires={needed}.service\nAfter={needed}.service\n[Service]\nExecStart=/bin/sleep 60\n"
    );
    let name = bench.define("service", &unit);
    let (why, _) = start_failure(&bench, &name);
    assert!(why.contains("a dependency failed"), "{why}");
    let unit = "[Unit]\nConditionPathExists=/no/such\n[Service]\nExecStart=/bin/sleep 60\n";
    let name = bench.define("service", unit);
    let (why, _) = start_failure(&bench, &name);
    assert!(why.contains("condition"), "{why}");
}

#[test]
fn start_limit_error_names_reset_failed() {
    let Some(mut bench) = Fixture::systemd() else {
        return;
    };
    let unit = "[Unit]\nStartLimitBurst=1\nStartLimitIntervalSec=60\n\
                [Service]\nExecStart=/bin/false\n";
    let name = bench.define("service", unit);
    let (why, _) = start_failure(&bench, &name);
    assert!(why.contains("exited with 1"), "{why}");
    let (why, _) = start_failure(&bench, &name);
    assert!(why.contains("reset-failed"), "{why}");
}

#[test]
fn restart_count_resets_at_a_requested_start() {
    let Some(mut bench) = Fixture::systemd() else {
        return;
    };
    let mended = bench.path("mended");
    let unit = format!(
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=300ms\n\
         ExecStart=/bin/sh -c '[ -e {} ] && exec sleep 60; sleep 3; exit 1'\n",
        mended.display()
    );
    let name = bench.define("service", &unit);
    bench.services.start(&name).unwrap();
    let revived = || bench.services.status(&name).unwrap().restarts;
    let started = std::time::Instant::now();
    while revived() < 2 {
        assert!(started.elapsed().as_secs() < 30, "it does not die");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::fs::write(&mended, "").unwrap();
    bench.services.restart(&name).unwrap();
    assert_eq!(revived(), 0);
}
