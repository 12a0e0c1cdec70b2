//! Servers of a repository on the loopback interface, with git's own server side.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::run;

/// Serves the repositories in a folder over http with `git http-backend`, and returns the URL of the folder.
pub(crate) fn serve_http(folder: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let folder = folder.clone();
            std::thread::spawn(move || answer(&folder, stream.unwrap()));
        }
    });
    format!("http://{address}")
}

/// Answers one request, and closes the connection.
fn answer(folder: &Path, mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) <= 2 {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let Some(request) = head.first() else { return };
    let header = |name: &str| {
        let mut fields = head.iter().filter_map(|line| line.split_once(": "));
        let field = fields.find(|(field, _)| field.eq_ignore_ascii_case(name));
        field.map_or("", |(_, value)| value)
    };
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut body = vec![0; header("Content-Length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let mut backend = Command::new("git")
        .args(["-c", "safe.directory=*", "http-backend"])
        .env("GIT_PROJECT_ROOT", folder)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_PROTOCOL", header("Git-Protocol"))
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("Content-Type"))
        .env("HTTP_CONTENT_ENCODING", header("Content-Encoding"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    backend.stdin.take().unwrap().write_all(&body).unwrap();
    // The client reads until the connection is closed, so the answer passes through as git produces it.
    let mut output = BufReader::new(backend.stdout.take().unwrap());
    let (mut status, mut fields) = ("200 OK".to_owned(), String::new());
    loop {
        let mut line = String::new();
        if output.read_line(&mut line).unwrap() <= 2 {
            break;
        }
        match line.strip_prefix("Status: ") {
            Some(other) => other.trim().clone_into(&mut status),
            None => fields.push_str(&line),
        }
    }
    let head = format!("HTTP/1.1 {status}\r\n{fields}Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    std::io::copy(&mut output, &mut stream).unwrap();
    backend.wait().unwrap();
}

/// An sshd with a key that it accepts.
pub(crate) struct Sshd {
    process: Child,
    port: u16,
    folder: PathBuf,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Sshd {
    const PATH: &str = "/usr/sbin/sshd";

    /// `None` where it is not installed or cannot be started: only root's can switch to a user.
    pub(crate) fn start(folder: &Path) -> Option<Sshd> {
        fs::create_dir(folder).unwrap();
        let uid = std::os::unix::fs::MetadataExt::uid(&fs::metadata(folder).unwrap());
        if uid != 0 || !Path::new(Sshd::PATH).exists() {
            return None;
        }
        fs::create_dir_all("/run/sshd").unwrap();
        for key in ["host", "key"] {
            run(Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.join(key)));
        }
        let port = {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().port()
        };
        let at = folder.display();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/host\nAuthorizedKeysFile {at}/key.pub\n\
             PermitRootLogin prohibit-password\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nPidFile none\n"
        );
        fs::write(folder.join("config"), config).unwrap();
        let key = fs::read_to_string(folder.join("host.pub")).unwrap();
        fs::write(folder.join("known"), format!("[127.0.0.1]:{port} {key}")).unwrap();
        let process = Command::new(Sshd::PATH)
            .args(["-D", "-e", "-f"])
            .arg(folder.join("config"))
            .stdin(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        Some(Sshd {
            process,
            port,
            folder: folder.to_owned(),
        })
    }

    pub(crate) fn url(&self, repository: &Path) -> String {
        format!("ssh://root@127.0.0.1:{}{}", self.port, repository.display())
    }

    pub(crate) fn deploy_key(&self) -> PathBuf {
        self.folder.join("key")
    }

    pub(crate) fn known_hosts(&self) -> PathBuf {
        self.folder.join("known")
    }

    /// The command for `GIT_SSH_COMMAND`.
    pub(crate) fn client(&self) -> String {
        let at = self.folder.display();
        format!("ssh -F none -i {at}/key -o IdentitiesOnly=yes -o UserKnownHostsFile={at}/known")
    }
}
