use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::Instant;

use super::*;

const NOBODY: u32 = 65534;

fn me(doing: Option<&str>) -> Holder {
    let now = "2026-11-21T04:43:01Z".parse().unwrap();
    let me = Holder::me("ana".into(), "trueup converge".into(), now);
    doing.map_or(me.clone(), |doing| me.at(doing.to_owned()))
}

/// A host that everybody may look into, like a real one.
fn host() -> (tempfile::TempDir, Rc<Root>) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let root = Rc::new(Root::at(dir.path()).unwrap());
    (dir, root)
}

fn taken(root: &Rc<Root>) -> Lock {
    match try_lock(root, &me(None)).unwrap() {
        Attempt::Taken(lock) => lock,
        other => panic!("{other:?}"),
    }
}

/// A process that has `path` locked until it is killed; `None`: it could not.
fn locks(path: &Path, user: u32) -> Option<Child> {
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
    let said = child.stdout.as_mut().unwrap();
    match std::io::Read::read_exact(said, &mut word) {
        Ok(()) => Some(child),
        Err(_) => {
            child.wait().unwrap();
            None
        }
    }
}

fn end(mut child: Child) {
    let group = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
    child.wait().unwrap();
}

/// A lock of the kind that passes had before.
fn former_lock(root: &Root) -> PathBuf {
    root.make_dirs(Path::new(RUN), &Attrs::mode(0o755)).unwrap();
    let path = root.outside(&former_path());
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o644);
    options.open(&path).unwrap();
    path
}

#[test]
fn lock_is_exclusive_and_released_with_its_holder() {
    let (_dir, root) = host();
    assert_eq!(holder(&root), None);
    let first = taken(&root);
    match try_lock(&root, &me(Some("something else"))).unwrap() {
        Attempt::Busy(words) => assert_eq!(words, me(None).words()),
        other => panic!("{other:?}"),
    }
    assert_eq!(holder(&root), Some(me(None)));
    drop(first);
    assert_eq!(holder(&root), None);
    taken(&root);
}

#[test]
fn activity_of_the_holder_is_readable_at_any_length() {
    let (_dir, root) = host();
    let lock = taken(&root);
    lock.tell(&me(Some(&"ü\"".repeat(500))));
    let doing = holder(&root).unwrap().doing.unwrap();
    assert!(doing.len() > 50 && "ü\"".repeat(500).starts_with(&doing));
    lock.tell(&me(Some("short")));
    assert_eq!(holder(&root), Some(me(Some("short"))));
}

#[test]
fn nobody_else_can_lock_what_a_pass_or_doctor_locks() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can try it as somebody else");
        return;
    }
    let (dir, root) = host();
    former_lock(&root);
    drop(taken(&root));
    let run = root.outside(Path::new(RUN));
    let mut places = vec![
        run.clone(),
        run.join(PRIVATE),
        run.join(PRIVATE).join("lock"),
    ];
    places.extend(
        fs::read_dir(&run)
            .unwrap()
            .map(|entry| entry.unwrap().path()),
    );
    let thieves: Vec<Child> = places
        .iter()
        .filter_map(|place| locks(place, NOBODY))
        .collect();
    assert!(
        !thieves.is_empty(),
        "nothing in {} can be read",
        dir.path().display()
    );
    let lock = try_lock(&root, &me(None)).unwrap();
    let is_alone = alone(&root).is_some();
    thieves.into_iter().for_each(end);
    assert!(matches!(lock, Attempt::Taken(_)), "{lock:?}");
    assert!(is_alone, "`trueup doctor` is kept out");
}

#[test]
fn foreign_lock_on_the_legacy_path_blocks_no_pass() {
    let (_dir, root) = host();
    let path = former_lock(&root);
    let foreign = locks(&path, nix::unistd::geteuid().as_raw()).unwrap();
    let lock = try_lock(&root, &me(None)).unwrap();
    assert!(matches!(lock, Attempt::Taken(_)), "{lock:?}");
    // Which keeps out a pass of that version.
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
    assert!(locks(&path, nix::unistd::geteuid().as_raw()).is_none());
    end(foreign);
    drop(lock);
    taken(&root);
}

#[test]
fn running_pass_of_an_older_version_holds_the_lock() {
    let (dir, root) = host();
    let path = former_lock(&root);
    // What makes it one is its program.
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
    // It has it from us, and alone from now on.
    std::mem::forget(held);
    let fd = fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .find(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == path));
    let fd: i32 = fd.unwrap().file_name().to_str().unwrap().parse().unwrap();
    nix::unistd::close(fd).unwrap();
    let begun = Instant::now();
    let busy = loop {
        match try_lock(&root, &me(None)).unwrap() {
            // Between its fork and its program it is called like us.
            Attempt::Busy(words) => break words,
            other if begun.elapsed().as_secs() > 10 => panic!("{other:?}"),
            _ => {}
        }
    };
    assert!(
        busy.starts_with(&format!("process {} (`trueup`", old.id())),
        "{busy}"
    );
    old.kill().unwrap();
    old.wait().unwrap();
    taken(&root);
}

#[test]
fn foreign_lock_names_the_process_that_holds_it() {
    let (_dir, root) = host();
    drop(taken(&root));
    let place = root.outside(&path());
    let foreign = locks(&place, nix::unistd::geteuid().as_raw()).unwrap();
    let attempt = try_lock(&root, &me(None)).unwrap();
    let Attempt::Foreign(Some(locker)) = &attempt else {
        panic!("{attempt:?}");
    };
    assert_eq!(
        (locker.pid, locker.program.as_str()),
        (foreign.id(), "flock")
    );
    // One that ended has left it to its child.
    let group = foreign.id();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(group.cast_signed()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    let attempt = try_lock(&root, &me(None)).unwrap();
    assert!(
        matches!(&attempt, Attempt::Foreign(Some(locker)) if locker.program == "sleep" && locker.pid != group),
        "{attempt:?}"
    );
    end(foreign);
    taken(&root);
}

#[test]
fn doctor_lock_is_exclusive_and_writes_nothing() {
    let (dir, root) = host();
    assert!(alone(&root).is_some());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    make_private(&root).unwrap();
    let first = alone(&root);
    assert!(first.is_some() && alone(&root).is_none());
    drop(first);
    assert!(alone(&root).is_some());
}

#[test]
fn lock_folder_open_to_others_is_closed() {
    let (_dir, root) = host();
    root.make_dirs(&private(), &Attrs::mode(0o777)).unwrap();
    taken(&root);
    assert_eq!(root.meta(&private()).unwrap().unwrap().mode, 0o700);
    let lock = root.meta(&path()).unwrap().unwrap();
    assert_eq!((lock.mode, lock.uid), (0o600, root.user()));
}
