//! Detects whether output goes to systemd's journal.

use nix::sys::stat::stat;

/// Whether standard output goes to the journal.
pub(crate) fn stdout_is_journal() -> bool {
    is_journal("/proc/self/fd/1")
}

/// Whether standard error goes to the journal.
pub(crate) fn stderr_is_journal() -> bool {
    is_journal("/proc/self/fd/2")
}

/// Whether standard error is discarded although this process belongs to a service: keepalived does that with its scripts,
/// unless it runs with `--dont-fork`.
pub(crate) fn service_discards_stderr() -> bool {
    let null = stat("/dev/null").map(|stat| stat.st_rdev);
    let stderr = stat("/proc/self/fd/2").map(|stat| stat.st_rdev);
    null.is_ok() && null == stderr && own_unit().is_some()
}

/// The unit of systemd that this process runs in. For the messages to the journal: it looks up the unit of a sender only when it
/// reads the message, and finds none if the process has ended by then, as after a pass that takes 50 ms.
pub(crate) fn own_unit() -> Option<String> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    unit_in(&groups).map(str::to_owned)
}

/// The innermost service in the list of control groups, `ID:CONTROLLERS:PATH` each.
fn unit_in(groups: &str) -> Option<&str> {
    let mut paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.find_map(|path| path.rsplit('/').find(|name| name.ends_with(".service")))
}

/// Compares the stream with the one that systemd names in the environment. The variable alone proves nothing:
/// processes with another output inherit it, a shell in a desktop's terminal for example.
fn is_journal(stream: &str) -> bool {
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let stat = stat(stream).ok();
    stat.is_some_and(|stat| is_named_stream(&named, stat.st_dev, stat.st_ino))
}

fn is_named_stream(named: &str, device: u64, inode: u64) -> bool {
    named
        .split_once(':')
        .is_some_and(|(first, second)| first.parse() == Ok(device) && second.parse() == Ok(inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_is_the_innermost_service_of_the_control_group() {
        let unified = "0::/system.slice/trueup.service\n";
        assert_eq!(unit_in(unified), Some("trueup.service"));
        let nested = "0::/user.slice/user@0.service/app.slice/x.service/sub\n";
        assert_eq!(unit_in(nested), Some("x.service"));
        assert_eq!(unit_in("0::/user.slice/session-1.scope\n"), None);
        assert_eq!(unit_in(""), None);
    }

    #[test]
    fn only_the_stream_named_by_systemd_is_the_journal() {
        assert!(is_named_stream("8:4711", 8, 4711));
        for other in ["8:4712", "9:4711", "", "8", "8:x", "4711:8"] {
            assert!(!is_named_stream(other, 8, 4711), "{other}");
        }
        assert!(!stderr_is_journal());
    }
}
