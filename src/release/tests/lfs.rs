//! Git LFS, with the real git-lfs.

use std::process::Command;

use super::spare::{are_spares_ready, make_spares};
use super::*;
use crate::digest::digest;

fn run_git(at: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .env("HOME", at)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .args(["-c", "user.name=t", "-c", "user.email=t@example", "-C"])
        .arg(at)
        .args(args)
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {message}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn is_lfs_installed() -> bool {
    let installed = Command::new("git").args(["lfs", "version"]).output();
    let installed = installed.is_ok_and(|output| output.status.success());
    if !installed {
        crate::ports::testing::skip_test("files of Git LFS", "git-lfs is not installed");
    }
    installed
}

/// A clone for commits with LFS files, with the remote that they are pushed to.
fn make_clone(bench: &Bench) -> PathBuf {
    let work = bench.dir.path().join("work");
    std::fs::create_dir(&work).unwrap();
    run_git(&work, &["init", "-q", "-b", "master"]);
    run_git(&work, &["lfs", "install", "--local"]);
    let url = format!("file://{}", bench.repo.path().display());
    run_git(&work, &["remote", "add", "origin", &url]);
    std::fs::write(
        work.join(".gitattributes"),
        "*.bin filter=lfs diff=lfs merge=lfs -text\n",
    )
    .unwrap();
    work
}

fn push(work: &Path, files: &[(&str, &str)]) -> Sha {
    for (path, text) in files {
        std::fs::write(work.join(path), text).unwrap();
    }
    run_git(work, &["add", "-A"]);
    run_git(work, &["commit", "-q", "-m", "x"]);
    run_git(work, &["push", "-q", "origin", "master"]);
    Sha::parse(&run_git(work, &["rev-parse", "HEAD"])).unwrap()
}

#[test]
fn lfs_files_are_complete_in_the_release() {
    if !is_lfs_installed() {
        return;
    }
    let bench = Bench::new();
    let work = make_clone(&bench);
    // `plain` matches no LFS rule.
    let one = push(
        &work,
        &[("a.bin", "first"), ("b.bin", "same"), ("plain", "p")],
    );
    let two = push(&work, &[("a.bin", "second")]);
    deploy_ok(&bench.spec(&one, ""), &bench.host());
    assert_eq!(bench.read("current/a.bin"), "first");
    assert_eq!(bench.read("current/b.bin"), "same");
    make_spares(&bench.spec(&one, ""), &bench.host()).unwrap();
    assert!(are_spares_ready(&bench.spec(&one, ""), &bench.host()));
    deploy_ok(&bench.spec(&two, ""), &bench.host());
    assert_eq!(bench.read("current/a.bin"), "second");
    assert_eq!(bench.read("current/b.bin"), "same");
    assert_eq!(bench.read("current/plain"), "p");
}

#[test]
fn commit_with_a_missing_lfs_file_is_refused() {
    if !is_lfs_installed() {
        return;
    }
    let bench = Bench::new();
    let work = make_clone(&bench);
    let sha = push(&work, &[("lost.bin", "nobody has it")]);
    std::fs::remove_dir_all(bench.repo.path().join("lfs")).unwrap();
    let failure = run_pass(&bench.spec(&sha, ""), &bench.host()).unwrap_err();
    assert!(failure.message.contains("lost.bin"), "{failure}");
    assert!(failure.hint.is_some());
    assert_eq!(bench.releases(), [""; 0]);
}

#[test]
fn name_of_a_missing_lfs_file_cannot_forge_a_line() {
    let bench = Bench::new();
    let sha = bench.commit(&[
        (".gitattributes", "*.bin filter=lfs\n"),
        ("a\n\u{1b}[32mconverged.bin", &pointer_text("missing")),
    ]);
    let failure = run_pass(&bench.spec(&sha, ""), &bench.host()).unwrap_err();
    assert!(!failure.message.contains(char::is_control), "{failure:?}");
    assert!(
        failure.message.contains(r"a\n\x1b[32mconverged.bin"),
        "{failure:?}"
    );
}

#[test]
fn corrupt_lfs_file_in_the_mirror_is_not_deployed() {
    if !is_lfs_installed() {
        return;
    }
    let bench = Bench::new();
    let work = make_clone(&bench);
    let one = push(&work, &[("a.bin", "right")]);
    deploy_ok(&bench.spec(&one, ""), &bench.host());
    let two = push(&work, &[("b", "2")]);
    let store = bench.host_path("var/lib/trueup/mirrors/shop.git/lfs/objects");
    let mut folder = store.clone();
    while let [only] = list_names(&folder).as_slice() {
        folder.push(only);
        if folder.is_file() {
            break;
        }
    }
    // It may be a link to the origin's own file.
    std::fs::remove_file(&folder).unwrap();
    std::fs::write(&folder, "wrong").unwrap();
    // A spare tree would make the lookup unnecessary.
    std::fs::remove_dir_all(bench.app_path("releases/.trueup")).unwrap();
    let failure = run_pass(&bench.spec(&two, ""), &bench.host()).unwrap_err();
    assert!(
        failure.message.contains("the mirror's copy is broken"),
        "{failure}"
    );
    // The next pass fetches it again.
    deploy_ok(&bench.spec(&two, ""), &bench.host());
    assert_eq!(bench.read("current/a.bin"), "right");
}

/// An LFS server at `/lfs` that requires ana's password and refers to `elsewhere` for the files; it records
/// the requests.
mod server {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    pub(super) struct Server {
        pub port: u16,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Server {
        pub(super) fn new(
            answer: impl Fn(&str, &str) -> (String, Vec<u8>) + Send + 'static,
        ) -> Server {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let asked = Arc::new(Mutex::new(Vec::new()));
            let kept = asked.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    let mut head = String::new();
                    while reader.read_line(&mut head).unwrap_or(0) > 2 {}
                    let head = head.to_lowercase();
                    let length = head.split("content-length: ").nth(1);
                    let length = length.and_then(|rest| rest.lines().next()?.trim().parse().ok());
                    let mut body = vec![0; length.unwrap_or(0)];
                    reader.read_exact(&mut body).unwrap();
                    kept.lock().unwrap().push(head.clone());
                    let (status, answer) = answer(&head, &String::from_utf8_lossy(&body));
                    let head = format!(
                        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        answer.len()
                    );
                    let _ = stream.write_all(&[head.as_bytes(), &answer].concat());
                }
            });
            Server { port, asked }
        }

        pub(super) fn take_requests(&self) -> Vec<String> {
            std::mem::take(&mut self.asked.lock().unwrap())
        }
    }
}
use server::Server;

