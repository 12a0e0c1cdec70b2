//! Tests against real servers on the loopback interface.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::*;
use crate::ports::deadline::DeadlineError;
use crate::ports::exec::StopFlag;

/// Sends these answers, one per connection, and records the requests.
struct TestServer {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl TestServer {
    /// `PORT` in an answer is the server's own port. For an empty answer the server sends nothing.
    fn new(answers: &[&str]) -> TestServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, answers) = (
            asked.clone(),
            answers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        );
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let request = read_request(&mut stream);
                kept.lock().unwrap().push(request);
                let answer = answer.replace("PORT", &port.to_string());
                let _ = stream.write_all(answer.as_bytes());
                if answer.is_empty() || answer.contains("MORE") {
                    std::thread::sleep(Duration::from_secs(30));
                }
            }
        });
        TestServer {
            port,
            requests: asked,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn read_request(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = stream.read(&mut buffer).unwrap_or(0);
        text.extend_from_slice(&buffer[..n]);
        let head = String::from_utf8_lossy(&text).to_lowercase();
        let length = head.split("content-length: ").nth(1).map_or(0, |rest| {
            rest.split("\r\n").next().unwrap().parse::<usize>().unwrap()
        });
        let body = head.find("\r\n\r\n").map(|end| text.len() - end - 4);
        if n == 0 || body.is_some_and(|body| body >= length) {
            return String::from_utf8_lossy(&text).into_owned();
        }
    }
}

fn response(status: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n{body}"
    )
}

const SECONDS: Duration = Duration::from_secs(10);

#[test]
fn any_status_returns_its_headers_and_a_bounded_body() {
    let server = TestServer::new(&[
        &response("200 OK", "X-Version: 7\r\n", "healthy"),
        &response("503 Service Unavailable", "", "starting"),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    ]);
    let http = HttpClient::without_proxy();
    let got = http
        .get(
            &server.url("/health?a=b"),
            &[("x-from", "us")],
            SECONDS,
            100,
        )
        .unwrap();
    assert_eq!((got.status, got.body.as_slice()), (200, &b"healthy"[..]));
    assert!(got.headers.contains(&("x-version".into(), "7".into())));
    let got = http.get(&server.url("/"), &[], SECONDS, 5).unwrap();
    assert_eq!((got.status, got.body.as_slice()), (503, &b"start"[..]));
    let got = http.get(&server.url("/"), &[], SECONDS, 11).unwrap();
    assert_eq!(got.body.as_slice(), b"hello world");
    let asked = server.requests();
    assert!(
        asked[0].starts_with("GET /health?a=b HTTP/1.1\r\n"),
        "{asked:?}"
    );
    assert!(asked[0].contains("x-from: us\r\n"), "{asked:?}");
}

#[test]
fn request_with_body_is_a_post_with_basic_auth() {
    let server = TestServer::new(&[&response("200 OK", "", "done")]);
    let url = server.url("/x").replace("//", "//ana:ge%40heim@");
    let request = Request {
        url: &url,
        body: Some(b"wanted".to_vec()),
        ..Request::default()
    };
    let mut response = HttpClient::with_proxy()
        .send(request, &SECONDS.into())
        .unwrap();
    let mut text = String::new();
    response.read_to_string(&mut text).unwrap();
    assert_eq!(text, "done");
    let asked = &server.requests()[0];
    assert!(
        asked.starts_with("POST /x HTTP/1.1") && asked.ends_with("\r\n\r\nwanted"),
        "{asked}"
    );
    // printf ana:ge@heim | base64
    assert!(
        asked.contains("authorization: Basic YW5hOmdlQGhlaW0="),
        "{asked}"
    );
    assert!(
        !response.url.contains('@') && !asked.contains("ge%40heim"),
        "{asked}"
    );
}

