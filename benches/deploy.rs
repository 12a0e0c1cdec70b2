//! What a new sha costs, from the manifest that names it to `current` that points to it, fetch
//! included, beside what the same takes with git and cp alone, and with Capistrano where it is
//! installed. In turn, round by round, so that all see the same machine.
//!
//!     cargo bench --bench deploy -- --dir DIR            5,000 files, 100 MB, 30 of them changed
//!     cargo bench --bench deploy -- --dir DIR 20000 400
//!
//! DIR has to be on a journalled filesystem, as servers have them: an ext4 without a journal avoids
//! inodes that were freed in the last minutes, and so falsifies all that makes many files anew.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark measures processes, and lays out its own folders"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const TRUEUP: &str = env!("CARGO_BIN_EXE_trueup");
const ROUNDS: usize = 11;
const WARM_UP: usize = 2;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let (mut dir, mut numbers) = (std::env::temp_dir(), Vec::new());
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--dir" => dir = args.next().unwrap().into(),
            number => numbers.push(number.parse::<usize>().unwrap()),
        }
    }
    let [files, megabytes] = numbers[..] else {
        return measure(&dir, 5_000, 100);
    };
    measure(&dir, files, megabytes);
}

fn measure(dir: &Path, files: usize, megabytes: usize) {
    let folder = tempfile::tempdir_in(dir).unwrap();
    let top = folder.path();
    println!(
        "{files} files, {megabytes} MB, 30 changed; {}",
        filesystem(top)
    );
    let mut origin = Origin::new(top.join("origin.git"), files, megabytes);
    let first = origin.head();
    let hosts = ["with a spare", "without one", "with nothing kept"];
    let hosts = hosts.map(|name| Machine::new(top, &origin.path, name));
    let mut git = Git::new(top, &origin.path, &first);
    let capistrano = Capistrano::new(top, &origin.path);
    if let Some(capistrano) = &capistrano {
        capistrano.deploy(&first);
    }
    for host in &hosts {
        host.deploy(&first);
    }
    hosts[2].keep_nothing();
    let mut times: BTreeMap<(usize, &str), Vec<Duration>> = BTreeMap::new();
    for round in 0..ROUNDS + WARM_UP {
        let sha = origin.commit();
        sync(top);
        let mut note = |place, name, time| {
            if round >= WARM_UP {
                times.entry((place, name)).or_default().push(time);
            }
        };
        // Each first in turn.
        for turn in 0..5 {
            match (turn + round) % 5 {
                0 => {
                    let (fetch, all) = git.fetch_and_30_files(&sha);
                    note(0, "git fetch", fetch);
                    note(1, "git fetch + 30 files", all);
                }
                1 => note(2, "git clone --depth 1", git.clone_depth_1()),
                2 => note(3, "cp -a of the tree", git.copied()),
                3 => {
                    if let Some(capistrano) = &capistrano {
                        note(4, "Capistrano, locally", capistrano.deploy(&sha));
                    }
                }
                _ => {
                    for (place, host) in hosts.iter().enumerate() {
                        sync(top);
                        let (switched, all) = host.deploy(&sha);
                        note(5 + 2 * place, host.name, switched);
                        note(6 + 2 * place, "  the whole pass", all);
                        host.check(&origin.path, &sha);
                    }
                }
            }
            sync(top);
        }
        hosts[2].keep_nothing();
        sync(top);
    }
    let base = median(&times[&(1, "git fetch + 30 files")]);
    println!(
        "{:<30} {:>8} {:>8} {:>8}   of fetch + 30 files",
        "ms", "min", "median", "max"
    );
    for ((_, name), times) in &mut times {
        times.sort();
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        println!(
            "{name:<30} {:>8.1} {:>8.1} {:>8.1}   {:.2}",
            ms(times[0]),
            ms(median(times)),
            ms(times[times.len() - 1]),
            median(times).as_secs_f64() / base.as_secs_f64()
        );
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[times.len() / 2]
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// What is measured on, and whether it has a journal as far as that can be told.
fn filesystem(top: &Path) -> String {
    let seen = output(
        Command::new("findmnt")
            .args(["-n", "-o", "FSTYPE,SOURCE,OPTIONS", "-T"])
            .arg(top),
    );
    let device = seen.split_whitespace().nth(1).unwrap_or_default();
    let journal = match seen.split_whitespace().next() {
        Some("ext4") => {
            match output(Command::new("dumpe2fs").args(["-h", device])).contains("has_journal") {
                true => "with a journal",
                false => "WITHOUT A JOURNAL: the figures mean nothing",
            }
        }
        _ => "journalled by its nature",
    };
    format!("on {} ({journal})", seen.trim())
}

/// When this link was made.
fn switched(current: &Path) -> Duration {
    let current = fs::symlink_metadata(current).unwrap();
    Duration::new(
        current.ctime().try_into().unwrap(),
        current.ctime_nsec().try_into().unwrap(),
    )
}

fn output(command: &mut Command) -> String {
    let output = command.stderr(Stdio::null()).output();
    output.map_or(String::new(), |output| {
        String::from_utf8_lossy(&output.stdout).into_owned()
    })
}

fn run(command: &mut Command) -> Duration {
    let begun = now();
    let status = command.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}");
    now() - begun
}

fn git(dir: &Path) -> Command {
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "--git-dir"]).arg(dir);
    git
}

