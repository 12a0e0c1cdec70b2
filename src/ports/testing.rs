//! Test host on a temporary folder, for everything above the ports.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::Host;
use super::accounts::Accounts;
use super::clock::Clock;
use super::exec::{Exec, StopFlag};
use super::packages::Packages;
use super::permission::Permissions;
use super::root::{Attrs, FileKind, Root};
use super::services::fake::FakeServices;

/// A clock that advances only on request.
#[derive(Debug, Clone)]
pub(crate) struct FakeClock {
    now: Rc<Cell<Timestamp>>,
    began: (Timestamp, Instant),
}

impl Default for FakeClock {
    /// Early in the morning of 21 November 2026, UTC.
    fn default() -> FakeClock {
        let now: Timestamp = "2026-11-21T03:00:00Z".parse().unwrap();
        FakeClock {
            now: Rc::new(Cell::new(now)),
            began: (now, Instant::now()),
        }
    }
}

impl FakeClock {
    /// Advances by this many seconds.
    pub(crate) fn advance(&self, seconds: i64) {
        let next = self.now.get() + SignedDuration::from_secs(seconds);
        self.now.set(next);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        self.now.get()
    }

    fn monotonic_now(&self) -> Instant {
        let (then, tick) = self.began;
        let elapsed = self.now.get().duration_since(then);
        tick + Duration::try_from(elapsed).unwrap_or_default()
    }
}

/// A host whose `/` is a temporary folder, with helpers for tests to change it. Dropping this removes the
/// folder.
pub(crate) struct Sandbox {
    pub host: Host,
    pub services: FakeServices,
    pub supervisor: FakeServices,
    pub clock: FakeClock,
    dir: tempfile::TempDir,
}

impl Sandbox {
    /// An empty host.
    pub(crate) fn empty() -> Sandbox {
        let dir = tempfile::tempdir().unwrap();
        let clock = FakeClock::default();
        let services = FakeServices::new(Rc::new(clock.clone()));
        let supervisor = FakeServices::new(Rc::new(clock.clone()));
        let host = Host {
            root: Rc::new(Root::at(dir.path()).unwrap()),
            accounts: Rc::new(Accounts::default()),
            packages: Rc::new(Packages::default()),
            exec: Rc::new(Exec),
            services: Box::new(services.clone()),
            supervisor: Box::new(supervisor.clone()),
            clock: Rc::new(clock.clone()),
            permissions: Permissions::default(),
            stop: StopFlag::default(),
        };
        Sandbox {
            host,
            services,
            supervisor,
            clock,
            dir,
        }
    }

    /// A host with the folders and the two accounts that every host has.
    pub(crate) fn with_base_system() -> Sandbox {
        let sandbox = Sandbox::empty();
        for folder in ["/etc", "/home", "/srv", "/tmp", "/usr", "/var/lib"] {
            sandbox.make_dir(folder);
        }
        sandbox.write(
            "/etc/passwd",
            "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        );
        sandbox.write("/etc/group", "root:x:0:\nnogroup:x:65534:\n");
        sandbox.write("/etc/shadow", "root:*:20000:0:99999:7:::\n");
        sandbox.write("/etc/gshadow", "root:*::\n");
        sandbox
    }

    /// Whether the user who runs the tests may set owners and accounts.
    pub(crate) fn can_set_owners(&self) -> bool {
        self.host.root.is_privileged()
    }

    /// The path on the machine of a path of the host.
    pub(crate) fn machine_path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    /// Creates a folder with its parents.
    pub(crate) fn make_dir(&self, path: &str) {
        std::fs::create_dir_all(self.machine_path(path)).unwrap();
    }

    /// Writes a file and its parent folders; drops the caches of accounts and packages.
    pub(crate) fn write(&self, path: &str, body: impl AsRef<[u8]>) {
        if let Some(folder) = self.machine_path(path).parent() {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(self.machine_path(path), body).unwrap();
        self.invalidate_caches();
    }

    /// The bytes of a file, which must exist.
    pub(crate) fn bytes(&self, path: &str) -> Vec<u8> {
        machine_file(self.machine_path(path))
    }

    /// The text of a file, which must exist.
    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.machine_path(path))
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        std::fs::symlink_metadata(self.machine_path(path)).is_ok()
    }

    /// Permission bits of a path.
    pub(crate) fn mode(&self, path: &str) -> u32 {
        self.meta(path).mode
    }

    /// User and group id of a path.
    pub(crate) fn owner(&self, path: &str) -> (u32, u32) {
        let meta = self.meta(path);
        (meta.uid, meta.gid)
    }

    fn meta(&self, path: &str) -> super::root::Meta {
        let meta = self.host.root.meta(Path::new(path)).unwrap();
        meta.unwrap_or_else(|| panic!("there is no {path}"))
    }

    pub(crate) fn chmod(&self, path: &str, mode: u32) {
        let root = &self.host.root;
        root.set_attrs(Path::new(path), &Attrs::mode(mode)).unwrap();
    }

    /// Changes owner and group; of a link, those of the link itself. Root only.
    pub(crate) fn chown(&self, path: &str, uid: u32, gid: u32) {
        let at = self.host.root.machine_path(Path::new(path));
        std::os::unix::fs::lchown(at, Some(uid), Some(gid)).unwrap();
    }

    /// Creates a link, replacing what exists.
    pub(crate) fn link(&self, path: &str, to: &str) {
        self.remove(path);
        std::os::unix::fs::symlink(to, self.machine_path(path)).unwrap();
    }

    /// Removes a path, a folder with its whole content.
    pub(crate) fn remove(&self, path: &str) {
        match self.host.root.meta(Path::new(path)).unwrap() {
            Some(meta) if meta.kind == FileKind::Directory => {
                std::fs::remove_dir_all(self.machine_path(path)).unwrap();
            }
            Some(_) => std::fs::remove_file(self.machine_path(path)).unwrap(),
            None => {}
        }
        self.invalidate_caches();
    }

    /// Replaces `old` by `new` in a file, which must contain it.
    pub(crate) fn edit(&self, path: &str, old: &str, new: &str) {
        let text = self.read(path);
        assert!(text.contains(old), "no {old:?} in {path}:\n{text}");
        self.write(path, text.replace(old, new));
    }

    /// Drops the caches, as the next pass would.
    pub(crate) fn invalidate_caches(&self) {
        self.host.accounts.invalidate();
        self.host.packages.invalidate();
    }
}

/// Reads a file of the machine itself: shows that changes in a sandbox stayed there.
pub(crate) fn machine_file(path: impl AsRef<Path>) -> Vec<u8> {
    let path = path.as_ref();
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Prints that a test was skipped, and why; `return` after it. Fails in CI, where no test may be skipped.
pub(crate) fn skip_test(test: &str, why: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "in CI nothing may be skipped: {test}: {why}"
    );
    eprintln!("SKIPPED {test}: {why}");
}

/// Creates a chain of nested folders without using a path, which would be too long. Puts the file `leaf` at
/// the end.
pub(crate) fn create_deep_tree(top: &Path, depth: usize) {
    use nix::fcntl::{OFlag, open, openat};
    use nix::sys::stat::{Mode, mkdirat};
    std::fs::create_dir_all(top).unwrap();
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let mut current = open(top, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&current, "d", Mode::S_IRWXU).unwrap();
        current = openat(&current, "d", flags, Mode::empty()).unwrap();
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT;
    drop(openat(&current, "leaf", flags, Mode::S_IRWXU).unwrap());
}
