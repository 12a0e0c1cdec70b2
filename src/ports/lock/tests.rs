use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::Instant;

use super::*;

const NOBODY: u32 = 65534;

fn current_holder(doing: Option<&str>) -> Holder {
    let now = "2026-11-21T04:43:01Z".parse().unwrap();
    let me = Holder::current("ana".into(), "trueup converge".into(), now);
    doing.map_or(me.clone(), |doing| me.with_activity(doing.to_owned()))
}

/// A host that every user may read, like a real one.
fn sandbox() -> (tempfile::TempDir, Rc<Root>) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let root = Rc::new(Root::at(dir.path()).unwrap());
    (dir, root)
}

fn acquire(root: &Rc<Root>) -> Lock {
    match try_lock(root, &current_holder(None)).unwrap() {
        LockAttempt::Acquired(lock) => lock,
        other => panic!("{other:?}"),
    }
}

/// Spawns a process that holds a lock on `path` until it is killed; `None`: it could not take the lock.
fn spawn_locking_process(path: &Path, user: u32) -> Option<Child> {
    let mut command = Command::new("flock");
    command.arg("--nonblock").arg(path);
    command.args(["sh", "-c", "echo locked; exec sleep 600"]);
    command.stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::null());
    if user != nix::unistd::geteuid().as_raw() {
        command.uid(user).gid(user);
    }
    let mut child = command.process_group(0).spawn().unwrap();
    let mut word = [0; 6];
    let stdout = child.stdout.as_mut().unwrap();
    match std::io::Read::read_exact(stdout, &mut word) {
        Ok(()) => Some(child),
        Err(_) => {
            child.wait().unwrap();
            None
        }
    }
}

fn kill_group(mut child: Child) {
    let group = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
    child.wait().unwrap();
}

/// Creates a lock file as older versions did.
fn legacy_lock(root: &Root) -> PathBuf {
    root.create_dir_all(Path::new(RUN_DIR), &Attrs::mode(0o755))
        .unwrap();
    let path = root.machine_path(&legacy_lock_path());
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o644);
    options.open(&path).unwrap();
    path
}

#[test]
fn lock_is_exclusive_and_released_with_its_holder() {
    let (_dir, root) = sandbox();
    assert_eq!(read_holder(&root), None);
    let first = acquire(&root);
    match try_lock(&root, &current_holder(Some("something else"))).unwrap() {
        LockAttempt::Busy(words) => assert_eq!(words, current_holder(None).describe()),
        other => panic!("{other:?}"),
    }
    assert_eq!(read_holder(&root), Some(current_holder(None)));
    drop(first);
    assert_eq!(read_holder(&root), None);
    acquire(&root);
}

#[test]
fn activity_of_the_holder_is_readable_at_any_length() {
    let (_dir, root) = sandbox();
    let lock = acquire(&root);
    lock.update_holder(&current_holder(Some(&"ü\"".repeat(500))));
    let doing = read_holder(&root).unwrap().doing.unwrap();
    assert!(doing.len() > 50 && "ü\"".repeat(500).starts_with(&doing));
    lock.update_holder(&current_holder(Some("short")));
    assert_eq!(read_holder(&root), Some(current_holder(Some("short"))));
}

#[test]
fn nobody_else_can_lock_what_a_pass_or_doctor_locks() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can try it as another user");
        return;
    }
    let (dir, root) = sandbox();
    legacy_lock(&root);
    drop(acquire(&root));
    let run = root.machine_path(Path::new(RUN_DIR));
    let mut paths = vec![
        run.clone(),
        run.join(PRIVATE_DIR),
        run.join(PRIVATE_DIR).join("lock"),
    ];
    paths.extend(
        fs::read_dir(&run)
            .unwrap()
            .map(|entry| entry.unwrap().path()),
    );
    let thieves: Vec<Child> = paths
        .iter()
        .filter_map(|path| spawn_locking_process(path, NOBODY))
        .collect();
    assert!(
        !thieves.is_empty(),
        "nothing in {} can be read",
        dir.path().display()
    );
    let lock = try_lock(&root, &current_holder(None)).unwrap();
    let is_alone = try_lock_doctor(&root).is_some();
    thieves.into_iter().for_each(kill_group);
    assert!(matches!(lock, LockAttempt::Acquired(_)), "{lock:?}");
    assert!(is_alone, "`trueup doctor` is kept out");
}

