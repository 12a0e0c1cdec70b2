//! Real repositories, read in place and over http and ssh.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::query::{Divergence, FileChange};
use super::testing::{GitBench, http_server, run};
use super::*;
use crate::ports::testing::skip_test;

fn all_refs() -> Vec<String> {
    ["heads", "tags"]
        .map(|kind| format!("+refs/{kind}/*:refs/{kind}/*"))
        .into()
}

fn names(refs: &[GitRef]) -> Vec<&str> {
    refs.iter().map(|one| one.name.as_str()).collect()
}

#[test]
fn clone_on_this_machine_is_read_in_place() {
    let bench = GitBench::new();
    let first = bench.commit("a", "1", "First");
    bench.git(&["tag", "-a", "v1", "-m", "One"]);
    bench.git(&["tag", "-a", "v1-again", "-m", "Tag of a tag", "v1"]);
    bench.git(&["tag", "blob", &format!("{first}:a")]);
    let second = bench.commit("db/migrate/1.rb", "x", "Add \u{1b}[31m a \u{1f} migration");
    let git = bench.operator(&[]);
    let repository = git.open(&bench.repository()).unwrap();
    let refs = repository.refs().unwrap();
    let commits: Vec<_> = refs
        .iter()
        .map(|one| (one.name.as_str(), one.commit.as_deref()))
        .collect();
    assert_eq!(
        commits,
        [
            ("refs/heads/main", Some(second.as_str())),
            ("refs/tags/blob", None),
            ("refs/tags/v1", Some(&first)),
            ("refs/tags/v1-again", Some(&first)),
        ]
    );
    assert_eq!(repository.head().unwrap(), Some(second.clone()));
    let log = repository.log(&first, &second, 20).unwrap();
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].author, "Ana");
    assert!(log[0].subject.ends_with("migration"), "{log:?}");
    let (files, count) = repository
        .changed_files(&first, &second, &["**/db/migrate/**"], 10)
        .unwrap();
    let expected = FileChange {
        path: "db/migrate/1.rb".into(),
        status: 'A',
    };
    assert_eq!((files, count), (vec![expected], 1));
    assert_eq!(
        repository.divergence(&second, &first).unwrap(),
        Divergence {
            only_first: 1,
            only_second: 0
        }
    );
    assert!(repository.is_reachable(&first, [second.as_str()]).unwrap());
    assert!(!repository.is_reachable(&second, [first.as_str()]).unwrap());
    assert_eq!(
        repository.commits_with_prefix(&first[..9]).unwrap(),
        [first]
    );
    assert!(!repository.has_commit(&"0".repeat(40)).unwrap());
    let error = git.open(&bench.path("home")).unwrap_err();
    assert!(
        error.to_string().contains("is no git repository"),
        "{error}"
    );
}

#[test]
fn copy_over_http_follows_the_server_without_contents_of_files() {
    for dumb in [false, true] {
        let bench = GitBench::new();
        let first = bench.commit("a", "1", "First");
        bench.git(&["branch", "old"]);
        bench.git(&["update-server-info"]);
        let port = http_server(bench.path("srv"), dumb);
        let git = bench.operator(&[]);
        let cache = git.cache_folder().unwrap();
        let folder = if dumb { "shop.git/.git" } else { "shop.git" };
        let url = format!("http://127.0.0.1:{port}/{folder}");
        let repository = git.fetch(&cache, (&url, &url), &all_refs()).unwrap();
        assert!(repository.is_copy());
        assert_eq!(
            names(&repository.refs().unwrap()),
            ["refs/heads/main", "refs/heads/old"]
        );
        drop(repository);
        let second = bench.commit("db/migrate/1.rb", "the content", "Second");
        bench.git(&["branch", "-D", "old"]);
        bench.git(&["update-server-info"]);
        let repository = git.fetch(&cache, (&url, &url), &all_refs()).unwrap();
        assert_eq!(names(&repository.refs().unwrap()), ["refs/heads/main"]);
        let log = repository.log(&first, &second, 20).unwrap();
        assert_eq!(log[0].subject, "Second");
        let (files, _) = repository
            .changed_files(&first, &second, &["**/db/migrate/**"], 10)
            .unwrap();
        assert_eq!(files[0].path, "db/migrate/1.rb");
        let content = repository.read(
            ["cat-file", "-p", &format!("{second}:db/migrate/1.rb")],
            b"",
        );
        assert_eq!(content.is_ok(), dumb, "a dumb server knows no filter");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let folder = bench.path("home/.cache/trueup/repositories");
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&repository.folder), 0o700);
    }
}