/// The only pointer in a request.
fn requested_oid(body: &str) -> String {
    let digest = body.split("\"oid\":\"").nth(1).unwrap();
    digest[..64].to_owned()
}

fn batch_response(digest: &str, href: &str) -> (String, Vec<u8>) {
    let answer = format!(
        "{{\"objects\":[{{\"oid\":\"{digest}\",\"size\":1,\"actions\":{{\"download\":{{\"href\":\"{href}\",\"header\":{{\"X-Token\":\"hush\"}}}}}}}}]}}"
    );
    ("200 OK".into(), answer.into_bytes())
}

fn pointer_text(content: &str) -> String {
    let digest = digest(content.as_bytes());
    format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {}\n",
        content.len()
    )
}

/// A commit with one LFS file, made without git-lfs.
fn commit_pointer(bench: &Bench, content: &str, more: &[(&str, &str)]) -> Sha {
    let pointer = pointer_text(content);
    let mut files = vec![
        (".gitattributes", "*.bin filter=lfs\n"),
        ("a.bin", pointer.as_str()),
    ];
    files.extend(more);
    bench.commit(&files)
}

#[test]
fn lfs_password_is_sent_only_to_its_own_server() {
    let bench = Bench::new();
    let files = Server::new(|_, _| ("200 OK".into(), b"content".to_vec()));
    let port = files.port;
    let api = Server::new(move |head, body| match head.starts_with("post") {
        true => batch_response(
            &requested_oid(body),
            &"HERE/file".replace("HERE", &format!("http://{}", host_header(head))),
        ),
        false => (
            format!("302 Found\r\nLocation: http://127.0.0.1:{port}/there"),
            Vec::new(),
        ),
    });
    let sha = commit_pointer(&bench, "content", &[]);
    let url = format!("lfs_url: http://ana:geheim@127.0.0.1:{}/lfs\n", api.port);
    deploy_ok(&bench.spec(&sha, &url), &bench.host());
    assert_eq!(bench.read("current/a.bin"), "content");
    // printf ana:geheim | base64
    let password = "authorization: basic yw5hom";
    let asked = api.take_requests();
    assert!(asked[0].starts_with("post /lfs/objects/batch"), "{asked:?}");
    assert!(
        asked.iter().all(|head| head.contains(password)),
        "{asked:?}"
    );
    let elsewhere = files.take_requests().join("");
    assert!(elsewhere.contains("get /there"), "{elsewhere}");
    for secret in ["authorization", "x-token"] {
        assert!(!elsewhere.contains(secret), "{elsewhere}");
    }
}

