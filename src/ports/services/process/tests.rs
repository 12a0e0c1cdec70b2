use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::launch::Launch;
use super::processes::{self, LiveProcess};
use super::unit::Unit;
use super::*;
use crate::ports::root::Attrs;

/// Passes the sandbox to the copy of the test that is to be killed.
const SANDBOX: &str = "TRUEUP_TEST_SANDBOX";

struct Sandbox {
    root: Rc<Root>,
    services: ProcessServices,
}

impl Sandbox {
    fn at(dir: &Path) -> Sandbox {
        let root = Rc::new(Root::at(dir).unwrap());
        root.create_dir_all("/etc/systemd/system".as_ref(), &Attrs::default())
            .unwrap();
        let exec = Rc::new(Exec);
        let services = ProcessServices::new(root.clone(), exec, Rc::new(Accounts::default()));
        Sandbox { root, services }
    }

    fn write(&self, path: &str, body: &str) {
        self.root
            .write_atomic(path.as_ref(), body.as_bytes(), &Attrs::default())
            .unwrap();
    }

    fn define_service(&self, lines: &str) {
        let body = format!("[Service]\n{lines}\n");
        self.write("/etc/systemd/system/app.service", &body);
    }

    fn outside(&self, path: &str) -> PathBuf {
        self.root.machine_path(path.as_ref())
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.outside(path)).unwrap_or_default()
    }

    fn pid(&self) -> i32 {
        self.services.status("app").unwrap().main_pid.unwrap() as i32
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.services.stop("app");
    }
}

fn wait_for(condition: &str, mut ready: impl FnMut() -> bool) {
    let started = Instant::now();
    while !ready() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "never: {condition}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_killed_trueup_leaves_its_services_running() {
    if let Some(dir) = std::env::var_os(SANDBOX) {
        let sandbox = Sandbox::at(Path::new(&dir));
        sandbox.services.start("app").unwrap();
        kill(Pid::this(), Signal::SIGKILL).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::at(dir.path());
    sandbox.define_service("ExecStart=/bin/sleep 60");
    let this = "ports::services::process::tests::a_killed_trueup_leaves_its_services_running";
    let killed = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", this])
        .env(SANDBOX, dir.path())
        .output()
        .unwrap();
    assert_eq!(killed.status.code(), None, "{killed:?}");
    let pid = sandbox.pid();
    sandbox.services.start("app").unwrap();
    assert_eq!(sandbox.pid(), pid, "a second copy was started");
    sandbox.services.stop("app").unwrap();
    assert_eq!(LiveProcess::find(pid), None);
}

#[test]
fn unrecorded_process_never_becomes_the_service() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::at(dir.path());
    let unit = Unit::parse(
        &UnitName::new("app").unwrap(),
        [&*format!(
            "[Service]\nExecStart=/bin/touch {}\n",
            sandbox.outside("/started").display()
        )],
    );
    let launch = Launch {
        unit: &unit,
        socket: None,
        identity: None,
        env: Default::default(),
        service_id: "test|app".into(),
        log: "/app.log".into(),
    };
    let waiting = launch
        .spawn_blocked(&Exec, &sandbox.root, &unit.exec_start[0])
        .unwrap();
    let pid = waiting.pid;
    std::thread::sleep(Duration::from_millis(50));
    assert!(LiveProcess::find(pid).is_some(), "it waits at the gate");
    // As when trueup is killed here.
    drop(waiting);
    wait_for("it ends", || LiveProcess::find(pid).is_none());
    assert!(!sandbox.outside("/started").exists());
    processes::reap(pid);
}

#[test]
fn blocked_process_is_not_mistaken_for_the_service() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::at(dir.path());
    let log = sandbox.outside("/starts");
    sandbox.define_service(&format!(
        "ExecStart=/bin/sh -c 'echo start >>{}; exec sleep 60'",
        log.display()
    ));
    let name = UnitName::new("app").unwrap();
    let unit = Unit::parse(&name, [&*sandbox.read("/etc/systemd/system/app.service")]);
    let launch = Launch {
        unit: &unit,
        socket: None,
        identity: None,
        env: Default::default(),
        service_id: sandbox.services.service_id(&name),
        log: sandbox.services.log_path(&name),
    };
    // With and without saved state from before trueup was killed.
    for remembered in [false, true] {
        let waiting = launch
            .spawn_blocked(&Exec, &sandbox.root, &unit.exec_start[0])
            .unwrap();
        let (pid, start) = (waiting.pid, waiting.start_time);
        let boot = processes::boot_id();
        if remembered {
            sandbox.write(
                "/var/lib/trueup/process/app.json",
                &format!(
                    r#"{{"version":1,"enabled":false,"run":{{"pid":{pid},"start":{start},"boot":"{boot}","reloaded":null}}}}"#
                ),
            );
        }
        // The kernel closes the pipe of a killed trueup only after a while.
        let killed = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            drop(waiting);
        });
        assert_ne!(
            sandbox.services.status("app").unwrap().active,
            ActiveState::Running
        );
        sandbox.services.start("app").unwrap();
        killed.join().unwrap();
        assert!(LiveProcess::find(sandbox.pid()).is_some());
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "start\n");
        sandbox.services.stop("app").unwrap();
        std::fs::remove_file(&log).unwrap();
        processes::reap(pid);
    }
}

