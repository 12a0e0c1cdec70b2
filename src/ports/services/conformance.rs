//! Conformance tests that run against every supervisor.
//!
//! The systemd tests need root and a host that runs systemd; elsewhere they print that they were skipped.
//! `TRUEUP_TEST_SYSTEMD=1` makes a missing systemd a failure, and `TRUEUP_TEST_SUPERVISOR=1` a missing
//! supervisord.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::supervisor::tests::Supervisord;
use super::{
    ActiveState, EnabledState, LogRange, LogRead, ServiceError, ServiceStatus, Services,
    SupervisorServices, SystemdServices,
};
use crate::ports::accounts::Accounts;
use crate::ports::exec::Exec;
use crate::ports::root::Root;
use crate::ports::services::ProcessServices;

/// A supervisor to test, and the folder of its definitions.
pub(super) struct Fixture {
    pub(super) services: Box<dyn Services>,
    definitions_dir: PathBuf,
    dir: tempfile::TempDir,
    definition_files: Vec<String>,
    /// If set, definitions are sections of supervisord's configuration, not unit files.
    pub(super) supervisord: Option<Supervisord>,
}

impl Fixture {
    fn process() -> Option<Fixture> {
        let dir = tempfile::tempdir().unwrap();
        let units = dir.path().join("etc/systemd/system");
        std::fs::create_dir_all(&units).unwrap();
        let root = Rc::new(Root::at(dir.path()).unwrap());
        let services = ProcessServices::new(root, Rc::new(Exec), Rc::new(Accounts::default()));
        Some(Fixture {
            services: Box::new(services),
            definitions_dir: units,
            dir,
            definition_files: Vec::new(),
            supervisord: None,
        })
    }

    pub(super) fn supervisor() -> Option<Fixture> {
        let dir = tempfile::tempdir().unwrap();
        let supervisord = match Supervisord::start(dir.path(), "") {
            Ok(supervisord) => supervisord,
            Err(why) => {
                let forced = std::env::var_os("TRUEUP_TEST_SUPERVISOR").is_some();
                assert!(!forced, "TRUEUP_TEST_SUPERVISOR is set, but: {why}");
                let _ = writeln!(
                    std::io::stderr(),
                    "SKIPPED: a test of the supervisor services needs supervisord ({why})"
                );
                return None;
            }
        };
        let root = Rc::new(Root::at(dir.path()).unwrap());
        Some(Fixture {
            services: Box::new(SupervisorServices::new(root)),
            definitions_dir: dir.path().join("etc/supervisor/conf.d"),
            dir,
            definition_files: Vec::new(),
            supervisord: Some(supervisord),
        })
    }