fn sync(top: &Path) {
    run(Command::new("sync").arg("-f").arg(top));
}

/// A sandbox host that deploys one app.
struct Machine {
    name: &'static str,
    root: PathBuf,
}

impl Machine {
    fn new(top: &Path, origin: &Path, name: &'static str) -> Machine {
        let root = top.join(name.replace(' ', "-"));
        let spare = name == "with a spare";
        let spec = format!(
            "app: shop\nrepo: {}\ndeploy_to: /srv/shop\nkeep_releases: 3\nspare: {spare}\n",
            origin.display()
        );
        let put = |path: &str, body: String| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, body).unwrap();
        };
        let indented = spec.replace('\n', "\n      ");
        put(
            "etc/trueup/roles/bench.yml",
            format!("resources:\n  - release:\n      {}\n", indented.trim_end()),
        );
        put(
            "etc/trueup/node.yml",
            format!(
                "environment: bench\nroles: [bench]\nstore: {{url: \"dir:{}/store\"}}\n",
                root.display()
            ),
        );
        fs::create_dir(root.join("store")).unwrap();
        Machine { name, root }
    }

    /// Until `current` is switched, and until the pass has ended.
    fn deploy(&self, sha: &str) -> (Duration, Duration) {
        let manifest = format!("bench:\n  shop: {sha}\n");
        fs::write(self.root.join("store/sha_number.yml"), manifest).unwrap();
        let begun = now();
        let output = Command::new(TRUEUP)
            .arg("--root")
            .arg(&self.root)
            .arg("converge")
            .output()
            .unwrap();
        let ended = now();
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let switched = switched(&self.root.join("srv/shop/current"));
        (switched.saturating_sub(begun), ended - begun)
    }

    /// As on a host on which no tree could be made ready.
    fn keep_nothing(&self) {
        fs::remove_dir_all(self.root.join("srv/shop/releases/.trueup")).unwrap();
    }

    /// The active release is exactly the commit.
    fn check(&self, origin: &Path, sha: &str) {
        let tree = self.root.join("srv/shop/current/");
        let index = self.root.join("index");
        let git = || {
            let mut git = git(origin);
            git.arg("--work-tree")
                .arg(&tree)
                .env("GIT_INDEX_FILE", &index);
            git
        };
        run(git().args(["-c", "core.bare=false", "read-tree", sha]));
        let status = output(git().args(["-c", "core.bare=false", "status", "--porcelain"]));
        assert_eq!(status, "?? REVISION\n", "{}", self.name);
        fs::remove_file(index).unwrap();
    }
}

/// The same with git and cp alone: nothing is recorded, checked, or safe from a crash.
struct Git {
    top: PathBuf,
    mirror: PathBuf,
    tree: PathBuf,
    copy: PathBuf,
    at: String,
}

impl Git {
    fn new(top: &Path, origin: &Path, sha: &str) -> Git {
        let (mirror, tree) = (top.join("mirror.git"), top.join("tree"));
        run(Command::new("git")
            .args(["init", "-q", "--bare"])
            .arg(&mirror));
        let url = format!("file://{}", origin.display());
        run(git(&mirror).args(["remote", "add", "--mirror=fetch", "origin", &url]));
        run(git(&mirror).args(["fetch", "-q", "origin"]));
        fs::create_dir(&tree).unwrap();
        let copy = top.join("copy");
        let git = Git {
            top: top.into(),
            mirror,
            tree,
            copy,
            at: sha.into(),
        };
        run(git
            .checkout(&git.tree)
            .args(["read-tree", "-u", "--reset", sha]));
        git
    }

