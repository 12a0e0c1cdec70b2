//! Fetches from a real sshd on the loopback interface.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

const SSHD: &str = "/usr/sbin/sshd";

struct Sshd {
    process: Child,
    port: u16,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn keygen(path: &Path, key_type: &str, passphrase: &str) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", key_type, "-N", passphrase, "-C", "test", "-f"])
        .arg(path)
        .status()
        .unwrap();
    assert!(made.success());
}

/// A server with host keys of two types, and its accepted client key at `/key` in the bench's host.
fn sshd(bench: &Bench) -> Option<Sshd> {
    if !Path::new(SSHD).exists() || !is_root() {
        crate::ports::testing::skip_test("git over ssh", "needs sshd and root");
        return None;
    }
    let dir = bench.dir.path().join("sshd");
    std::fs::create_dir(&dir).unwrap();
    std::fs::create_dir_all("/run/sshd").unwrap();
    keygen(&dir.join("ed25519"), "ed25519", "");
    keygen(&dir.join("ecdsa"), "ecdsa", "");
    keygen(&bench.host_path("key"), "ed25519", "");
    std::fs::copy(bench.host_path("key.pub"), dir.join("authorized")).unwrap();
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let d = dir.display();
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {d}/ecdsa\nHostKey {d}/ed25519\nAuthorizedKeysFile {d}/authorized\nPermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nPidFile none\n"
    );
    std::fs::write(dir.join("config"), config).unwrap();
    let process = Command::new(SSHD)
        .args(["-D", "-e", "-f"])
        .arg(dir.join("config"))
        .stderr(std::fs::File::create(dir.join("log")).unwrap())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let up = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    for _ in 0..200 {
        if up() {
            break;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    Some(Sshd { process, port })
}

impl Sshd {
    fn spec(&self, bench: &Bench, sha: &Sha, more: &str) -> ReleaseSpec {
        let path = bench.repo.path().display();
        let text = format!(
            "app: shop\nrepo: ssh://root@127.0.0.1:{}{path}\ndeploy_key: /key\nknown_hosts: /known\n{more}",
            self.port
        );
        spec(&text, sha)
    }

    fn write_known_hosts(&self, bench: &Bench, sort: &str) {
        let key =
            std::fs::read_to_string(bench.dir.path().join(format!("sshd/{sort}.pub"))).unwrap();
        let line = format!("[127.0.0.1]:{} {key}", self.port);
        std::fs::write(bench.host_path("known"), line).unwrap();
    }
}

#[test]
fn ssh_fetch_works_with_any_known_host_key_type() {
    let bench = Bench::new();
    let Some(server) = sshd(&bench) else { return };
    for sort in ["ed25519", "ecdsa"] {
        let sha = bench.commit(&[("a", sort)]);
        server.write_known_hosts(&bench, sort);
        deploy_ok(&server.spec(&bench, &sha, ""), &bench.host());
        assert_eq!(bench.read("current/a"), sort);
    }
    // In the user's own file, under a hashed name.
    let sha = bench.commit(&[("a", "3")]);
    server.write_known_hosts(&bench, "ed25519");
    std::fs::create_dir_all(bench.host_path("home/deploy/.ssh")).unwrap();
    let home = bench.host_path("home/deploy/.ssh/known_hosts");
    std::fs::rename(bench.host_path("known"), &home).unwrap();
    let hashed = Command::new("ssh-keygen")
        .args(["-H", "-f"])
        .arg(&home)
        .output()
        .unwrap();
    assert!(hashed.status.success());
    let mut spec = server.spec(&bench, &sha, "user: deploy\n");
    spec.known_hosts = None;
    deploy_ok(&spec, &bench.host());
}

#[test]
fn rejected_or_unusable_deploy_key_is_named_in_the_error() {
    let bench = Bench::new();
    let Some(server) = sshd(&bench) else { return };
    let sha = bench.commit(&[("a", "1")]);
    server.write_known_hosts(&bench, "ed25519");
    keygen(&bench.host_path("stranger"), "ed25519", "");
    keygen(&bench.host_path("sealed"), "ed25519", "secret");
    for (key, expected) in [
        ("/stranger", "permission denied (publickey)"),
        ("/sealed", "/sealed is protected by a passphrase"),
        ("/key.pub", "/key.pub is a public key"),
        ("/none", "/none does not exist"),
        ("/known", "/known is not a private ssh key"),
    ] {
        let mut spec = server.spec(&bench, &sha, "");
        spec.deploy_key = Some(key.into());
        let failure = run_pass(&spec, &bench.host()).unwrap_err();
        assert!(failure.message.contains(expected), "{failure}");
    }
    let mut spec = server.spec(&bench, &sha, "");
    spec.deploy_key = None;
    let failure = run_pass(&spec, &bench.host()).unwrap_err();
    assert!(failure.hint.unwrap().contains("`deploy_key`"));
}

#[test]
fn unknown_changed_or_revoked_host_key_is_refused() {
    let bench = Bench::new();
    let Some(server) = sshd(&bench) else { return };
    let sha = bench.commit(&[("a", "1")]);
    let failure = run_pass(&server.spec(&bench, &sha, ""), &bench.host()).unwrap_err();
    assert!(
        failure
            .message
            .contains("the host key of 127.0.0.1 is unknown"),
        "{failure}"
    );

    // The line in the hint is one that grants access.
    let hint = failure.hint.unwrap();
    let line = hint.lines().last().unwrap();
    assert!(hint.contains("/known"), "{hint}");
    assert!(
        hint.contains("`known_hosts` in the attributes of node.yml"),
        "{hint}"
    );
    std::fs::write(bench.host_path("known"), format!("{line}\n")).unwrap();
    deploy_ok(&server.spec(&bench, &sha, ""), &bench.host());

    let sha = bench.commit(&[("a", "2")]);
    let mine = std::fs::read_to_string(bench.host_path("key.pub")).unwrap();
    let other = format!("# c\n[127.0.0.1]:{} {mine}", server.port);
    std::fs::write(bench.host_path("known"), other).unwrap();
    let failure = run_pass(&server.spec(&bench, &sha, ""), &bench.host()).unwrap_err();
    assert!(
        failure.message.contains("differs from /known:2"),
        "{failure}"
    );
    assert_eq!(bench.read("current/a"), "1");

    let mut revoked = String::new();
    for sort in ["ecdsa", "ed25519"] {
        let key = std::fs::read_to_string(bench.dir.path().join(format!("sshd/{sort}.pub")));
        let (key, port) = (key.unwrap(), server.port);
        revoked += &format!("[127.0.0.1]:{port} {key}@revoked [127.0.0.1]:{port} {key}");
    }
    std::fs::write(bench.host_path("known"), revoked).unwrap();
    let failure = run_pass(&server.spec(&bench, &sha, ""), &bench.host()).unwrap_err();
    assert!(
        failure
            .message
            .contains("host key of 127.0.0.1 is revoked in /known"),
        "{failure}"
    );
}

#[test]
fn deploy_key_works_with_any_file_mode_and_line_endings() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    let Some(server) = sshd(&bench) else { return };
    let sha = bench.commit(&[("a", "1")]);
    server.write_known_hosts(&bench, "ed25519");
    let key = std::fs::read_to_string(bench.host_path("key")).unwrap();
    std::fs::write(bench.host_path("key"), key.trim_end().replace('\n', "\r\n")).unwrap();
    std::fs::set_permissions(bench.host_path("key"), PermissionsExt::from_mode(0o644)).unwrap();
    deploy_ok(&server.spec(&bench, &sha, ""), &bench.host());
}

