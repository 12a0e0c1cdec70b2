use std::time::Duration;

use nix::sys::signal::Signal;

use super::unit::{KillMode, Unit};
use crate::ports::services::name::UnitName;

fn parse(files: &[&str]) -> Unit {
    Unit::parse(&UnitName::new("puma@shop").unwrap(), files.iter().copied())
}

#[test]
fn typical_unit_file_is_parsed() {
    let unit = parse(&["
# by hand
[Unit]
Description=Puma % of the shop
[Service]
Type=notify
ExecStartPre=-/bin/mkdir -p /srv/%i
ExecStart=/usr/bin/env bundle exec \\
    # not part of it
    puma -C 'config/puma %i.rb'
ExecReload=/bin/kill -USR1 $MAINPID
WorkingDirectory=/srv/%i/current
Environment=A=1 \"B=two words\"
EnvironmentFile=-/etc/default/%p
User=deploy
KillMode=mixed
KillSignal=QUIT
TimeoutStopSec=1min 30s
[Install]
WantedBy=multi-user.target
"]);
    assert_eq!(unit.errors, Vec::<String>::new());
    let words = [
        "/usr/bin/env",
        "bundle",
        "exec",
        "puma",
        "-C",
        "config/puma shop.rb",
    ];
    assert_eq!(unit.exec_start[0].argv, words);
    assert!(unit.exec_start_pre[0].ignore_failure && !unit.exec_start[0].ignore_failure);
    assert_eq!(unit.environment, ["A=1", "B=two words"]);
    assert_eq!(unit.environment_files, [("/etc/default/puma".into(), true)]);
    assert_eq!(unit.user.as_deref(), Some("deploy"));
    assert_eq!(unit.kill_signal, Signal::SIGQUIT);
    assert_eq!(unit.kill_mode, KillMode::Main);
    assert_eq!(unit.stop_timeout, Duration::from_secs(90));
    assert!(unit.installable);
}

#[test]
fn empty_exec_start_in_a_drop_in_resets_it() {
    let base = "[Service]\nExecStart=/bin/a\nEnvironment=A=1\n";
    let unit = parse(&[
        base,
        "[Service]\nExecStart=\nExecStart=@/bin/b name -x\nEnvironment=B=2\n",
    ]);
    assert_eq!(unit.exec_start.len(), 1);
    assert_eq!(unit.exec_start[0].argv, ["/bin/b", "-x"]);
    assert_eq!(unit.environment, ["A=1", "B=2"]);
}

#[test]
fn parse_errors_name_their_directive() {
    let unit = parse(&["[Service]\nExecStart=/bin/a 'b\nTimeoutStopSec=soon\nEnvironment=X=%t\n"]);
    let faults = unit.errors.join("\n");
    for key in ["ExecStart=", "TimeoutStopSec=", "Environment="] {
        assert!(faults.contains(key), "{faults}");
    }
}