fn host_header(head: &str) -> String {
    let host = head.split("host: ").nth(1).unwrap();
    host.lines().next().unwrap().trim().to_owned()
}

#[test]
fn lfsconfig_of_a_commit_is_ignored() {
    let bench = Bench::new();
    let asked = Server::new(|_, _| ("200 OK".into(), b"secret".to_vec()));
    let target = bench.dir.path().join("theirs");
    let config = format!(
        "[lfs]\n\turl = http://127.0.0.1:{}/lfs\n\tstandalonetransferagent = run\n[lfs \"customtransfer.run\"]\n\tpath = touch\n\targs = {}\n",
        asked.port,
        target.display()
    );
    let sha = commit_pointer(&bench, "secret", &[(".lfsconfig", &config)]);
    let failure = run_pass(&bench.spec(&sha, ""), &bench.host()).unwrap_err();
    assert!(
        failure
            .message
            .starts_with("a.bin: cannot fetch Git LFS files of"),
        "{failure}"
    );
    assert!(
        failure.hint.as_ref().unwrap().contains("lfs_url"),
        "{failure}"
    );
    assert_eq!(asked.take_requests(), [""; 0]);
    assert!(!target.exists());
}

#[test]
fn lfs_content_with_a_wrong_hash_is_discarded() {
    let bench = Bench::new();
    let sha = commit_pointer(&bench, "content", &[]);
    for (sent, why) in [
        ("CONTENT", "sha256 mismatch"),
        ("conten", "sha256 mismatch"),
        ("content and more", "larger than the commit says"),
    ] {
        let server = Server::new(move |head, body| match head.starts_with("post") {
            true => batch_response(
                &requested_oid(body),
                &format!("http://{}/file", host_header(head)),
            ),
            false => ("200 OK".into(), sent.into()),
        });
        let url = format!("lfs_url: http://127.0.0.1:{}/lfs\n", server.port);
        let failure = run_pass(&bench.spec(&sha, &url), &bench.host()).unwrap_err();
        assert!(failure.message.contains(why), "{failure}");
        let store = bench.host_path("var/lib/trueup/mirrors/shop.git/lfs/objects");
        assert_eq!(list_names(&store), [""; 0]);
        assert_eq!(bench.releases(), [""; 0]);
    }
}

