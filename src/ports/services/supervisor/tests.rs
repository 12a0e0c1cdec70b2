//! Tests specific to supervisord, against a real one that belongs to the test.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::SupervisorServices;
use crate::ports::root::Root;
use crate::ports::services::conformance::{Fixture, wait_for};
use crate::ports::services::{ActiveState, EnabledState, ServiceError, ServiceStatus, Services};

/// A supervisord with its configuration, socket and logs below a folder; dropping it ends it.
pub(in super::super) struct Supervisord(Child);

impl Supervisord {
    /// `server` goes into the section `[unix_http_server]`.
    pub(in super::super) fn start(dir: &Path, server: &str) -> Result<Supervisord, String> {
        for folder in ["etc/supervisor/conf.d", "run", "log"] {
            std::fs::create_dir_all(dir.join(folder)).unwrap();
        }
        let configuration = dir.join("etc/supervisor/supervisord.conf");
        let at = dir.canonicalize().unwrap().display().to_string();
        let text = format!(
            "[unix_http_server]\nfile={at}/run/supervisor.sock ; the socket\n{server}\n\
             [supervisord]\nlogfile={at}/log/supervisord.log\npidfile={at}/run/supervisord.pid\n\
             childlogdir={at}/log\n\
             [rpcinterface:supervisor]\n\
             supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n\
             [include]\nfiles = {at}/etc/supervisor/conf.d/*.conf\n"
        );
        std::fs::write(&configuration, text).unwrap();
        let child = Command::new("supervisord")
            .arg("-n")
            .arg("-c")
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let supervisord = Supervisord(child);
        let socket = dir.join("run/supervisor.sock");
        wait_for("supervisord listens", || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        Ok(supervisord)
    }
}

impl Drop for Supervisord {
    fn drop(&mut self) {
        // With SIGTERM, so that it ends its own children.
        let pid = Pid::from_raw(self.0.id() as i32);
        let _ = kill(pid, Signal::SIGTERM);
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(10) {
            if self.0.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const SLEEP_PROGRAM: &str = "command=/bin/sleep 60\nstartsecs=0\nautostart=false\n";

fn fixture(sections: &str) -> Option<Fixture> {
    let mut bench = Fixture::supervisor()?;
    bench.write_definition("app.conf", sections);
    Some(bench)
}

fn pids(bench: &Fixture, names: &[&str]) -> Vec<u32> {
    let pid = |name: &&str| bench.services.status(name).unwrap().main_pid.unwrap();
    names.iter().map(pid).collect()
}

#[test]
fn start_loads_a_new_section_without_touching_other_groups() {
    let Some(mut bench) = fixture(&format!("[program:old]\n{SLEEP_PROGRAM}")) else {
        return;
    };
    bench.services.start("old").unwrap();
    let old = pids(&bench, &["old"]);
    bench.write_definition("new.conf", &format!("[program:new]\n{SLEEP_PROGRAM}"));
    let status = bench.services.status("new").unwrap();
    assert!(status.known && status.stale_definition, "{status:?}");
    assert_eq!(
        (status.active, status.enabled),
        (ActiveState::Stopped, EnabledState::Static)
    );
    bench.services.stop("new").unwrap();
    bench.services.start("new").unwrap();
    let status = bench.services.status("new").unwrap();
    assert!(!status.stale_definition, "{status:?}");
    assert_eq!(status.active, ActiveState::Running);
    assert_eq!(pids(&bench, &["old"]), old, "another group was touched");
}

#[test]
fn main_pid_is_the_executed_program() {
    let Some(bench) = fixture(&format!("[program:app]\n{SLEEP_PROGRAM}")) else {
        return;
    };
    bench.services.start("app").unwrap();
    let pid = pids(&bench, &["app"])[0];
    // Between fork and exec it has that of its parent, and for a moment none.
    let started = std::time::Instant::now();
    let line = loop {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        let is_executed = !line.is_empty() && !line.contains("supervisord");
        if is_executed || started.elapsed().as_secs() > 10 {
            break line;
        }
    };
    assert_eq!(line, "/bin/sleep\x0060\0");
}

#[test]
fn a_changed_section_restarts_its_own_group_and_no_other() {
    let sections = |seconds: u32| {
        format!(
            "[program:web]\n{SLEEP_PROGRAM}\n[program:worker]\n{SLEEP_PROGRAM}environment=N=\"{seconds}\"\n\
             [group:shop]\nprograms=web,worker\n[program:other]\n{SLEEP_PROGRAM}environment=N=\"{seconds}\"\n"
        )
    };
    let Some(mut bench) = fixture(&sections(1)) else {
        return;
    };
    let names = ["shop:web", "shop:worker", "other"];
    for name in names {
        bench.services.start(name).unwrap();
    }
    let before = pids(&bench, &names);
    bench.write_definition("app.conf", &sections(2));
    for name in names {
        assert!(bench.services.status(name).unwrap().stale_definition);
    }
    // All processes are up: a start has nothing to do.
    bench.services.start("shop:worker").unwrap();
    assert_eq!(pids(&bench, &names), before);
    bench.services.restart("shop:worker").unwrap();
    // Supervisord reloads the definition of a whole group only; the sibling is up again.
    wait_for("the sibling runs", || {
        bench
            .services
            .status("shop:web")
            .unwrap()
            .main_pid
            .is_some()
    });
    let after = pids(&bench, &names);
    assert!(after[0] != before[0] && after[1] != before[1]);
    assert_eq!(after[2], before[2]);
    // Until it has executed the program, a new process has the environment of its parent.
    wait_for("the process has its new environment", || {
        let environment = std::fs::read(format!("/proc/{}/environ", after[1]));
        environment.is_ok_and(|found| String::from_utf8_lossy(&found).contains("N=2"))
    });
    assert!(bench.services.status("other").unwrap().stale_definition);
    // If nothing changed, one process of a group is restarted alone.
    bench.services.restart("shop:worker").unwrap();
    let last = pids(&bench, &names);
    assert!(last[0] == after[0] && last[1] != after[1]);
}

#[test]
fn group_of_processes_is_one_service() {
    let numbered = "numprocs=3\nprocess_name=%(program_name)s_%(process_num)d\n";
    let Some(bench) = fixture(&format!("[program:app]\n{SLEEP_PROGRAM}{numbered}")) else {
        return;
    };
    let services = &bench.services;
    services.start("app").unwrap();
    let first = services.status("app").unwrap();
    assert_eq!(first.active, ActiveState::Running);
    assert_eq!(services.status("app:*").unwrap().run_id, first.run_id);
    let each = ["app:app_0", "app:app_1", "app:app_2"];
    let before = pids(&bench, &each);
    assert_eq!(first.main_pid, Some(before[0]));
    services.stop("app:app_1").unwrap();
    assert_eq!(services.status("app").unwrap().active, ActiveState::Stopped);
    services.start("app").unwrap();
    let second = services.status("app").unwrap();
    assert!(second.run_id.is_some() && second.run_id != first.run_id);
    // Each call calculates it from the clock again.
    let apart =
        |a: &ServiceStatus, b: &ServiceStatus| a.started_at.unwrap() - b.started_at.unwrap();
    let oldest = services.status(each[0]).unwrap();
    assert!(
        apart(&second, &oldest)
            .abs()
            .total(jiff::Unit::Second)
            .unwrap()
            < 0.1
    );
    services.restart("app").unwrap();
    let after = pids(&bench, &each);
    assert!(before.iter().all(|pid| !after.contains(pid)));
    services.stop("app").unwrap();
    for name in each {
        assert_eq!(services.status(name).unwrap().active, ActiveState::Stopped);
    }
}

#[test]
fn removed_section_can_be_stopped_but_not_started() {
    let Some(mut bench) = fixture(&format!("[program:app]\n{SLEEP_PROGRAM}")) else {
        return;
    };
    bench.services.start("app").unwrap();
    bench.write_definition("app.conf", "");
    let status = bench.services.status("app").unwrap();
    assert!(status.known && status.stale_definition, "{status:?}");
    let error = bench.services.restart("app").unwrap_err().to_string();
    assert!(error.contains("no longer has a section"), "{error}");
    assert_eq!(
        bench.services.status("app").unwrap().active,
        ActiveState::Running,
        "and it was left alone"
    );
    bench.services.stop("app").unwrap();
    assert!(!bench.services.status("app").unwrap().known);
}

#[test]
fn broken_configuration_changes_no_process() {
    let Some(mut bench) = fixture(&format!("[program:app]\n{SLEEP_PROGRAM}")) else {
        return;
    };
    bench.services.start("app").unwrap();
    let before = pids(&bench, &["app"]);
    bench.write_definition("broken.conf", "[program:broken]\nnumprocs=many\n");
    let status = bench.services.status("app").unwrap();
    assert!(status.run_id.is_some() && status.stale_definition);
    for tried in [
        bench.services.restart("app"),
        bench.services.start("broken"),
        bench.services.status("broken").map(drop),
    ] {
        let error = tried.unwrap_err().to_string();
        assert!(error.contains("many"), "it says what is wrong: {error}");
    }
    assert_eq!(pids(&bench, &["app"]), before);
}

#[test]
fn error_names_the_namespec_of_a_group_member() {
    let sections = format!("[program:web]\n{SLEEP_PROGRAM}[group:shop]\nprograms=web\n");
    let Some(bench) = fixture(&sections) else {
        return;
    };
    bench.services.start("shop:web").unwrap();
    let error = bench.services.start("web").unwrap_err().to_string();
    assert!(error.contains("`shop:web`"), "{error}");
    for odd in ["", ":", "a:", ":b", "a:b:c", "a b", "[a]", "a\nb"] {
        assert!(bench.services.status(odd).is_err(), "{odd:?}");
    }
}

#[test]
fn crash_looping_service_fails_its_start_with_the_log() {
    let line = "command=/bin/sh -c 'echo kl\u{e4}rt \x01 nichts; exit 1'\n";
    let Some(bench) = fixture(&format!(
        "[program:app]\n{line}redirect_stderr=true\nautostart=false\nstartretries=30\n"
    )) else {
        return;
    };
    let started = Instant::now();
    let ServiceError::Failed { why, log, .. } = bench.services.start("app").unwrap_err() else {
        panic!("another error");
    };
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(why.contains("did not stay up"), "{why}");
    assert!(log.iter().any(|line| line.contains("klärt")), "{log:?}");
    // Supervisord keeps trying, and a stop ends that.
    assert_eq!(
        bench.services.status("app").unwrap().active,
        ActiveState::Starting
    );
    bench.services.stop("app").unwrap();
    assert!(!matches!(
        bench.services.status("app").unwrap().active,
        ActiveState::Starting | ActiveState::Running
    ));
}

#[test]
fn enable_cannot_change_autostart() {
    let Some(bench) = fixture(&format!("[program:app]\n{SLEEP_PROGRAM}")) else {
        return;
    };
    let error = bench.services.enable("app").unwrap_err().to_string();
    assert!(error.contains("autostart"), "{error}");
    bench.services.disable("app").unwrap();
    assert!(matches!(
        bench.services.disable("none"),
        Err(ServiceError::Unknown { .. })
    ));
}

fn services_at(dir: &Path) -> SupervisorServices {
    SupervisorServices::new(Rc::new(Root::at(dir).unwrap()))
}

#[test]
fn configured_login_is_sent() {
    if Fixture::supervisor().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let login = "username=ana\npassword={SHA}a94a8fe5ccb19ba61c4c0873d391e987982fbbd3\n\
                 [supervisorctl]\nusername=ana\npassword=test\n";
    let _supervisord = Supervisord::start(dir.path(), login).unwrap();
    assert!(!services_at(dir.path()).status("app").unwrap().known);
    let path = dir.path().join("etc/supervisor/supervisord.conf");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("=test", "=wrong")).unwrap();
    let error = services_at(dir.path())
        .status("app")
        .unwrap_err()
        .to_string();
    assert!(error.contains("password"), "{error}");
}

#[test]
fn missing_supervisord_is_unreachable_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let why = |word: &str| {
        let error = services_at(dir.path()).status("app").unwrap_err();
        assert!(matches!(error, ServiceError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    };
    why("package");
    let etc = dir.path().join("etc/supervisor");
    std::fs::create_dir_all(&etc).unwrap();
    let at = dir.path().canonicalize().unwrap();
    let text = format!("[unix_http_server]\nfile={}/run/s.sock\n", at.display());
    std::fs::write(etc.join("supervisord.conf"), text).unwrap();
    why("nothing listens");
    std::fs::create_dir_all(dir.path().join("run")).unwrap();
    why("/run/s.sock");
}

/// Starts another listener on the socket, which answers every request with the same bytes.
fn start_impostor(dir: &Path, answer: &'static [u8]) {
    use std::io::{Read, Write};
    let etc = dir.join("etc/supervisor");
    std::fs::create_dir_all(&etc).unwrap();
    let socket = dir.canonicalize().unwrap().join("s.sock");
    let text = format!("[unix_http_server]\nfile={}\n", socket.display());
    std::fs::write(etc.join("supervisord.conf"), text).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
            // Writes until the client, which must enforce its own limit, closes the connection.
            while answer.ends_with(b"\r\n\r\n") && stream.write_all(&[b' '; 65536]).is_ok() {}
        }
    });
}

#[test]
fn invalid_responses_are_refused() {
    for (answer, word) in [
        (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], "s.sock"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "XML-RPC"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n ", "404"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 93\r\n\r\n<?xml version='1.0'?><methodResponse><params><param><value><int>1</int></value></param></params></methodResponse>",
            "",
        ),
        // It never ends.
        (b"HTTP/1.1 200 OK\r\n\r\n", "s.sock"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        start_impostor(dir.path(), answer);
        let error = services_at(dir.path()).status("app").unwrap_err();
        assert!(matches!(error, ServiceError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}
