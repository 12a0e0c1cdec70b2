//! Processes that a sandbox started, and waiting for what others do.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long something that must happen may take on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `ready` says so, or gives up.
pub fn wait_until(mut ready: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !ready() {
        if begun.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// The processes whose environment says that they are a service of the sandbox `root`.
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