#[test]
fn redirect_never_passes_the_password_to_another_server() {
    let other = TestServer::new(&[&response("200 OK", "", "there")]);
    let away = format!("Location: {}\r\n", other.url("/there"));
    let server = TestServer::new(&[
        &response("302 Found", "Location: /moved\r\n", ""),
        &response("301 Moved", &away, ""),
        &response("302 Found", &away, ""),
    ]);
    let url = server.url("/x").replace("//", "//ana:geheim@");
    let request = |follow| Request {
        url: &url,
        follow_redirects: follow,
        ..Request::default()
    };
    let response = HttpClient::without_proxy()
        .send(request(true), &SECONDS.into())
        .unwrap();
    assert_eq!((response.status, response.url), (200, other.url("/there")));
    let asked = server.requests();
    assert!(
        asked[1].starts_with("GET /moved") && asked[1].contains("authorization"),
        "{asked:?}"
    );
    assert!(!other.requests()[0].contains("authorization"));
    let response = HttpClient::without_proxy()
        .send(request(false), &SECONDS.into())
        .unwrap();
    assert_eq!(response.status, 302);
}

#[test]
fn redirect_loops_and_non_http_redirects_fail() {
    let circle = response("302 Found", "Location: http://127.0.0.1:PORT/\r\n", "");
    let circle = vec![circle.as_str(); MAX_REDIRECTS + 1];
    let file = response("302 Found", "Location: file:///etc/passwd\r\n", "");
    for server in [TestServer::new(&circle), TestServer::new(&[&file])] {
        let url = server.url("/");
        let request = Request {
            url: &url,
            follow_redirects: true,
            ..Request::default()
        };
        let error = HttpClient::without_proxy()
            .send(request, &SECONDS.into())
            .unwrap_err();
        assert!(matches!(error, HttpError::Redirect(_)), "{error}");
    }
}

#[test]
fn deadline_ends_silent_servers_and_honours_a_stop_request() {
    let get = |answer: &str, deadline: &Deadline| {
        let server = TestServer::new(&[answer]);
        let started = Instant::now();
        let error = HttpClient::without_proxy()
            .get(&server.url("/"), &[], deadline.clone(), 100)
            .unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(5));
        match error {
            HttpError::Deadline(why) => why,
            error => panic!("{error}"),
        }
    };
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nMORE";
    let short = Duration::from_millis(300);
    for answer in ["", half] {
        assert_eq!(get(answer, &short.into()), DeadlineError::TimedOut(short));
        let quiet = Deadline::new(SECONDS, short, StopFlag::default());
        assert_eq!(get(answer, &quiet), DeadlineError::IdleTimedOut(short));
        let stop = StopFlag::default();
        let deadline = Deadline::new(SECONDS, SECONDS, stop.clone());
        let stopper = std::thread::spawn(move || {
            std::thread::sleep(short);
            stop.set();
        });
        assert_eq!(get(answer, &deadline), DeadlineError::Stopped);
        stopper.join().unwrap();
    }
}

#[test]
fn connection_failures_are_distinguished() {
    let free = free_port();
    let malformed = TestServer::new(&["nonsense\r\n\r\n"]);
    let get = |url: &str| {
        HttpClient::without_proxy()
            .get(url, &[], SECONDS, 1)
            .unwrap_err()
    };
    for scheme in ["http", "https"] {
        let error = get(&format!("{scheme}://127.0.0.1:{free}/"));
        assert!(matches!(error, HttpError::Connect { .. }), "{error:?}");
        assert!(error.to_string().contains("refused"), "{error}");
        let error = get(&format!("{scheme}://no.such.host.invalid/"));
        assert!(matches!(error, HttpError::Resolve(_)), "{error:?}");
    }
    let error = get(&malformed.url("/"));
    assert!(matches!(error, HttpError::Interrupted { .. }), "{error:?}");
    for address in [
        "",
        "host",
        "ftp://ana:geheim@host/",
        "http://",
        "file:///etc",
    ] {
        let error = get(address);
        assert!(matches!(error, HttpError::InvalidUrl(_)), "{error:?}");
        assert!(!error.to_string().contains("geheim"), "{error}");
    }
}