    pub(super) fn systemd() -> Option<Fixture> {
        let services = SystemdServices::new(Rc::new(Exec));
        let forced = std::env::var_os("TRUEUP_TEST_SYSTEMD").is_some();
        let why = match services.status("dbus") {
            _ if !nix::unistd::geteuid().is_root() => "not root".to_owned(),
            _ if !Path::new("/run/systemd/system").is_dir() => "not booted with systemd".to_owned(),
            Err(error) => error.to_string(),
            Ok(_) => {
                return Some(Fixture {
                    services: Box::new(services),
                    definitions_dir: "/run/systemd/system".into(),
                    dir: tempfile::tempdir().unwrap(),
                    definition_files: Vec::new(),
                    supervisord: None,
                });
            }
        };
        assert!(!forced, "TRUEUP_TEST_SYSTEMD is set, but: {why}");
        // Directly to the stream: the test harness hides the output of tests that pass.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: a test of the systemd services needs a host with systemd ({why})"
        );
        None
    }

    fn unique_name() -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        format!("trueup-suite-{}-{count}", std::process::id())
    }

    /// Defines a service that runs `line`, under a unique name.
    fn define_service(&mut self, line: &str) -> String {
        let name = Fixture::unique_name();
        self.redefine(&name, line);
        name
    }

    fn redefine(&mut self, name: &str, line: &str) {
        if self.supervisord.is_some() {
            let body = format!(
                "[program:{name}]\ncommand={line}\nautostart=false\nautorestart=false\nstartretries=0\n"
            );
            self.write_definition(&format!("{name}.conf"), &body);
        } else {
            let body = format!("[Service]\nExecStart={line}\n");
            self.write_definition(&format!("{name}.service"), &body);
        }
    }

    /// Writes a unit file under a unique name and returns that name.
    pub(super) fn define(&mut self, suffix: &str, body: &str) -> String {
        let name = Fixture::unique_name();
        self.write_definition(&format!("{name}.{suffix}"), body);
        if suffix == "service" {
            name
        } else {
            format!("{name}.{suffix}")
        }
    }

    pub(super) fn write_definition(&mut self, file: &str, body: &str) {
        std::fs::write(self.definitions_dir.join(file), body).unwrap();
        if !self.definition_files.iter().any(|defined| defined == file) {
            self.definition_files.push(file.to_owned());
        }
    }

    /// A service that runs until it is stopped and counts its reloads.
    fn define_reloadable_service(&mut self) -> String {
        let count = self.path("reloads");
        let line = format!(
            "/bin/sh -c 'trap \"echo told >>{}\" HUP; while :; do sleep 0.02; done'",
            count.display()
        );
        if self.supervisord.is_some() {
            return self.define_service(&line);
        }
        let body = format!(
            "[Service]\nExecStart={line}\nExecReload=/bin/kill -HUP $MAINPID\n\
             [Install]\nWantedBy=multi-user.target\n"
        );
        self.define("service", &body)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file now and returns its modification time.
    fn touch(&self) -> Timestamp {
        let path = self.path("written");
        std::fs::write(&path, "x").unwrap();
        let root = Root::real().unwrap();
        let path = path.canonicalize().unwrap();
        root.meta(&path).unwrap().unwrap().ctime
    }

    /// Waits until a reload no longer kills the service: it has set its trap.
    fn wait_for_hup_handler(&self, name: &str) {
        let pid = self.services.status(name).unwrap().main_pid.unwrap();
        let caught = || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            u64::from_str_radix(mask.unwrap().trim(), 16).unwrap()
        };
        wait_for("it hears reloads", || caught() & 1 != 0);
    }

    /// Supervisord forwards a signal and does not record it.
    fn records_reload_time(&self) -> bool {
        self.supervisord.is_none()
    }

    /// Reloads and returns the time of it. Repeats if needed: systemd forgets the time of a reload whenever
    /// it reloads its definitions, which other tests make it do at the same time.
    fn reload(&self, name: &str) -> (Timestamp, ServiceStatus) {
        for _ in 0..20 {
            self.services.reload(name).unwrap();
            let status = self.services.status(name).unwrap();
            if let Some(at) = status.reloaded_at {
                return (at, status);
            }
        }
        panic!("no reload of {name} was ever noted");
    }

    /// What its logs contain in the last lines, one log after the other.
    pub(super) fn read_logs(&self, name: &str, lines: u32) -> String {
        let follow = false;
        let range = LogRange { lines, follow };
        let mut text = Vec::new();
        for mut log in self.services.open_logs(name, range).unwrap() {
            loop {
                match log.reader.read().unwrap() {
                    LogRead::Bytes(bytes) => text.extend(bytes),
                    LogRead::Pending => std::thread::sleep(Duration::from_millis(5)),
                    LogRead::End => break,
                }
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    fn run_id(&self, name: &str) -> String {
        let status = self.services.status(name).unwrap();
        assert_eq!(status.active, ActiveState::Running, "{status:?}");
        status.run_id.unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        for file in self
            .definition_files
            .iter()
            .filter(|_| self.supervisord.is_none())
        {
            let _ = self.services.stop(file);
            let _ = self.services.disable(file);
            let _ = std::fs::remove_file(self.definitions_dir.join(file));
        }
        if self.definitions_dir.starts_with("/run") && !self.definition_files.is_empty() {
            // Only its own: other tests wait for their units to fail.
            let own = self.definition_files.iter().map(String::as_str);
            let reset: Vec<&str> = std::iter::once("reset-failed").chain(own).collect();
            for verb in [&["daemon-reload"][..], &reset] {
                let _ = std::process::Command::new("systemctl").args(verb).status();
            }
        }
    }
}

pub(super) fn wait_for(condition: &str, mut ready: impl FnMut() -> bool) {
    let started = Instant::now();
    while !ready() {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "never: {condition}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn unknown_service_is_reported_and_every_action_fails(bench: &mut Fixture) {
    let services = &bench.services;
    let status = services.status("trueup-no-such").unwrap();
    assert!(!status.known && status.active == ActiveState::Stopped);
    for verb in [
        services.start("trueup-no-such"),
        services.stop("trueup-no-such"),
        services.restart("trueup-no-such"),
        services.reload("trueup-no-such"),
        services.enable("trueup-no-such"),
    ] {
        let error = verb.unwrap_err();
        assert!(matches!(error, ServiceError::Unknown { .. }), "{error}");
        assert!(error.to_string().contains("trueup-no-such"), "{error}");
    }
    assert!(services.status("../etc/passwd").is_err());
}

fn service_starts_once_and_stops_completely(bench: &mut Fixture) {
    let name = bench.define_reloadable_service();
    let services = &bench.services;
    let before = services.status(&name).unwrap();
    assert!(before.known && before.can_reload, "{before:?}");
    assert_eq!((before.active, before.run_id), (ActiveState::Stopped, None));
    services.start(&name).unwrap();
    let first = services.status(&name).unwrap();
    assert_eq!(first.active, ActiveState::Running);
    let pid = first.main_pid.unwrap();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    let ids = services.process_ids(&name).unwrap();
    assert!(ids.contains(&pid), "{pid} is not in {ids:?}");
    services.start(&name).unwrap();
    let again = services.status(&name).unwrap();
    assert_eq!((again.main_pid, &again.run_id), (Some(pid), &first.run_id));
    services.stop(&name).unwrap();
    let stopped = services.status(&name).unwrap();
    assert_eq!(
        (stopped.active, stopped.main_pid),
        (ActiveState::Stopped, None)
    );
    assert_eq!((stopped.run_id, stopped.started_at), (None, None));
    wait_for("the process is gone", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
    services.stop(&name).unwrap();
    assert_eq!(services.process_ids(&name).unwrap(), [0_u32; 0]);
}

fn restart_changes_the_run_id_and_reload_keeps_it(bench: &mut Fixture) {
    let name = bench.define_reloadable_service();
    let services = &bench.services;
    // Starts the service, which was stopped.
    services.restart(&name).unwrap();
    let first = bench.run_id(&name);
    assert_eq!(services.status(&name).unwrap().reloaded_at, None);
    let before = services.status(&name).unwrap();
    bench.wait_for_hup_handler(&name);
    if bench.records_reload_time() {
        let (at, reloaded) = bench.reload(&name);
        assert!(Some(at) > reloaded.started_at, "{reloaded:?}");
    } else {
        services.reload(&name).unwrap();
    }
    let log = bench.path("reloads");
    wait_for("the reload arrives", || log.exists());
    assert_eq!(bench.run_id(&name), first);
    services.restart(&name).unwrap();
    assert_ne!(bench.run_id(&name), first);
    let restarted = services.status(&name).unwrap();
    assert_ne!(restarted.main_pid, before.main_pid);
    assert_eq!(restarted.reloaded_at, None, "of the run before");
}

fn start_time_lies_between_files_written_before_and_after(bench: &mut Fixture) {
    let name = bench.define_reloadable_service();
    for _ in 0..3 {
        let before = bench.touch();
        bench.services.restart(&name).unwrap();
        let after = bench.touch();
        let started = bench.services.status(&name).unwrap().started_at.unwrap();
        assert!(
            before < started && started < after,
            "{before} {started} {after}"
        );
        bench.wait_for_hup_handler(&name);
        if bench.records_reload_time() {
            let (reloaded, _) = bench.reload(&name);
            assert!(reloaded > after && reloaded <= Timestamp::now());
        }
    }
}

fn stopped_service_cannot_be_reloaded(bench: &mut Fixture) {
    let name = bench.define_reloadable_service();
    let error = bench.services.reload(&name).unwrap_err().to_string();
    assert!(error.contains("not running"), "{error}");
}

fn reload_without_exec_reload_fails(bench: &mut Fixture) {
    let mute = bench.define_service("/bin/sleep 60");
    bench.services.start(&mute).unwrap();
    assert!(!bench.services.status(&mute).unwrap().can_reload);
    let error = bench.services.reload(&mute).unwrap_err().to_string();
    assert!(error.contains("ExecReload"), "{error}");
}

fn enable_persists_until_disable(bench: &mut Fixture) {
    let name = bench.define_reloadable_service();
    let plain = bench.define("service", "[Service]\nExecStart=/bin/sleep 60\n");
    let services = &bench.services;
    let enabled = |name: &str| services.status(name).unwrap().enabled;
    assert_eq!(enabled(&name), EnabledState::No);
    services.enable(&name).unwrap();
    services.enable(&name).unwrap();
    assert_eq!(enabled(&name), EnabledState::Yes);
    services.start(&name).unwrap();
    assert_eq!(enabled(&name), EnabledState::Yes);
    services.disable(&name).unwrap();
    assert_eq!(enabled(&name), EnabledState::No);
    assert_eq!(services.status(&name).unwrap().active, ActiveState::Running);
    assert_eq!(enabled(&plain), EnabledState::Static);
    let error = services.enable(&plain).unwrap_err().to_string();
    assert!(error.contains("[Install]"), "{error}");
}

fn failed_start_carries_the_log_tail(bench: &mut Fixture) {
    let name = bench.define_service("/bin/sh -c 'echo no config here >&2; exit 3'");
    for verb in [bench.services.start(&name), bench.services.restart(&name)] {
        let ServiceError::Failed {
            log, name: failed, ..
        } = verb.unwrap_err()
        else {
            panic!("another error");
        };
        assert_eq!(failed, name);
        assert!(log.iter().any(|line| line == "no config here"), "{log:?}");
    }
    wait_for("nobody tries it again", || {
        bench.services.status(&name).unwrap().active == ActiveState::Failed
    });
    let words = bench.services.log_tail(&name);
    assert!(
        words.iter().any(|line| line == "no config here"),
        "{words:?}"
    );
    let log = bench.read_logs(&name, 100);
    assert!(log.contains("no config here\n"), "{log}");
    assert!(!bench.read_logs(&name, 0).contains("no config here"));
    assert_eq!(bench.services.log_tail("nobody-knows-this"), [""; 0]);
    let missing = bench.define_service("/no/such/program");
    let error = bench.services.start(&missing).unwrap_err();
    assert!(matches!(error, ServiceError::Failed { .. }), "{error}");
}

fn killed_service_is_reported_failed(bench: &mut Fixture) {
    let name = bench.define_reloadable_service();
    bench.services.start(&name).unwrap();
    let pid = bench.services.status(&name).unwrap().main_pid.unwrap();
    let pid = nix::unistd::Pid::from_raw(pid as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    wait_for("the death is noticed", || {
        bench.services.status(&name).unwrap().active == ActiveState::Failed
    });
    assert_eq!(bench.services.status(&name).unwrap().run_id, None);
    bench.services.start(&name).unwrap();
    bench.run_id(&name);
}

fn restart_uses_the_changed_definition(bench: &mut Fixture) {
    let name = bench.define_reloadable_service();
    bench.services.start(&name).unwrap();
    let mark = bench.path("second");
    // systemd compares modification times in whole seconds on some file systems.
    std::thread::sleep(Duration::from_millis(1100));
    let line = format!("/bin/sh -c 'echo > {}; exec sleep 60'", mark.display());
    bench.redefine(&name, &line);
    assert!(bench.services.status(&name).unwrap().run_id.is_some());
    bench.services.restart(&name).unwrap();
    wait_for("the second definition runs", || mark.exists());
    assert!(!bench.services.status(&name).unwrap().stale_definition);
}

fn masked_service_cannot_be_started(bench: &mut Fixture) {
    let name = bench.define_reloadable_service();
    let path = bench.definitions_dir.join(format!("{name}.service"));
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    let status = bench.services.status(&name).unwrap();
    assert!(
        status.known && status.enabled == EnabledState::Masked,
        "{status:?}"
    );
    for verb in [
        bench.services.start(&name),
        bench.services.restart(&name),
        bench.services.enable(&name),
    ] {
        let error = verb.unwrap_err();
        assert!(matches!(error, ServiceError::Failed { .. }), "{error}");
        assert!(error.to_string().contains("masked"), "{error}");
    }
    assert_eq!(
        bench.services.status(&name).unwrap().active,
        ActiveState::Stopped
    );
}

fn a_socket_is_passed_to_the_service_of_its_name(bench: &mut Fixture) {
    let path = bench.path("listen.sock");
    let output = bench.path("output");
    let body = format!("[Socket]\nListenStream={}\n", path.display());
    let socket = bench.define("socket", &body);
    let name = socket.trim_end_matches(".socket").to_owned();
    let line = format!(
        "/bin/sh -c 'echo $LISTEN_FDS $LISTEN_PID $$$$ >{}; exec sleep 60'",
        output.display()
    );
    bench.write_definition(
        &format!("{name}.service"),
        &format!("[Service]\nExecStart={line}\n"),
    );
    bench.services.start(&socket).unwrap();
    let first = bench.run_id(&socket);
    assert_eq!(bench.services.status(&socket).unwrap().main_pid, None);
    bench.services.start(&name).unwrap();
    wait_for("the service prints", || {
        std::fs::read_to_string(&output).is_ok_and(|text| text.ends_with('\n'))
    });
    let text = std::fs::read_to_string(&output).unwrap();
    let pid = bench.services.status(&name).unwrap().main_pid.unwrap();
    assert_eq!(text.trim(), format!("1 {pid} {pid}"));
    std::os::unix::net::UnixStream::connect(&path).unwrap();
    bench.services.stop(&name).unwrap();
    assert_eq!(bench.run_id(&socket), first);
    bench.services.stop(&socket).unwrap();
    assert_eq!(
        bench.services.status(&socket).unwrap().active,
        ActiveState::Stopped
    );
}

macro_rules! suite {
    ($backend:ident: $($promise:ident)*) => {
        mod $backend {
            $(#[test]
            fn $promise() {
                if let Some(mut bench) = super::Fixture::$backend() {
                    super::$promise(&mut bench);
                }
            })*
        }
    };
    (of_all { $($promise:ident)* } of_units { $($units:ident)* }) => {
        suite! { process: $($promise)* $($units)* }
        suite! { systemd: $($promise)* $($units)* }
        suite! { supervisor: $($promise)* }
    };
}

suite! {
    of_all {
        unknown_service_is_reported_and_every_action_fails
        service_starts_once_and_stops_completely
        restart_changes_the_run_id_and_reload_keeps_it
        start_time_lies_between_files_written_before_and_after
        stopped_service_cannot_be_reloaded
        failed_start_carries_the_log_tail
        killed_service_is_reported_failed
        restart_uses_the_changed_definition
    }
    of_units {
        reload_without_exec_reload_fails
        enable_persists_until_disable
        masked_service_cannot_be_started
        a_socket_is_passed_to_the_service_of_its_name
    }
}
