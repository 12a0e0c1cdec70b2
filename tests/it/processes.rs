//! Processes that a sandbox started, and waiting for a condition.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longest time to wait for a condition on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// Waits until `ready` returns true. Returns false after [`TIMEOUT`].
pub fn wait_until(mut ready: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while !ready() {
        if started.elapsed() > TIMEOUT {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// The processes whose environment marks them as services of the sandbox `root`.
pub fn of_sandbox(root: &Path) -> Vec<Pid> {
    let mark = format!("TRUEUP_SERVICE={}|", root.display());
    let belongs = |pid: i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|entry| entry.starts_with(mark.as_bytes()))
    };
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| belongs(*pid))
        .map(Pid::from_raw)
        .collect()
}

/// Ends every service of the sandbox `root`, and nothing else.
pub fn end_all(root: &Path) {
    wait_until(|| {
        let left = of_sandbox(root);
        for pid in &left {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        left.is_empty()
    });
}