#[test]
fn running_service_is_found_without_its_state_file() {
    for start in [
        // With a daemon that it left in a session of its own, which is no service's main process.
        "/bin/sh -c 'setsid sleep 3 & exec sleep 60'",
        // A program that overwrites its environment, like those that set their title.
        "/usr/bin/env -i /bin/sleep 60",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::at(dir.path());
        sandbox.define_service(&format!("ExecStart={start}"));
        sandbox.services.start("app").unwrap();
        let pid = sandbox.pid();
        sandbox.write("/var/lib/trueup/process/app.json", "{torn");
        assert_eq!(sandbox.services.status("app").unwrap().main_pid, None);
        sandbox.services.start("app").unwrap();
        assert_eq!(sandbox.pid(), pid, "a second copy was started");
        // The service of the same name in the other sandbox is another service.
        let other_dir = tempfile::tempdir().unwrap();
        let other = Sandbox::at(other_dir.path());
        other.define_service("ExecStart=/bin/sleep 60");
        other.services.start("app").unwrap();
        assert_ne!(other.pid(), pid);
    }
}

#[test]
fn service_runs_as_the_sandbox_user() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::at(dir.path());
    sandbox.write("/etc/passwd", "deploy:x:7001:7002::/home/deploy:/bin/sh\n");
    sandbox.write("/etc/group", "deploy:x:7002:\nweb:x:7003:deploy\n");
    sandbox.define_service(
        "User=deploy\nExecStart=/bin/sh -c 'id -u; id -g; id -G; echo $$HOME; exec sleep 60'",
    );
    sandbox.services.start("app").unwrap();
    let home = sandbox.outside("/home/deploy").display().to_string();
    let log = || sandbox.read("/var/log/trueup/app.log");
    wait_for("it tells", || log().contains(&home));
    assert_eq!(log(), format!("7001\n7002\n7002 7003\n{home}\n"));
}

#[test]
fn reused_pid_is_neither_the_service_nor_killed() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::at(dir.path());
    sandbox.define_service("ExecStart=/bin/sleep 60");
    let mut stranger = std::process::Command::new("sleep")
        .arg("60")
        .process_group(0)
        .spawn()
        .unwrap();
    let pid = stranger.id() as i32;
    let start = LiveProcess::find(pid).unwrap().start_time;
    let state = format!(
        r#"{{"version":1,"enabled":false,"run":{{"pid":{pid},"start":{},"boot":"{}","reloaded":null}}}}"#,
        start - 1,
        processes::boot_id()
    );
    sandbox
        .root
        .create_dir_all("/var/lib/trueup/process".as_ref(), &Attrs::default())
        .unwrap();
    sandbox.write("/var/lib/trueup/process/app.json", &state);
    assert_eq!(
        sandbox.services.status("app").unwrap().active,
        ActiveState::Failed
    );
    sandbox.services.stop("app").unwrap();
    assert!(LiveProcess::find(pid).is_some());
    sandbox.services.start("app").unwrap();
    assert_ne!(sandbox.pid(), pid);
    assert!(LiveProcess::find(pid).is_some());
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn service_ignoring_sigterm_is_killed_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::at(dir.path());
    let child = sandbox.outside("/child");
    sandbox.define_service(&format!(
        "ExecStart=/bin/sh -c 'trap \"\" TERM; sleep 60 & echo $! >{}; wait'\nTimeoutStopSec=200ms",
        child.display()
    ));
    sandbox.services.start("app").unwrap();
    let main = sandbox.pid();
    wait_for("the child is there", || {
        sandbox.read("/child").ends_with('\n')
    });
    let child: i32 = sandbox.read("/child").trim().parse().unwrap();
    assert!(LiveProcess::find(child).is_some());
    sandbox.services.stop("app").unwrap();
    assert_eq!(
        (LiveProcess::find(main), LiveProcess::find(child)),
        (None, None)
    );
}