#[test]
fn ssh_configuration_of_the_user_is_ignored() {
    let bench = Bench::new();
    let Some(server) = sshd(&bench) else { return };
    let sha = bench.commit(&[("a", "1")]);
    // If `ssh` opened the file by this path, no host would be known: the name expands to another one, and the
    // path is relative to the sandbox.
    server.write_known_hosts(&bench, "ed25519");
    let odd = "odd %h ${HOME} known";
    std::fs::rename(bench.host_path("known"), bench.host_path(odd)).unwrap();
    let mut spec = server.spec(&bench, &sha, "");
    spec.known_hosts = Some(format!("/{odd}").into());
    deploy_ok(&spec, &bench.host());
}

/// A server that accepts connections and sends nothing but these bytes.
fn silent_server(words: &'static [u8]) -> u16 {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let _ = stream.write_all(words);
                while words.is_empty() && stream.read(&mut [0; 64]).is_ok_and(|n| n > 0) {}
            });
        }
    });
    port
}

#[test]
fn silent_ssh_server_times_out_at_deadline_or_stop() {
    let bench = Bench::new();
    let sha = Sha::parse(&"4f2c9d0e".repeat(5)).unwrap();
    let port = silent_server(b"");
    let text = |limit: &str| {
        format!("app: shop\nrepo: ssh://git@127.0.0.1:{port}/x\nfetch_timeout: {limit}\n")
    };
    let started = Instant::now();
    let failure = run_pass(&spec(&text("2s"), &sha), &bench.host()).unwrap_err();
    assert!(started.elapsed().as_secs() < 15, "{failure}");
    let late = failure.message.contains("did not finish within 2 s");
    assert!(
        late || failure.hint.is_some_and(|h| h.contains("in time")),
        "{}",
        failure.message
    );

    let host = bench.host();
    let stop = host.stop.clone();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        stop.set();
    });
    let started = Instant::now();
    let failure = run_pass(&spec(&text("60s"), &sha), &host).unwrap_err();
    assert!(started.elapsed().as_secs() < 10, "{failure}");
    assert!(failure.message.contains("stopped on request"), "{failure}");
    stopper.join().unwrap();
}