    fn checkout(&self, tree: &Path) -> Command {
        let mut command = git(&self.mirror);
        command.env("GIT_INDEX_FILE", self.top.join("index"));
        command
            .arg("--work-tree")
            .arg(tree)
            .args(["-c", "core.bare=false"]);
        command.args([
            "-c",
            "core.trustctime=false",
            "-c",
            "core.checkStat=minimal",
        ]);
        command
    }

    fn fetch(&self) -> Duration {
        run(git(&self.mirror).args(["fetch", "-q", "origin", "+refs/heads/*:refs/heads/*"]))
    }

    fn fetch_and_30_files(&mut self, sha: &str) -> (Duration, Duration) {
        let fetch = self.fetch();
        let files = run(self
            .checkout(&self.tree)
            .args(["read-tree", "-m", "-u", &self.at, sha]));
        self.at = sha.into();
        (fetch, fetch + files)
    }

    fn clone_depth_1(&self) -> Duration {
        let to = self.top.join("clone");
        let origin = format!("file://{}", self.top.join("origin.git").display());
        let time = run(Command::new("git")
            .args(["clone", "-q", "--depth", "1", &origin])
            .arg(&to));
        fs::remove_dir_all(to).unwrap();
        time
    }

    fn copied(&self) -> Duration {
        let time = run(Command::new("cp")
            .args(["-a", "--reflink=never"])
            .args([&self.tree, &self.copy]));
        fs::remove_dir_all(&self.copy).unwrap();
        time
    }
}

/// The real Capistrano, on this host and without ssh.
struct Capistrano {
    project: PathBuf,
    deploy_to: PathBuf,
}

impl Capistrano {
    /// Nothing where it is not installed.
    fn new(top: &Path, origin: &Path) -> Option<Capistrano> {
        let project = top.join("capistrano");
        let deploy_to = top.join("capistrano-app");
        fs::create_dir_all(project.join("config/deploy")).unwrap();
        fs::create_dir_all(deploy_to.join("tmp")).unwrap();
        let deploy = format!(
            "set :application, 'shop'\nset :repo_url, 'file://{}'\nset :branch, ENV.fetch('SHA')\n\
             set :deploy_to, '{to}'\nset :tmp_dir, '{to}/tmp'\nset :keep_releases, 3\n\
             set :format, :simpletext\nset :log_level, :error\n",
            origin.display(),
            to = deploy_to.display()
        );
        let capfile = "require 'capistrano/setup'\nrequire 'capistrano/deploy'\n\
                       require 'capistrano/scm/git'\ninstall_plugin Capistrano::SCM::Git\n";
        let here = "server :local, roles: %w[app]\n";
        for (name, text) in [
            ("Capfile", capfile),
            ("config/deploy.rb", &deploy),
            ("config/deploy/here.rb", here),
        ] {
            fs::write(project.join(name), text).unwrap();
        }
        let there = Command::new("cap").arg("--version").output();
        there
            .is_ok_and(|output| output.status.success())
            .then_some(Capistrano { project, deploy_to })
    }

    /// Until `current` is switched.
    fn deploy(&self, sha: &str) -> Duration {
        let begun = now();
        run(Command::new("cap")
            .args(["here", "deploy"])
            .env("SHA", sha)
            .current_dir(&self.project));
        switched(&self.deploy_to.join("current")).saturating_sub(begun)
    }
}

/// The repository, which gets a commit of 30 touched files at a time: 26 changed, 2 added, 2 removed.
struct Origin {
    path: PathBuf,
    random: Random,
    files: Vec<(String, usize)>,
    commits: u64,
}