#[test]
fn orphaned_children_are_killed_before_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::at(dir.path());
    let child = sandbox.outside("/child");
    sandbox.define_service(&format!(
        "ExecStart=/bin/sh -c 'sleep 60 & echo $! >{}; wait'",
        child.display()
    ));
    sandbox.services.start("app").unwrap();
    wait_for("the child is there", || {
        sandbox.read("/child").ends_with('\n')
    });
    let worker: i32 = sandbox.read("/child").trim().parse().unwrap();
    kill(Pid::from_raw(sandbox.pid()), Signal::SIGKILL).unwrap();
    wait_for("the main process is gone", || {
        sandbox.services.status("app").unwrap().active == ActiveState::Failed
    });
    assert!(LiveProcess::find(worker).is_some());
    sandbox.services.start("app").unwrap();
    assert_eq!(
        LiveProcess::find(worker),
        None,
        "two generations of workers"
    );
}

#[test]
fn service_gets_exactly_the_environment_of_its_unit() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::at(dir.path());
    sandbox.write("/etc/app.env", "# comment\nPORT=3000\nB='from the file'\n");
    sandbox.write(
        "/etc/systemd/system/app.sh",
        "#!/bin/sh\nenv >$1; pwd >>$1; echo $2 >>$1; exec sleep 60\n",
    );
    let script = sandbox.outside("/etc/systemd/system/app.sh");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    sandbox.define_service(&format!(
        "Environment=A=1 B=2\nEnvironmentFile={}\nEnvironmentFile=-/no/such/file\n\
         WorkingDirectory={}\nExecStart={} {} port=${{PORT}}",
        sandbox.outside("/etc/app.env").display(),
        sandbox.outside("/etc").display(),
        script.display(),
        sandbox.outside("/environment").display(),
    ));
    sandbox.services.start("app").unwrap();
    wait_for("it prints", || {
        sandbox.read("/environment").contains("port=")
    });
    let environment = sandbox.read("/environment");
    let root = sandbox.root.path().display().to_string();
    for line in [
        "A=1",
        "B=from the file",
        "PORT=3000",
        "port=3000",
        &format!("{root}/etc"),
        &format!("TRUEUP_SERVICE={root}|app"),
    ] {
        assert!(
            environment.lines().any(|set| set == line),
            "{line} not in {environment}"
        );
    }
    for inherited in ["CARGO", "HOME=", "LISTEN_FDS"] {
        assert!(!environment.contains(inherited), "{environment}");
    }
}

#[test]
fn invalid_unit_leaves_the_running_process_alone() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::at(dir.path());
    sandbox.define_service("ExecStart=/bin/sleep 60");
    sandbox.services.start("app").unwrap();
    let pid = sandbox.pid();
    let mut wrong = vec![
        ("ExecStart=/bin/sleep 'open", "not closed"),
        ("ExecStart=/bin/true\nExecStart=/bin/true", "2 ExecStart="),
        (
            "EnvironmentFile=/no/such/file\nExecStart=/bin/sleep 60",
            "/no/such/file",
        ),
    ];
    if nix::unistd::geteuid().is_root() {
        wrong.push(("User=nobody-here\nExecStart=/bin/sleep 60", "nobody-here"));
    }
    for (unit, message) in wrong {
        sandbox.define_service(unit);
        let error = sandbox.services.restart("app").unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert_eq!(sandbox.pid(), pid);
    }
}

#[test]
fn failing_exec_start_pre_prevents_the_start_unless_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::at(dir.path());
    let steps = "ExecStartPre=-/bin/false\nExecStartPre=/bin/sh -c 'echo bad config; exit 2'";
    sandbox.define_service(&format!("{steps}\nExecStart=/bin/sleep 60"));
    let error = sandbox.services.start("app").unwrap_err().to_string();
    assert!(error.contains("bad config"), "{error}");
    sandbox.define_service("ExecStartPre=-/bin/false\nExecStart=/bin/sleep 60");
    sandbox.services.start("app").unwrap();
}

#[test]
fn active_socket_is_bound_at_every_start() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::at(dir.path());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let listen = format!("[Socket]\nListenStream=127.0.0.1:{port}\n");
    sandbox.write("/etc/systemd/system/app.socket", &listen);
    sandbox.define_service("ExecStart=/bin/sleep 60");
    let connect = || std::net::TcpStream::connect(("127.0.0.1", port));
    sandbox.services.start("app").unwrap();
    assert!(
        connect().is_err(),
        "a socket that is not active is not bound"
    );
    sandbox.services.start("app.socket").unwrap();
    for _ in 0..2 {
        sandbox.services.restart("app").unwrap();
        connect().unwrap();
    }
}