/// A TLS server with a self-signed certificate; its port. `None` without the command openssl.
fn start_self_signed_server(folder: &Path) -> Option<(Child, u16)> {
    let (key, certificate) = (folder.join("key"), folder.join("cert"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"])
        .args(["-pkeyopt", "ec_paramgen_curve:P-256"])
        .args(["-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return None;
    }
    let port = free_port();
    let server = Command::new("openssl")
        .args(["s_server", "-quiet", "-www", "-accept"])
        .arg(format!("127.0.0.1:{port}"))
        .arg("-key")
        .arg(&key)
        .arg("-cert")
        .arg(&certificate)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    Some((server, port))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn self_signed_certificate_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let Some((mut server, port)) = start_self_signed_server(dir.path()) else {
        crate::ports::testing::skip_test("a server with TLS", "needs the command openssl");
        return;
    };
    let url = format!("https://localhost:{port}/");
    let error = HttpClient::without_proxy().get(&url, &[], SECONDS, 1);
    server.kill().unwrap();
    server.wait().unwrap();
    let error = error.unwrap_err();
    let HttpError::Certificate { why, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(why.starts_with("invalid peer certificate: "), "{why}");
}

fn post(http: &HttpClient, url: &str) -> Result<FullResponse, HttpError> {
    let deadline = Duration::from_millis(500).into();
    http.post(
        url,
        &[("content-type", "text/plain")],
        b"hello".to_vec(),
        &deadline,
        100,
    )
}

#[test]
fn webhook_reaches_private_addresses_only_if_that_is_allowed() {
    let ok = "HTTP/1.1 204 No Content\r\n\r\n";
    let server = TestServer::new(&[ok, ok]);
    for name in ["127.0.0.1", "localhost"] {
        let url = format!("http://{name}:{}/hook", server.port);
        let refused = post(&HttpClient::for_webhook(false), &url).unwrap_err();
        assert!(
            matches!(refused, HttpError::ForbiddenAddress { .. }),
            "{refused}"
        );
        assert_eq!(server.requests().len(), usize::from(name == "localhost"));
        let allowed = post(&HttpClient::for_webhook(true), &url).unwrap();
        assert_eq!(allowed.status, 204);
    }
    assert!(server.requests()[0].starts_with("POST /hook HTTP/1.1\r\n"));
    assert!(server.requests()[0].ends_with("\r\n\r\nhello"));
    for url in [
        "http://10.1.2.3/",
        "http://[fd00::1]/",
        "http://100.64.0.1/",
    ] {
        let refused = post(&HttpClient::for_webhook(false), url).unwrap_err();
        assert!(
            matches!(refused, HttpError::ForbiddenAddress { .. }),
            "{url}: {refused}"
        );
    }
}

#[test]
fn webhook_never_reaches_a_metadata_service() {
    for url in [
        "http://169.254.169.254/latest",
        "http://[::ffff:169.254.169.254]/",
        "http://[fd00:ec2::254]/",
        "http://100.100.100.200/",
    ] {
        for allow_private in [false, true] {
            let refused = post(&HttpClient::for_webhook(allow_private), url).unwrap_err();
            assert!(
                matches!(refused, HttpError::ForbiddenAddress { .. }),
                "{url}: {refused}"
            );
        }
    }
}

#[test]
fn post_follows_no_redirect_and_reads_a_bounded_response() {
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}MORE", "x".repeat(5000));
    let redirect =
        "HTTP/1.1 307 T\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n";
    let server = TestServer::new(&[redirect, &endless, ""]);
    let http = HttpClient::for_webhook(true);
    assert_eq!(post(&http, &server.url("/")).unwrap().status, 307);
    assert_eq!(post(&http, &server.url("/")).unwrap().body.len(), 100);
    let silent = post(&http, &server.url("/")).unwrap_err();
    assert!(matches!(silent, HttpError::Deadline(_)), "{silent}");
}
