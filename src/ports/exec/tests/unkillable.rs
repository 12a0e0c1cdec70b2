//! Children that survive SIGKILL, because a filesystem does not respond.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::libc;

use super::*;
use crate::ports::testing::skip_test;

/// A filesystem that accepts every request and answers none, while this value lives.
struct HungFilesystem {
    folder: tempfile::TempDir,
    server: Option<JoinHandle<()>>,
}

impl HungFilesystem {
    /// `None`: such filesystems cannot be mounted here.
    fn mount() -> Option<HungFilesystem> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let Ok(device) = device else {
            skip_test("a filesystem that does not respond", "needs /dev/fuse");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
            device.as_raw_fd()
        );
        let [at, options] =
            [folder.path().to_str().unwrap(), &options].map(|text| CString::new(text).unwrap());
        // SAFETY: NUL-terminated strings that outlive the call.
        let mounted = unsafe {
            let (source, kind) = (c"mute".as_ptr(), c"fuse".as_ptr());
            libc::mount(source, at.as_ptr(), kind, 0, options.as_ptr().cast())
        };
        if mounted != 0 {
            let error = std::io::Error::last_os_error().to_string();
            skip_test("a filesystem that does not respond", &error);
            return None;
        }
        let server = std::thread::spawn(move || answer_only_init(device));
        Some(HungFilesystem {
            folder,
            server: Some(server),
        })
    }
}

/// Answers only the kernel's first request, which negotiates the protocol.
fn answer_only_init(mut device: File) {
    let mut question = vec![0; 1 << 17];
    let n = device.read(&mut question).unwrap();
    assert!(n >= 40, "the header of a question");
    let mut answer = vec![0; 16 + 64];
    let mut put = |at: usize, bytes: &[u8]| answer[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &80_u32.to_ne_bytes());
    put(8, &question[8..16]);
    // Version 7.31, and the largest write.
    put(16, &7_u32.to_ne_bytes());
    put(20, &31_u32.to_ne_bytes());
    put(36, &4096_u32.to_ne_bytes());
    device.write_all(&answer).unwrap();
    while device.read(&mut question).is_ok() {}
}

impl Drop for HungFilesystem {
    fn drop(&mut self) {
        let at = CString::new(self.folder.path().to_str().unwrap()).unwrap();
        // SAFETY: a NUL-terminated string that outlives the calls.
        unsafe {
            // Processes that wait for an answer get an error.
            libc::umount2(at.as_ptr(), libc::MNT_FORCE);
            libc::umount2(at.as_ptr(), libc::MNT_DETACH);
        }
        let _ = self.server.take().unwrap().join();
    }
}

const TEST_TIMEOUT: Duration = Duration::from_secs(60);

#[test]
fn child_on_a_hung_filesystem_ends_at_its_deadline() {
    let Some(mute) = HungFilesystem::mount() else {
        return;
    };
    let started = Instant::now();
    let mut command = sh("true").timeout(Duration::from_secs(1));
    command.cwd = Some(mute.folder.path().into());
    let error = Exec.run(command).unwrap_err().to_string();
    assert!(error.contains("did not start within 5 s"), "{error}");
    assert!(started.elapsed() < TEST_TIMEOUT);
}

#[test]
fn unkillable_child_does_not_block_the_pass() {
    let Some(mute) = HungFilesystem::mount() else {
        return;
    };
    let started = Instant::now();
    let line = format!("cd {}", mute.folder.path().display());
    let done = Exec.run(sh(&line).timeout(Duration::from_secs(1))).unwrap();
    assert!(
        matches!(done.exit_reason, ExitReason::TimedOut(_)),
        "{:?}",
        done.exit_reason
    );
    assert!(started.elapsed() < TEST_TIMEOUT);
}

#[test]
fn unkillable_piped_child_times_out() {
    let Some(mute) = HungFilesystem::mount() else {
        return;
    };
    let started = Instant::now();
    let line = format!("cd {}", mute.folder.path().display());
    let mut talk = Exec.spawn_piped(&sh(&line), deadline_in(500)).unwrap();
    let error = talk.read(&mut [0; 8]).unwrap_err();
    assert!(deadline_error(&error).is_some(), "{error}");
    drop(talk);
    assert!(started.elapsed() < TEST_TIMEOUT);
}

#[test]
fn traced_child_does_not_block_the_pass() {
    let dir = tempfile::tempdir().unwrap();
    let [tracer, traced] = ["tracer", "traced"].map(|name| dir.path().join(name));
    // PTRACE_SEIZE: only the tracer can reap a traced process that has ended.
    let python = "import ctypes, sys, time; ctypes.CDLL(None).ptrace(0x4206, int(sys.argv[1]), None, None); time.sleep(600)";
    let line = format!(
        "echo $$ >{}; setsid python3 -c '{python}' $$ & echo $! >{}; while grep -q 'TracerPid:.0$' /proc/$$/status; do sleep 0.1; done",
        traced.display(),
        tracer.display()
    );
    let started = Instant::now();
    let done = Exec
        .run(sh(&line).timeout(Duration::from_secs(10)))
        .unwrap();
    assert!(
        matches!(done.exit_reason, ExitReason::TimedOut(_)),
        "{:?}",
        done.exit_reason
    );
    assert!(started.elapsed() < TEST_TIMEOUT);
    let number = |file| {
        let text = std::fs::read_to_string(file).unwrap();
        text.trim().parse::<i32>().unwrap()
    };
    let (tracer, traced) = (number(&tracer), number(&traced));
    // SAFETY: the process that the line above started.
    unsafe { libc::kill(tracer, libc::SIGKILL) };
    // Once it can be reaped, the next child's run reaps it.
    while std::path::Path::new(&format!("/proc/{traced}")).exists() {
        assert!(started.elapsed() < TEST_TIMEOUT);
        assert!(Exec.run(sh("sleep 0.1")).unwrap().success());
    }
}

#[test]
fn tracer_of_an_exited_child_does_not_block_the_pass() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    // PTRACE_SEIZE, without ever waiting for the traced process.
    let tracer = r#"
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
traced = libc.ptrace(0x4206, int(sys.argv[1]), None, None)
open(sys.argv[2], "w").write(f"{os.getpid()} {traced}")
time.sleep(120)
"#;
    std::fs::write(path("tracer.py"), tracer).unwrap();
    // It must get no signal: a traced process stops at each.
    let traced = r#"
import os, sys, time
while not os.path.exists(sys.argv[1]) or not os.path.getsize(sys.argv[1]):
    time.sleep(0.05)
os._exit(3)
"#;
    std::fs::write(path("traced.py"), traced).unwrap();
    let command = sh(&format!(
        "setsid python3 {} $$ {ready} >/dev/null 2>&1 & exec python3 {} {ready}",
        path("tracer.py"),
        path("traced.py"),
        ready = path("ready"),
    ))
    .timeout(Duration::from_secs(100));
    let started = Instant::now();
    let done = Exec.run(command).unwrap();
    let ready = std::fs::read_to_string(path("ready")).unwrap();
    let (pid, traced) = ready.split_once(' ').unwrap();
    let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    if traced != "0" {
        return skip_test("a child that is traced", "nothing may be traced here");
    }
    assert_eq!(done.exit_reason, ExitReason::HeldByTracer);
    assert!(started.elapsed() < Duration::from_secs(90));
    assert!(done.exit_reason.to_string().contains("traces"));
}