struct Sshd(Child);

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn copy_over_ssh_uses_the_configuration_of_the_user() {
    const SSHD: &str = "/usr/sbin/sshd";
    if !Path::new(SSHD).exists() || !nix::unistd::geteuid().is_root() {
        return skip_test("publish over ssh", "needs sshd and root");
    }
    let bench = GitBench::new();
    bench.commit("a", "1", "First");
    std::fs::create_dir_all("/run/sshd").unwrap();
    for name in ["host", "key"] {
        let path = bench.path(name);
        run(Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(path));
    }
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let d = bench.dir.path().display();
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {d}/host\nAuthorizedKeysFile {d}/key.pub\nPermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nPidFile none\n"
    );
    std::fs::write(bench.path("sshd_config"), config).unwrap();
    let _server = Sshd(
        Command::new(SSHD)
            .args(["-D", "-e", "-f"])
            .arg(bench.path("sshd_config"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    let url = format!(
        "ssh://root@shop.example.invalid{}",
        bench.repository().display()
    );
    let ssh = format!("ssh -F {d}/ssh_config");
    let git = bench.operator(&[("GIT_SSH_COMMAND", &ssh)]);
    let cache = git.cache_folder().unwrap();
    let write_config = |key: &str| {
        let config = format!(
            "Host shop.example.invalid\n HostName 127.0.0.1\n Port {port}\n IdentityFile {d}/{key}\n IdentitiesOnly yes\n StrictHostKeyChecking yes\n UserKnownHostsFile {d}/known\n"
        );
        std::fs::write(bench.path("ssh_config"), config).unwrap();
    };
    write_config("key");
    let error = git
        .fetch(&cache, (&url, "the address"), &all_refs())
        .unwrap_err();
    assert!(error.hint().unwrap().contains("known_hosts"), "{error}");
    assert!(
        error.to_string().starts_with("cannot fetch the address"),
        "{error}"
    );
    let host_key = std::fs::read_to_string(bench.path("host.pub")).unwrap();
    std::fs::write(
        bench.path("known"),
        format!("[127.0.0.1]:{port} {host_key}"),
    )
    .unwrap();
    write_config("host");
    let error = git.fetch(&cache, (&url, &url), &all_refs()).unwrap_err();
    assert!(error.hint().unwrap().contains("ssh-add -l"), "{error}");
    write_config("key");
    let repository = git.fetch(&cache, (&url, &url), &all_refs()).unwrap();
    assert_eq!(names(&repository.refs().unwrap()), ["refs/heads/main"]);
}

#[test]
fn no_address_and_no_configuration_starts_a_program() {
    let bench = GitBench::new();
    bench.commit("a", "1", "First");
    let trap = bench.path("trap");
    let touched = bench.path("touched");
    std::fs::write(&trap, format!("#!/bin/sh\ntouch {}\n", touched.display())).unwrap();
    std::fs::set_permissions(&trap, PermissionsExt::from_mode(0o755)).unwrap();
    let trap = trap.display().to_string();
    let git = bench.operator(&[]);
    let cache = git.cache_folder().unwrap();
    let path = bench.repository().display().to_string();
    for url in [
        format!("ext::{trap} %S"),
        format!("--upload-pack={trap}"),
        format!("ssh://-oProxyCommand={trap}/x"),
        format!("-oProxyCommand={trap}:x"),
        format!("fd::0,1/{trap}"),
        format!("file://{path}"),
        path.clone(),
        "git://127.0.0.1/x".into(),
    ] {
        let error = git.fetch(&cache, (&url, &url), &all_refs()).unwrap_err();
        assert!(matches!(error, GitError::Fetch { .. }), "{url}: {error}");
        assert!(!touched.exists(), "{url}");
        assert!(!cache.copy_of(&url).exists(), "{url}");
    }
    // A copy whose configuration somebody wrote.
    let port = http_server(bench.path("srv"), false);
    let url = format!("http://127.0.0.1:{port}/shop.git");
    drop(git.fetch(&cache, (&url, &url), &all_refs()).unwrap());
    let copy = cache.copy_of(&url);
    std::fs::create_dir_all(copy.join("hooks")).unwrap();
    for hook in ["reference-transaction", "post-checkout", "pre-auto-gc"] {
        std::fs::copy(&trap, copy.join("hooks").join(hook)).unwrap();
    }
    let config = format!(
        "[core]\n bare = true\n fsmonitor = {trap}\n sshCommand = {trap}\n alternateRefsCommand = {trap}\n hooksPath = {}\n[uploadpack]\n packObjectsHook = {trap}\n[remote \"trueup-publish\"]\n url = ext::{trap}\n uploadpack = {trap}\n[log]\n showSignature = true\n[gpg]\n program = {trap}\n[credential]\n helper = {trap}\n",
        copy.join("hooks").display()
    );
    std::fs::write(copy.join("config"), config).unwrap();
    let repository = git.fetch(&cache, (&url, &url), &all_refs()).unwrap();
    repository.refs().unwrap();
    assert!(!touched.exists());
    // Somebody's own clone names programs, too.
    bench.git(&["config", "core.fsmonitor", &trap]);
    bench.git(&["config", "log.showSignature", "true"]);
    bench.git(&["config", "gpg.program", &trap]);
    bench.git(&["config", "diff.external", &trap]);
    let first = bench.git(&["rev-parse", "HEAD"]);
    let _ = std::fs::remove_file(&touched);
    let tree = bench.git(&["rev-parse", "HEAD^{tree}"]);
    let message = format!(
        "tree {tree}\nparent {first}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n\nSigned\n"
    );
    std::fs::write(bench.path("commit"), message).unwrap();
    let file = bench.path("commit").display().to_string();
    let second = bench.git(&["hash-object", "-t", "commit", "-w", &file]);
    let own = git.open(&bench.repository()).unwrap();
    assert_eq!(own.log(&first, &second, 20).unwrap()[0].subject, "Signed");
    own.changed_files(&first, &second, &["**"], 1).unwrap();
    assert!(!touched.exists());
}

#[test]
fn cache_that_others_can_read_or_change_is_refused() {
    let bench = GitBench::new();
    let git = bench.operator(&[]);
    git.cache_folder().unwrap();
    let folder = bench.path("home/.cache/trueup/repositories");
    for mode in [0o750, 0o707, 0o777] {
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(mode)).unwrap();
        let error = git.cache_folder().unwrap_err();
        assert!(error.hint().unwrap().contains("XDG_CACHE_HOME"), "{error}");
    }
    std::fs::remove_dir(&folder).unwrap();
    std::os::unix::fs::symlink(bench.path("home"), &folder).unwrap();
    git.cache_folder().unwrap_err();
    assert!(matches!(
        Git::new([], Duration::ZERO).cache_folder(),
        Err(GitError::NoCacheFolder)
    ));
}

#[test]
fn second_publisher_waits_for_the_copy_up_to_its_deadline() {
    let bench = GitBench::new();
    bench.commit("a", "1", "First");
    let port = http_server(bench.path("srv"), false);
    let url = format!("http://127.0.0.1:{port}/shop.git");
    let git = bench.operator(&[]);
    let cache = git.cache_folder().unwrap();
    let held = cache.lock(&url, Duration::ZERO).unwrap();
    let error = cache.lock(&url, Duration::from_millis(200)).unwrap_err();
    assert!(matches!(error, GitError::Busy { .. }), "{error}");
    let count = std::thread::scope(|threads| {
        let other = threads.spawn(|| {
            let git = bench.operator(&[]);
            let cache = git.cache_folder().unwrap();
            let copy = git.fetch(&cache, (&url, &url), &all_refs()).unwrap();
            copy.refs().unwrap().len()
        });
        drop(held);
        other.join().unwrap()
    });
    assert_eq!(count, 1);
}

#[test]
fn damaged_copy_is_replaced_by_a_new_one() {
    let bench = GitBench::new();
    bench.commit("a", "1", "First");
    let port = http_server(bench.path("srv"), false);
    let url = format!("http://127.0.0.1:{port}/shop.git");
    let git = bench.operator(&[]);
    let cache = git.cache_folder().unwrap();
    drop(git.fetch(&cache, (&url, &url), &all_refs()).unwrap());
    std::fs::remove_dir_all(cache.copy_of(&url).join("objects")).unwrap();
    bench.commit("a", "2", "Second");
    let copy = git.fetch(&cache, (&url, &url), &all_refs()).unwrap();
    assert_eq!(copy.refs().unwrap().len(), 1);
}

#[test]
fn missing_program_is_named_with_what_to_install() {
    let bench = GitBench::new();
    let git = Git::new(
        [
            ("PATH".into(), "/nowhere".into()),
            ("HOME".into(), bench.path("home").into_os_string()),
        ],
        Duration::from_secs(5),
    );
    let error = git.open(&bench.repository()).unwrap_err();
    assert!(matches!(error, GitError::NoProgram), "{error}");
    assert!(error.hint().unwrap().contains("install"), "{error}");
    let cache = git.cache_folder().unwrap();
    let fetched = git.fetch(&cache, ("https://h/x", "x"), &all_refs());
    assert!(matches!(fetched.unwrap_err(), GitError::NoProgram));
}