impl Origin {
    fn new(path: PathBuf, files: usize, megabytes: usize) -> Origin {
        run(Command::new("git")
            .args(["init", "-q", "--bare", "-b", "main"])
            .arg(&path));
        let mut random = Random(7);
        let folders: Vec<String> = (0..12 * (files / 150).max(2))
            .map(|n| {
                let deep = (0..n % 4).map(|level| format!("/d{}", (n * 7 + level) % 40));
                format!("part{}{}", n % 12, deep.collect::<String>())
            })
            .collect();
        // Many small files and a few large ones.
        let raw: Vec<f64> = (0..files).map(|_| (random.normal() * 1.7).exp()).collect();
        #[allow(clippy::cast_precision_loss)]
        let scale = megabytes as f64 * 1e6 / raw.iter().sum::<f64>();
        let files = raw.iter().enumerate().map(|(n, raw)| {
            let folder = &folders[random.below(folders.len())];
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let size = ((raw * scale) as usize).clamp(20, 8_000_000);
            (
                format!(
                    "{folder}/file_{n}.{}",
                    if n % 7 == 0 { "png" } else { "rb" }
                ),
                size,
            )
        });
        let files = files.collect();
        let mut origin = Origin {
            path,
            random,
            files,
            commits: 0,
        };
        let all: Vec<usize> = (0..origin.files.len()).collect();
        origin.import(&all, &[]);
        run(git(&origin.path).args(["repack", "-adfq"]));
        run(git(&origin.path).args(["config", "uploadpack.allowAnySHA1InWant", "true"]));
        origin
    }

    fn head(&self) -> String {
        output(git(&self.path).args(["rev-parse", "main"]))
            .trim()
            .into()
    }

    fn commit(&mut self) -> String {
        let mut gone = Vec::new();
        for _ in 0..2 {
            let n = self.random.below(self.files.len());
            gone.push(self.files.swap_remove(n).0);
        }
        let mut touched: Vec<usize> = Vec::new();
        while touched.len() < 26 {
            let n = self.random.below(self.files.len());
            if !touched.contains(&n) {
                touched.push(n);
            }
        }
        for n in 0..2 {
            touched.push(self.files.len());
            let name = format!("part{n}/new_{}_{n}.rb", self.commits);
            self.files.push((name, 5_000));
        }
        self.import(&touched, &gone);
        self.head()
    }

    fn import(&mut self, touched: &[usize], gone: &[String]) {
        let mut child = git(&self.path)
            .args(["fast-import", "--quiet", "--date-format=raw"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut to = std::io::BufWriter::new(child.stdin.take().unwrap());
        let time = 1_704_067_200 + 3600 * self.commits;
        write!(
            to,
            "commit refs/heads/main\ncommitter B <b@example.test> {time} +0000\ndata 1\nc\n"
        )
        .unwrap();
        if self.commits > 0 {
            to.write_all(b"from refs/heads/main^0\n").unwrap();
        }
        for path in gone {
            writeln!(to, "D {path}").unwrap();
        }
        for n in touched {
            let (path, size) = &self.files[*n];
            let mode = if n % 50 == 7 { "100755" } else { "100644" };
            let body = self.random.content(*size, path.ends_with("png"));
            write!(to, "M {mode} inline {path}\ndata {}\n", body.len()).unwrap();
            to.write_all(&body).unwrap();
            to.write_all(b"\n").unwrap();
        }
        drop(to);
        assert!(child.wait().unwrap().success());
        self.commits += 1;
    }
}

/// A generator that gives the same repository every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn normal(&mut self) -> f64 {
        #[allow(clippy::cast_precision_loss)]
        let sum: f64 = (0..12)
            .map(|_| (self.next() >> 11) as f64 / (1_u64 << 53) as f64)
            .sum();
        sum - 6.0
    }

    /// Text that shrinks to about a quarter, or bytes that do not shrink.
    fn content(&mut self, size: usize, packed: bool) -> Vec<u8> {
        const WORDS: [&str; 16] = [
            "def",
            "end",
            "return",
            "class",
            "module",
            "if",
            "else",
            "price",
            "order",
            "customer",
            "render",
            "params",
            "self",
            "include",
            "validates",
            "belongs_to",
        ];
        let mut body = Vec::with_capacity(size + 16);
        while body.len() < size {
            let n = self.next();
            if packed {
                body.extend_from_slice(&n.to_le_bytes());
            } else {
                body.extend_from_slice(WORDS[(n % 16) as usize].as_bytes());
                write!(
                    body,
                    "_{:x}{}",
                    (n >> 8) & 0xfff,
                    if n.is_multiple_of(5) { '\n' } else { ' ' }
                )
                .unwrap();
            }
        }
        body.truncate(size);
        body
    }
}