#[test]
fn fifo_in_a_local_lfs_store_does_not_block() {
    let bench = Bench::new();
    let sha = commit_pointer(&bench, "content", &[]);
    let digest = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";
    let folder = bench.repo.path().join("lfs/objects/ed/70");
    std::fs::create_dir_all(&folder).unwrap();
    nix::unistd::mkfifo(&folder.join(digest), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let failure = run_pass(&bench.spec(&sha, ""), &bench.host()).unwrap_err();
    // A repository with such an entry is not entirely root's, so root does not read it.
    let refused = failure.message.contains("root does not read it");
    assert!(refused, "{failure}");
}

#[test]
fn lfs_file_too_large_for_the_disk_is_refused_before_any_request() {
    let bench = Bench::new();
    let asked = Server::new(|_, _| ("200 OK".into(), Vec::new()));
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 1152921504606846976\n",
        "4f".repeat(32)
    );
    let sha = bench.commit(&[
        (".gitattributes", "*.bin filter=lfs\n"),
        ("a.bin", &pointer),
    ]);
    let url = format!("lfs_url: http://127.0.0.1:{}/lfs\n", asked.port);
    let failure = run_pass(&bench.spec(&sha, &url), &bench.host()).unwrap_err();
    assert!(failure.message.contains("not enough space"), "{failure}");
    assert_eq!(asked.take_requests(), [""; 0]);
}

/// A pass whose LFS server, at `localhost`, offers the file at this address with these headers.
fn pass_with_offer(href: &str, header: &str) -> (Result<(), Failure>, Vec<String>) {
    let bench = Bench::new();
    let sha = commit_pointer(&bench, "content", &[]);
    let (href, header) = (href.to_owned(), header.to_owned());
    let api = Server::new(move |head, body| match head.starts_with("post") {
        true => {
            let answer = format!(
                "{{\"objects\":[{{\"oid\":\"{}\",\"size\":1,\"actions\":{{\"download\":{{\"href\":\"{}\",\"header\":{{{header}}}}}}}}}]}}",
                requested_oid(body),
                href.replace("HERE", &host_header(head)),
            );
            ("200 OK".into(), answer.into_bytes())
        }
        false => ("200 OK".into(), b"content".to_vec()),
    });
    let url = format!("lfs_url: http://127.0.0.1:{}/lfs\n", api.port);
    let done = run_pass(&bench.spec(&sha, &url), &bench.host()).map(drop);
    (done, api.take_requests())
}

#[test]
fn lfs_server_cannot_redirect_root_to_local_services() {
    let inner = Server::new(|_, _| ("200 OK".into(), b"content".to_vec()));
    let port = inner.port;
    for name in [
        "localhost",
        "127.0.0.2",
        "[::1]",
        "0x7f.3",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
    ] {
        let (done, _) = pass_with_offer(&format!("http://{name}:{port}/admin/flush"), "");
        let failure = done.unwrap_err();
        assert!(
            failure.message.contains("leads to") && failure.message.contains(" is "),
            "{name}: {failure}"
        );
        assert_eq!(inner.take_requests(), [""; 0], "{name}");
    }
    // A redirect cannot lead anywhere else either.
    let away = Server::new(move |_, _| {
        (
            format!("302 Found\r\nLocation: http://localhost:{port}/admin"),
            Vec::new(),
        )
    });
    let (done, _) = pass_with_offer(&format!("http://127.0.0.1:{}/file", away.port), "");
    let failure = done.unwrap_err();
    assert!(failure.message.contains("leads to localhost"), "{failure}");
    assert_eq!(inner.take_requests(), [""; 0]);
}

#[test]
fn lfs_server_can_set_only_authentication_headers() {
    let (done, asked) = pass_with_offer(
        "http://HERE/file",
        "\"Metadata-Flavor\":\"Google\",\"Cookie\":\"a=b\",\"Host\":\"other\",\"X-Aws-Ec2-Metadata-Token\":\"x\",\"X-Amz-Security-Token\":\"yes\",\"x-ms-version\":\"yes\",\"Authorization\":\"Bearer yes\"",
    );
    done.unwrap();
    let asked = asked.iter().find(|head| head.starts_with("get")).unwrap();
    for sent in [
        "x-amz-security-token",
        "x-ms-version",
        "authorization: bearer",
    ] {
        assert!(asked.contains(sent), "{asked}");
    }
    for never in ["metadata", "cookie", "other"] {
        assert!(!asked.contains(never), "{asked}");
    }
}