#[test]
fn foreign_lock_on_the_legacy_path_blocks_no_pass() {
    let (_dir, root) = sandbox();
    let path = legacy_lock(&root);
    let foreign = spawn_locking_process(&path, nix::unistd::geteuid().as_raw()).unwrap();
    let lock = try_lock(&root, &current_holder(None)).unwrap();
    assert!(matches!(lock, LockAttempt::Acquired(_)), "{lock:?}");
    // The new file keeps out a pass of that version.
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
    assert!(spawn_locking_process(&path, nix::unistd::geteuid().as_raw()).is_none());
    kill_group(foreign);
    drop(lock);
    acquire(&root);
}

#[test]
fn running_pass_of_an_older_version_holds_the_lock() {
    let (dir, root) = sandbox();
    let path = legacy_lock(&root);
    // Its program makes it a pass.
    let program = dir.path().join("trueup");
    fs::copy("/bin/sleep", &program).unwrap();
    let file = fs::File::open(&path).unwrap();
    let held = Flock::lock(file, FlockArg::LockExclusive).unwrap();
    nix::fcntl::fcntl(
        &*held,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
    )
    .unwrap();
    let mut old = Command::new(&program).arg("600").spawn().unwrap();
    // From now on only the child holds the inherited lock.
    std::mem::forget(held);
    let fd = fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .find(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == path));
    let fd: i32 = fd.unwrap().file_name().to_str().unwrap().parse().unwrap();
    nix::unistd::close(fd).unwrap();
    let started = Instant::now();
    let busy = loop {
        match try_lock(&root, &current_holder(None)).unwrap() {
            // Between fork and exec it has the name of this process.
            LockAttempt::Busy(words) => break words,
            other if started.elapsed().as_secs() > 10 => panic!("{other:?}"),
            _ => {}
        }
    };
    assert!(
        busy.starts_with(&format!("process {} (`trueup`", old.id())),
        "{busy}"
    );
    old.kill().unwrap();
    old.wait().unwrap();
    acquire(&root);
}

#[test]
fn foreign_lock_names_the_process_that_holds_it() {
    let (_dir, root) = sandbox();
    drop(acquire(&root));
    let path = root.machine_path(&lock_path());
    let foreign = spawn_locking_process(&path, nix::unistd::geteuid().as_raw()).unwrap();
    let attempt = try_lock(&root, &current_holder(None)).unwrap();
    let LockAttempt::Foreign(Some(locker)) = &attempt else {
        panic!("{attempt:?}");
    };
    assert_eq!(
        (locker.pid, locker.program.as_str()),
        (foreign.id(), "flock")
    );
    // A process that ended has left the lock to its child.
    let group = foreign.id();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(group.cast_signed()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    let attempt = try_lock(&root, &current_holder(None)).unwrap();
    assert!(
        matches!(&attempt, LockAttempt::Foreign(Some(locker)) if locker.program == "sleep" && locker.pid != group),
        "{attempt:?}"
    );
    kill_group(foreign);
    acquire(&root);
}

#[test]
fn doctor_lock_is_exclusive_and_writes_nothing() {
    let (dir, root) = sandbox();
    assert!(try_lock_doctor(&root).is_some());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    create_private_dir(&root).unwrap();
    let first = try_lock_doctor(&root);
    assert!(first.is_some() && try_lock_doctor(&root).is_none());
    drop(first);
    assert!(try_lock_doctor(&root).is_some());
}

#[test]
fn lock_folder_open_to_others_is_closed() {
    let (_dir, root) = sandbox();
    root.create_dir_all(&private_dir(), &Attrs::mode(0o777))
        .unwrap();
    acquire(&root);
    assert_eq!(root.meta(&private_dir()).unwrap().unwrap().mode, 0o700);
    let lock = root.meta(&lock_path()).unwrap().unwrap();
    assert_eq!((lock.mode, lock.uid), (0o600, root.current_uid()));
}
