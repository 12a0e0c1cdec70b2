//! A host in a folder: settings, roles, templates, a store beside it, and trueup run against it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::{processes, tree};

/// trueup's own state: its times and process ids differ in every run.
pub const OWN: &[&str] = &["/etc/trueup", "/run", "/var/lib/trueup", "/var/log/trueup"];

/// A node with one role, `app`.
pub const NODE: &str = "environment: production\nroles: [app]\nstore: {url: \"dir:@STORE@\"}\n";

/// A valid manifest without the apps of the sandbox.
pub const MANIFEST: &str =
    "generation: 3\nproduction:\n  other: 4f2c9d0e1b3a5c7d9e0f1a2b3c4d5e6f70819203\n";

/// A host in a folder of its own. Dropping it removes the folder and kills its processes.
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
        // Other users need access to their files below.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // Files that tests write get the modes of a usual host, whatever umask runs the tests.
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        let base = fs::canonicalize(folder.path()).unwrap();
        let sandbox = Sandbox {
            root: base.join("root"),
            store: base.join("store"),
            folder,
        };
        let share = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/share");
        tree::overlay(&share, &sandbox.sibling("share"), &str::to_owned);
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

    /// A path of the host, on this machine.
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A path beside the host's folder.
    pub fn sibling(&self, name: &str) -> PathBuf {
        self.root.parent().unwrap().join(name)
    }

    /// `@ROOT@` and `@STORE@` in texts become the folders.
    pub fn fill(&self, text: &str) -> String {
        text.replace("@ROOT@", &self.root.display().to_string())
            .replace("@STORE@", &self.store.display().to_string())
    }

    /// The reverse, for comparisons: the folders become `@ROOT@` and `@STORE@`, and durations
    /// and process ids become words.
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
        // A worker and its unit, instead of the shipped roles.
        command.env("TRUEUP_SHARE", self.sibling("share"));
        command.env("XDG_CONFIG_HOME", self.sibling("config"));
        command
    }

    /// Runs trueup to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.run_command(self.command(args))
    }

    /// Runs a command that [`Sandbox::command`] made to its end.
    pub fn run_command(&self, mut command: Command) -> Ran {
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

    /// Checks promise 1: a plan is empty, and a pass makes no write outside of `/run`. `args` are
    /// given to both.
    pub fn assert_converged(&self, args: &[&str]) {
        let plan = self.run(&[&["plan"], args].concat());
        assert_eq!(plan.code, 0, "a second plan is not empty:\n{plan}");
        self.pass_writes_nothing(args, 0);
    }

    /// A pass that ends with `code` writes nothing outside of `/run`.
    pub fn pass_writes_nothing(&self, args: &[&str], code: i32) {
        let before = tree::fingerprints(&self.root, &["/run"]);
        let ran = self.run(&[&["converge"], args].concat());
        assert_eq!(ran.code, code, "{ran}");
        let touched = tree::changed_paths(&before, &tree::fingerprints(&self.root, &["/run"]));
        assert!(touched.is_empty(), "written though right: {touched:?}");
    }

    /// The host without trueup's own state, as a listing.
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

/// Removes the environment except the search path.
pub fn isolated(command: &mut Command) {
    command.env_clear().stdin(Stdio::null());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.current_dir("/");
}

/// Replaces a number between `before` and `after` by `N`.
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
