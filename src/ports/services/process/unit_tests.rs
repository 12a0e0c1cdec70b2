use std::time::Duration;

use nix::sys::signal::Signal;

use super::unit::{KillMode, Unit};
use crate::ports::services::name::UnitName;

fn read(files: &[&str]) -> Unit {
    Unit::read(&UnitName::new("puma@shop").unwrap(), files.iter().copied())
}

#[test]
fn typical_unit_file_is_parsed() {
    let unit = read(&["
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
    assert_eq!(unit.faults, Vec::<String>::new());
    let words = [
        "/usr/bin/env",
        "bundle",
        "exec",
        "puma",
        "-C",
        "config/puma shop.rb",
    ];
    assert_eq!(unit.start[0].words, words);
    assert!(unit.start_pre[0].may_fail && !unit.start[0].may_fail);
    assert_eq!(unit.environment, ["A=1", "B=two words"]);
    assert_eq!(unit.environment_files, [("/etc/default/puma".into(), true)]);
    assert_eq!(unit.user.as_deref(), Some("deploy"));
    assert_eq!(unit.kill_signal, Signal::SIGQUIT);
    assert_eq!(unit.kill_mode, KillMode::Main);
    assert_eq!(unit.stop_limit, Duration::from_secs(90));
    assert!(unit.installable);
}

#[test]
fn empty_exec_start_in_a_drop_in_resets_it() {
    let base = "[Service]\nExecStart=/bin/a\nEnvironment=A=1\n";
    let unit = read(&[
        base,
        "[Service]\nExecStart=\nExecStart=@/bin/b name -x\nEnvironment=B=2\n",
    ]);
    assert_eq!(unit.start.len(), 1);
    assert_eq!(unit.start[0].words, ["/bin/b", "-x"]);
    assert_eq!(unit.environment, ["A=1", "B=2"]);
}

#[test]
fn parse_errors_name_their_directive() {
    let unit = read(&["[Service]\nExecStart=/bin/a 'b\nTimeoutStopSec=soon\nEnvironment=X=%t\n"]);
    let faults = unit.faults.join("\n");
    for key in ["ExecStart=", "TimeoutStopSec=", "Environment="] {
        assert!(faults.contains(key), "{faults}");
    }
}
