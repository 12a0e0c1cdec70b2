//! Repositories and servers of git for tests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Git;

/// A repository, a home, and git as that home's user.
pub(crate) struct GitBench {
    pub(super) dir: tempfile::TempDir,
}

pub(super) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl GitBench {
    pub(crate) fn new() -> GitBench {
        let bench = GitBench {
            dir: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(bench.path("home")).unwrap();
        let repository = bench.path("srv/shop.git");
        std::fs::create_dir_all(&repository).unwrap();
        bench.git(&["init", "--quiet", "--initial-branch=main"]);
        bench.git(&["config", "uploadpack.allowFilter", "true"]);
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.path("srv/shop.git")
    }

    pub(crate) fn git(&self, words: &[&str]) -> String {
        self.git_with_input(words, b"")
    }

    pub(crate) fn git_with_input(&self, words: &[&str], input: &[u8]) -> String {
        let file = self.path("input");
        std::fs::write(&file, input).unwrap();
        let mut command = Command::new("git");
        command
            .arg("-C")
            .arg(self.repository())
            .args(words)
            .stdin(std::fs::File::open(file).unwrap())
            .env("HOME", self.path("home"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_NAME", "Ana")
            .env("GIT_AUTHOR_EMAIL", "ana@example.invalid")
            .env("GIT_COMMITTER_NAME", "Ana")
            .env("GIT_COMMITTER_EMAIL", "ana@example.invalid");
        run(&mut command)
    }

    /// Commits one file.
    pub(crate) fn commit(&self, file: &str, content: &str, subject: &str) -> String {
        let path = self.repository().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "-m", subject]);
        self.git(&["rev-parse", "HEAD"])
    }

    pub(crate) fn operator(&self, more: &[(&str, &str)]) -> Git {
        let home = self.path("home").into_os_string();
        let path = std::env::var_os("PATH").unwrap();
        let own = [("HOME".into(), home), ("PATH".into(), path)];
        let no_system = ("GIT_CONFIG_NOSYSTEM".into(), "1".into());
        let more = more.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        let all = own.into_iter().chain([no_system]).chain(more);
        Git::new(all, Duration::from_secs(60))
    }
}

/// `git http-backend` on a port of its own; `dumb`: the plain files instead, as a simple web server has them.
pub(crate) fn http_server(folder: PathBuf, dumb: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let folder = folder.clone();
            std::thread::spawn(move || answer(&folder, stream.unwrap(), dumb));
        }
    });
    port
}

fn answer(folder: &Path, mut stream: TcpStream, dumb: bool) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) <= 2 {
            break;
        }
        head.push(line.trim().to_lowercase());
    }
    let Some(first) = head.first().cloned() else {
        return;
    };
    let header = |name: &str| {
        let line = head.iter().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    let target = first.split(' ').nth(1).unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut body = vec![0; header("content-length:").parse().unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    if header("transfer-encoding:") == "chunked" {
        body = read_chunks(&mut reader);
    }
    if dumb {
        let file = std::fs::read(folder.join(path.trim_start_matches('/')));
        let (status, body) = match file {
            Ok(body) => ("200 OK", body),
            Err(_) => ("404 No", Vec::new()),
        };
        let length = body.len();
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        let _ = stream.write_all(&body);
        return;
    }
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", folder)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env(
            "REQUEST_METHOD",
            first.split(' ').next().unwrap().to_uppercase(),
        )
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type:"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding:"))
        .env("GIT_PROTOCOL", header("git-protocol:"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    backend.stdin.take().unwrap().write_all(&body).unwrap();
    let output = backend.wait_with_output().unwrap().stdout;
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n");
    let _ = stream.write_all(&output);
}

/// A long request of git comes in chunks.
fn read_chunks(reader: &mut impl BufRead) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        let start = body.len();
        body.resize(start + size + 2, 0);
        reader.read_exact(&mut body[start..]).unwrap();
        body.truncate(start + size);
        if size == 0 {
            return body;
        }
    }
}
