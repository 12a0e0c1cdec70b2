//! One host in a folder: settings, roles, templates, a store beside it, and trueup run against it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::{processes, tree};

/// What trueup keeps for itself; its times and process ids are different in every run.
pub const OWN: &[&str] = &["/etc/trueup", "/run", "/var/lib/trueup", "/var/log/trueup"];

/// A node with one role, `app`.
pub const NODE: &str = "environment: production\nroles: [app]\nstore: {url: \"dir:@STORE@\"}\n";

/// A manifest that is good and says nothing about the apps of the sandbox.
pub const MANIFEST: &str =
    "generation: 3\nproduction:\n  other: 4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203\n";

/// A host in a folder of its own, gone with all its processes when it is dropped.
pub struct Sandbox {
    /// Kept for its end.
    folder: tempfile::TempDir,
    pub root: PathBuf,
    pub store: PathBuf,
}

impl Sandbox {
    /// An empty host and an empty store.
    pub fn empty() -> Sandbox {
        let folder = tempfile::Builder::new()
            .prefix("trueup-it-")
            .tempdir()
            .unwrap();
        // Others must get through to what is theirs.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // Whoever runs the tests: what they write by hand is as on a usual host.
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        let base = fs::canonicalize(folder.path()).unwrap();
        let sandbox = Sandbox {
            root: base.join("root"),
            store: base.join("store"),
            folder,
        };
        let share = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/share");
        tree::overlay(&share, &sandbox.beside("share"), &str::to_owned);
        for path in [&sandbox.root, &sandbox.store] {
            fs::create_dir(path).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        sandbox
    }

    /// A host whose only role has these resources (the text below `resources:`, not indented).
    pub fn of(resources: &str) -> Sandbox {
        let sandbox = Sandbox::empty();
        sandbox.write("/etc/trueup/node.yml", NODE);
        sandbox.role(&format!("resources:\n{resources}"));
        sandbox.manifest(MANIFEST);
        sandbox
    }

    /// Writes the role `app`.
    pub fn role(&self, text: &str) {
        self.write("/etc/trueup/roles/app.yml", text);
    }

    pub fn template(&self, name: &str, text: &str) {
        self.write(&format!("/etc/trueup/templates/{name}"), text);
    }

    /// Puts the manifest into the store.
    pub fn manifest(&self, text: impl AsRef<[u8]>) {
        fs::write(self.store.join("sha_number.yml"), text).unwrap();
    }

    /// Writes a file of the host, with the folders above it.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, self.fill(text)).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_default()
    }

    /// Where a path of the host is.
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A folder beside the host, for what a test needs besides.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.root.parent().unwrap().join(name)
    }

    /// `@ROOT@` and `@STORE@` in texts become the folders.
    pub fn fill(&self, text: &str) -> String {
        text.replace("@ROOT@", &self.root.display().to_string())
            .replace("@STORE@", &self.store.display().to_string())
    }

    /// The other way round, for comparing: the folders become `@ROOT@` and `@STORE@`, and how long
    /// something took and which process it was become words.
    pub fn mask(&self, text: &str) -> String {
        let text = text
            .replace(&self.root.display().to_string(), "@ROOT@")
            .replace(&self.store.display().to_string(), "@STORE@");
        masked_number(&masked_number(&text, "(", " ms)"), "(process ", ")")
    }

    /// trueup on this host, ready for more arguments.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(args).arg("--root").arg(&self.root);
        isolated(&mut command);
        // A worker and its unit; the shipped roles are none of these tests' business.
        command.env("TRUEUP_SHARE", self.beside("share"));
        command
    }

    /// Runs trueup to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.ran(self.command(args))
    }

    /// Runs a command that [`Sandbox::command`] made to its end.
    pub fn ran(&self, mut command: Command) -> Ran {
        Ran::of(&command.output().unwrap(), self)
    }

    pub fn converge(&self) -> Ran {
        self.run(&["converge"])
    }

    /// A pass that must end with 0.
    pub fn converged(&self) -> Ran {
        let ran = self.converge();
        assert_eq!(ran.code, 0, "{ran}");
        ran
    }

    /// Holds promise 1: a plan is empty, and a pass makes no write outside of `/run`. `args` are
    /// given to both.
    pub fn is_right(&self, args: &[&str]) {
        let plan = self.run(&[&["plan"], args].concat());
        assert_eq!(plan.code, 0, "a second plan is not empty:\n{plan}");
        self.pass_writes_nothing(args, 0);
    }

    /// A pass that ends with `code` writes nothing outside of `/run`.
    pub fn pass_writes_nothing(&self, args: &[&str], code: i32) {
        let before = tree::traces(&self.root, &["/run"]);
        let ran = self.run(&[&["converge"], args].concat());
        assert_eq!(ran.code, code, "{ran}");
        let touched = tree::touched(&before, &tree::traces(&self.root, &["/run"]));
        assert!(touched.is_empty(), "written though right: {touched:?}");
    }

    /// The host without what trueup keeps for itself, as a listing.
    pub fn tree(&self) -> String {
        self.mask(&tree::listing(&self.root, OWN))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        processes::end_all(&self.root);
        if std::thread::panicking() && std::env::var_os("KEEP").is_some() {
            self.folder.disable_cleanup(true);
            eprintln!("kept: {}", self.folder.path().display());
        }
    }
}

/// The trueup that is tested.
pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_trueup"))
}

/// Nothing of the machine's own surroundings but the search path.
pub fn isolated(command: &mut Command) {
    command.env_clear().stdin(Stdio::null());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.current_dir("/");
}

/// `before` and `after` round a number are kept, the number is not.
fn masked_number(text: &str, before: &str, after: &str) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(before) {
        let (head, tail) = rest.split_at(at + before.len());
        done += head;
        let digits = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits > 0 && tail[digits..].starts_with(after) {
            done += "N";
            rest = &tail[digits..];
        } else {
            rest = tail;
        }
    }
    done + rest
}

/// How a run of trueup ended.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Negative: killed by that signal.
    pub code: i32,
    /// Masked, see [`Sandbox::mask`].
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: &Output, sandbox: &Sandbox) -> Ran {
        use std::os::unix::process::ExitStatusExt;
        let text = |bytes: &[u8]| sandbox.mask(&String::from_utf8_lossy(bytes));
        let signal = || -output.status.signal().unwrap_or(0);
        Ran {
            code: output.status.code().unwrap_or_else(signal),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    #[allow(dead_code, reason = "for tests of documents")]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self}"))
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {}\n{}{}", self.code, self.out, self.err)
    }
}
