//! Git over HTTP, against git's own server side.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use super::*;

/// `git http-backend` behind a server that requires ana's password, redirects `/old/…` to `/…`, and records
/// the first line of each request.
struct Backend {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Backend {
    fn new(folder: &Path) -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (folder, requests) = (folder.to_owned(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                handle_request(&folder, stream.unwrap(), &requests);
            }
        });
        Backend { port, asked }
    }

    fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn handle_request(folder: &Path, mut stream: TcpStream, requests: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) <= 2 {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let Some(first) = head.first() else { return };
    requests.lock().unwrap().push(first.clone());
    let header = |name: &str| {
        let line = head.iter().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut body = vec![0; header("content-length:").parse().unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    // printf ana:geheim | base64
    if header("authorization:") != "Basic YW5hOmdlaGVpbQ==" {
        let _ =
            stream.write_all(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    }
    if let Some(path) = path.strip_prefix("/old/") {
        let _ = write!(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: /{path}?{query}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        return;
    }
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", folder)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type:"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    backend.stdin.take().unwrap().write_all(&body).unwrap();
    forward_response(&mut stream, &backend.wait_with_output().unwrap().stdout);
}

/// Turns the output of a CGI program into an HTTP response.
fn forward_response(stream: &mut TcpStream, answer: &[u8]) {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let (head, body) = (String::from_utf8_lossy(&answer[..end]), &answer[end + 4..]);
    let status = head.lines().find_map(|line| line.strip_prefix("Status: "));
    let status = status.unwrap_or("200 OK");
    let length = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let _ = stream.write_all(body);
}

#[test]
fn repository_is_fetched_over_http_with_redirects_and_credentials() {
    let bench = Bench::new();
    let server = Backend::new(bench.dir.path());
    let url = format!("http://ana:geheim@127.0.0.1:{}/old/repo.git", server.port);
    let text = format!("app: shop\nrepo: {url}\n");
    // More than one step of negotiation, and packs that take more than one read.
    let big: String = (0..200_000u32)
        .map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761)))
        .collect();
    for round in 0..3 {
        for n in 0..30 {
            bench.commit(&[("a", &format!("{round} {n}")), ("big", &big[round..])]);
        }
        let sha = bench.commit(&[("a", &format!("{round}"))]);
        deploy_ok(&spec(&text, &sha), &bench.host());
        assert_eq!(bench.read("current/a"), format!("{round}"));
        let asked = server.take_requests();
        // Only the refs are requested at the old address.
        assert!(
            asked[0].starts_with("GET /old/repo.git/info/refs"),
            "{asked:?}"
        );
        assert!(asked[1].starts_with("GET /repo.git/info/refs"), "{asked:?}");
        assert!(asked.len() > 2, "{asked:?}");
        for line in &asked[2..] {
            assert!(
                line.starts_with("POST /repo.git/git-upload-pack"),
                "{asked:?}"
            );
        }
    }
    let missing = text.replace("repo.git", "none.git");
    let sha = bench.commit(&[("a", "missing")]);
    let failure = run_pass(&spec(&missing, &sha), &bench.host()).unwrap_err();
    assert!(
        failure
            .hint
            .as_ref()
            .is_some_and(|h| h.contains("repository does not exist")),
        "{failure}"
    );
    assert!(!failure.to_string().contains("geheim"), "{failure}");
}

#[test]
fn interrupted_http_fetch_leaves_a_usable_mirror() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let id = sha.as_str().to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 8192];
            let n = stream.read(&mut buffer).unwrap_or(0);
            let (sort, body) = if buffer[..n].starts_with(b"GET") {
                let line = format!("{id} refs/heads/master\0side-band-64k\n");
                let refs = format!(
                    "001e# service=git-upload-pack\n0000{:04x}{line}0000",
                    line.len() + 4
                );
                ("advertisement", refs)
            } else {
                ("result", "0008NAK\n0100\u{1}PACK".to_owned())
            };
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-{sort}\r\nConnection: close\r\n"
            );
            let length = if sort == "result" { 9999 } else { body.len() };
            let _ = write!(stream, "Content-Length: {length}\r\n\r\n{body}");
        }
    });
    let text = format!("app: shop\nrepo: http://127.0.0.1:{port}/repo.git\n");
    let failure = run_pass(&spec(&text, &sha), &bench.host()).unwrap_err();
    assert!(failure.message.contains("broke off"), "{failure}");
    assert!(
        failure
            .hint
            .is_some_and(|hint| hint.contains("closed the connection"))
    );
    deploy_ok(&bench.spec(&sha, ""), &bench.host());
}
