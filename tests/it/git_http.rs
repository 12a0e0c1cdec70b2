//! Git over http uses the proxy of the environment, and over https requires a certificate
//! that an authority of the host has signed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::sandbox::Sandbox;

const SHA: &str = "4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203";

/// The output of a pass that fails to fetch from `repo`.
fn converge_output(repo: &str, env: &[(&str, &str)]) -> String {
    let release = format!("- release: {{app: shop, repo: \"{repo}\", sha: {SHA}}}");
    let sandbox = Sandbox::of(&release);
    let mut command = sandbox.command(&["converge"]);
    command.envs(env.iter().copied());
    let ran = sandbox.run_command(command);
    assert_eq!(ran.code, 1, "{ran}");
    ran.to_string()
}

#[test]
fn git_over_http_uses_the_proxy_of_the_environment() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let request = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let n = stream.read(&mut request).unwrap();
        let _ = stream.write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
        String::from_utf8_lossy(&request[..n]).into_owned()
    });
    let repo = "http://git.example.invalid/shop.git";
    let output = converge_output(repo, &[("http_proxy", &proxy)]);
    assert!(output.contains("the server answered 404"), "{output}");
    let request = request.join().unwrap();
    let line = format!("GET {repo}/info/refs?service=git-upload-pack HTTP/1.1\r\n");
    assert!(request.starts_with(&line), "{request}");
}

struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn git_certificate_must_be_signed_by_an_authority_of_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let (key, certificate) = (dir.path().join("key"), dir.path().join("cert"));
    let status = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj"])
        .args(["/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let _server = KilledOnDrop(
        Command::new("openssl")
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
            .unwrap(),
    );
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    let repo = format!("https://localhost:{port}/shop.git");
    let untrusted = converge_output(&repo, &[]);
    assert!(
        untrusted.contains("has signed its TLS certificate"),
        "{untrusted}"
    );
    let file = certificate.to_str().unwrap();
    let trusted = converge_output(&repo, &[("SSL_CERT_FILE", file)]);
    assert!(
        trusted.contains("the server is not a git server"),
        "{trusted}"
    );
}