#[test]
fn server_that_speaks_no_ssh_is_reported() {
    let bench = Bench::new();
    let sha = Sha::parse(&"4f2c9d0e".repeat(5)).unwrap();
    let port = silent_server(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let text = format!("app: shop\nrepo: ssh://git@127.0.0.1:{port}/x\n");
    let failure = run_pass(&spec(&text, &sha), &bench.host()).unwrap_err();
    assert!(
        failure
            .hint
            .is_some_and(|h| h.contains("closed the connection"))
    );
    assert!(
        failure.message.contains("kex_exchange"),
        "{}",
        failure.message
    );
}

#[test]
fn missing_repository_on_an_ssh_server_is_reported() {
    let bench = Bench::new();
    let Some(server) = sshd(&bench) else { return };
    let sha = bench.commit(&[("a", "1")]);
    server.write_known_hosts(&bench, "ed25519");
    let text = format!(
        "app: shop\nrepo: ssh://root@127.0.0.1:{}/no/such.git\ndeploy_key: /key\nknown_hosts: /known\n",
        server.port
    );
    let failure = run_pass(&spec(&text, &sha), &bench.host()).unwrap_err();
    assert!(
        failure
            .hint
            .as_ref()
            .is_some_and(|hint| hint.contains("repository does not exist")),
        "{failure}"
    );
}

#[test]
fn unreachable_commit_is_refused_even_if_the_server_offers_it() {
    let bench = Bench::new();
    let Some(server) = sshd(&bench) else { return };
    bench.commit(&[("a", "1")]);
    let tree = bench.repo.head().unwrap().peel_to_tree().unwrap().id();
    let sha = bench.commit_tree(tree, None);
    server.write_known_hosts(&bench, "ed25519");
    let mut config = bench.repo.config().unwrap();
    config
        .set_bool("uploadpack.allowAnySHA1InWant", true)
        .unwrap();
    let failure = run_pass(&server.spec(&bench, &sha, ""), &bench.host()).unwrap_err();
    assert!(
        failure.message.contains("is on no branch and no tag"),
        "{failure}"
    );
    assert_eq!(bench.releases(), [""; 0]);
}
