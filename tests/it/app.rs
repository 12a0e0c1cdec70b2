//! An app in a sandbox that really serves: a git repository beside the host, and Python's web
//! server, run by the sandbox's process supervisor, which answers with the files of its release.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use crate::sandbox::{Ran, Sandbox, isolated};

/// The app: it answers with the status and the page of its release, and sends its sha.
const SERVER: &str = r#"
import http.server, os, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        # Like Rails with `config.hosts` and `force_ssl`.
        strict = os.path.exists("host")
        if strict and self.headers["Host"] != open("host").read():
            return self.send_error(403, "Blocked host")
        if strict and self.headers["X-Forwarded-Proto"] != "https":
            self.send_response(301)
            self.send_header("Location", "https://shop.example.com/up")
            return self.end_headers()
        self.send_response(int(open("status").read()))
        self.send_header("X-Revision", open("REVISION").read().strip())
        self.end_headers()
        self.wfile.write(open("page").read().encode())
    def log_message(self, *args):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
"#;

pub struct App {
    pub sandbox: Sandbox,
    pub repo: PathBuf,
    port: u16,
}

impl App {
    pub fn new(role: &str) -> App {
        let sandbox = Sandbox::empty();
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = port.local_addr().unwrap().port();
        let repo = sandbox.sibling("repo");
        sandbox.write("/etc/trueup/node.yml", crate::sandbox::NODE);
        let app = App {
            sandbox,
            repo,
            port,
        };
        app.role(role);
        app.git(&["init", "-q", "-b", "main", "."]);
        app
    }

    /// How many processes of this host have a command line that begins like this.
    pub fn processes(&self, line: &str) -> usize {
        self.process_ids(line).len()
    }

    pub fn process_ids(&self, line: &str) -> Vec<i32> {
        let ids = std::fs::read_dir("/proc").unwrap().flatten();
        let root = self.sandbox.at("/");
        let is_here = |id: &std::path::Path| {
            std::fs::read_link(id.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&root))
                && std::fs::read(id.join("cmdline")).is_ok_and(|argv| {
                    argv.split(|b| *b == 0)
                        .collect::<Vec<_>>()
                        .join(&b' ')
                        .starts_with(line.as_bytes())
                })
        };
        ids.filter(|id| is_here(&id.path()))
            .filter_map(|id| id.file_name().to_str()?.parse().ok())
            .collect()
    }

    pub fn with_port(&self, text: &str) -> String {
        text.replace("@PORT@", &self.port.to_string())
    }

    /// Writes the role, with the app's port and repository.
    pub fn role(&self, role: &str) {
        let role = self.with_port(role);
        let role = role.replace("@REPO@", &self.repo.display().to_string());
        self.sandbox.role(&role);
    }

    pub fn git(&self, args: &[&str]) -> String {
        std::fs::create_dir_all(&self.repo).unwrap();
        let mut command = Command::new("git");
        isolated(&mut command);
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example"];
        let output = command
            .current_dir(&self.repo)
            .args(identity)
            .args(args)
            .output()
            .unwrap();
        assert!(output.status.success(), "git {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Commits an app with this start command and answer, publishes it and returns its sha.
    pub fn publish_commit(&self, run: &str, status: &str, page: &str) -> String {
        let files = [
            ("web.py", SERVER),
            ("run.sh", run),
            ("status", status),
            ("page", page),
        ];
        for (name, text) in files {
            std::fs::write(self.repo.join(name), text).unwrap();
        }
        self.git(&["add", "."]);
        self.git(&["commit", "-q", "-m", page]);
        let sha = self.git(&["rev-parse", "HEAD"]);
        self.publish(&sha);
        sha
    }

    /// Commits another page of the app, and returns the sha.
    pub fn commit_page(&self, page: &str) -> String {
        std::fs::write(self.repo.join("page"), page).unwrap();
        self.git(&["commit", "-q", "-a", "-m", page]);
        self.git(&["rev-parse", "HEAD"])
    }

    pub fn publish(&self, sha: &str) {
        self.sandbox
            .manifest(format!("production: {{shop: {sha}}}\n"));
    }

    pub fn converge(&self, code: i32) -> Ran {
        let ran = self.sandbox.converge();
        assert_eq!(ran.code, code, "{ran}");
        ran
    }

    pub fn current(&self) -> String {
        let link = std::fs::read_link(self.sandbox.at("/srv/shop/current")).unwrap();
        link.display().to_string()
    }

    /// The sha in the folder where the main process of the service runs.
    pub fn running(&self) -> String {
        self.sandbox
            .read("/srv/shop/current/REVISION")
            .trim()
            .to_owned()
    }
}

/// Records its start and serves until it is killed.
pub const GOOD: &str = "cat REVISION >> ../../shared/starts; exec python3 web.py $1";
