//! What a new sha costs, from the manifest that names it to `current` that points to it, fetch
//! included, beside what the same takes with git and cp alone, and with Capistrano where it is
//! installed. In turn, round by round, so that all run on the same machine.
//!
//! The repository is fetched as hosts fetch it: over http from `git http-backend` and, as root where sshd is
//! installed, over ssh, both on the loopback interface; and, for comparison, from a path.
//!
//!     cargo bench --bench deploy -- --dir DIR            5,000 files, 100 MB, 30 of them changed
//!     cargo bench --bench deploy -- --dir DIR 20000 400
//!
//! DIR has to be on a journalled filesystem, as servers have them: an ext4 without a journal avoids
//! inodes that were freed in the last minutes, and so falsifies whatever creates many files.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark measures processes, and lays out its own folders"
)]

mod origin;
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use origin::Origin;
use server::Sshd;

const TRUEUP: &str = env!("CARGO_BIN_EXE_trueup");
const ROUNDS: usize = 11;
const WARM_UP: usize = 2;

/// The row that the others of its transport are compared with.
const BASE: &str = "git fetch + 30 files";

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

/// How the repository is reached.
#[derive(Clone)]
struct Remote {
    transport: &'static str,
    url: String,
    /// Fields of the release for access to it, one a line.
    access: String,
    /// `GIT_SSH_COMMAND`.
    ssh_command: String,
}

impl Remote {
    fn new(transport: &'static str, url: String) -> Remote {
        Remote {
            transport,
            url,
            access: String::new(),
            ssh_command: String::new(),
        }
    }

    fn over_ssh(sshd: &Sshd, repository: &Path) -> Remote {
        Remote {
            access: "deploy_key: /key\nknown_hosts: /known\n".into(),
            ssh_command: sshd.client(),
            ..Remote::new("ssh", sshd.url(repository))
        }
    }
}

/// Brings a new sha into place in one way; returns the times of its steps.
type Deploy = Box<dyn FnMut(&str) -> Vec<(&'static str, Duration)>>;

/// One of the ways that are compared.
struct Contestant {
    transport: &'static str,
    deploy: Deploy,
}

impl Contestant {
    fn new(
        transport: &'static str,
        deploy: impl FnMut(&str) -> Vec<(&'static str, Duration)> + 'static,
    ) -> Contestant {
        Contestant {
            transport,
            deploy: Box::new(deploy),
        }
    }
}

fn measure(dir: &Path, files: usize, megabytes: usize) {
    let folder = tempfile::tempdir_in(dir).unwrap();
    let top = folder.path();
    println!(
        "{files} files, {megabytes} MB, 30 changed; {}",
        filesystem(top)
    );
    let mut origin = Origin::new(top.join("origin.git"), files, megabytes);
    let sshd = Sshd::start(&top.join("sshd"));
    let http = Remote::new("http", format!("{}/origin.git", server::serve_http(top)));
    let path = Remote::new("path", origin.path.display().to_string());
    let ssh = sshd
        .as_ref()
        .map(|sshd| Remote::over_ssh(sshd, &origin.path));
    let mut contestants = Vec::new();
    for remote in [Some(&http), ssh.as_ref(), Some(&path)]
        .into_iter()
        .flatten()
    {
        contestants.extend(with_git(top, remote, &origin.head()));
        contestants.extend(with_trueup(top, remote, &origin, sshd.as_ref()));
    }
    contestants.extend(with_capistrano(top, &http, &origin.head()));
    let mut times: BTreeMap<(usize, usize), (&str, Vec<Duration>)> = BTreeMap::new();
    for round in 0..ROUNDS + WARM_UP {
        let sha = origin.commit();
        sync(top);
        // Each first in turn.
        for turn in 0..contestants.len() {
            let who = (turn + round) % contestants.len();
            let steps = (contestants[who].deploy)(&sha);
            sync(top);
            for (step, (name, time)) in steps.into_iter().enumerate() {
                if round >= WARM_UP {
                    let row = times.entry((who, step)).or_insert((name, Vec::new()));
                    row.1.push(time);
                }
            }
        }
    }
    print_times(&contestants, times);
}

fn print_times(contestants: &[Contestant], times: BTreeMap<(usize, usize), (&str, Vec<Duration>)>) {
    let mut transport = "";
    let mut base = Duration::ZERO;
    for ((who, _), (name, mut times)) in times {
        times.sort();
        let median = times[times.len() / 2];
        if contestants[who].transport != transport {
            transport = contestants[who].transport;
            println!(
                "{transport:<30} {:>8} {:>8} {:>8}   of {BASE}",
                "min ms", "median", "max"
            );
        }
        if name == BASE {
            base = median;
        }
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        println!(
            "{name:<30} {:>8.1} {:>8.1} {:>8.1}   {:.2}",
            ms(times[0]),
            ms(median),
            ms(times[times.len() - 1]),
            median.as_secs_f64() / base.as_secs_f64()
        );
    }
}

/// git alone: the fetch with its 30 files first, because the other rows are compared with it.
fn with_git(top: &Path, remote: &Remote, head: &str) -> Vec<Contestant> {
    let transport = remote.transport;
    let git = || Git::new(&top.join(format!("git-{transport}")), remote);
    let mut fetch = git();
    fetch.start(head);
    let (clone, tree) = (git(), git());
    let mut contestants = vec![Contestant::new(transport, move |sha| {
        let (fetch, all) = fetch.fetch_and_30_files(sha);
        vec![(BASE, all), ("  the fetch", fetch)]
    })];
    if transport == "http" {
        contestants.push(Contestant::new(transport, move |_| {
            vec![("git clone --depth 1", clone.clone_depth_1())]
        }));
        contestants.push(Contestant::new(transport, move |_| {
            vec![("cp -a of the tree", tree.copy_tree())]
        }));
    }
    contestants
}

/// Hosts that have deployed the first commit.
fn with_trueup(
    top: &Path,
    remote: &Remote,
    origin: &Origin,
    sshd: Option<&Sshd>,
) -> Vec<Contestant> {
    let names: &[&'static str] = match remote.transport {
        "http" => &["with a spare", "without one", "with nothing kept"],
        _ => &["with a spare"],
    };
    let contestant = |name: &&'static str| {
        let host = Machine::new(top, remote, name, sshd);
        host.deploy(&origin.head());
        let (path, top) = (origin.path.clone(), top.to_owned());
        Contestant::new(remote.transport, move |sha| {
            if host.name == "with nothing kept" {
                host.keep_nothing();
                sync(&top);
            }
            let (switched, all) = host.deploy(sha);
            host.check(&path, sha);
            vec![(host.name, switched), ("  the whole pass", all)]
        })
    };
    names.iter().map(contestant).collect()
}

fn with_capistrano(top: &Path, remote: &Remote, head: &str) -> Option<Contestant> {
    let capistrano = Capistrano::new(top, &remote.url)?;
    capistrano.deploy(head);
    Some(Contestant::new(
        "Capistrano, locally over http",
        move |sha| vec![("cap deploy", capistrano.deploy(sha))],
    ))
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// What is measured on, and whether it has a journal as far as that is known.
fn filesystem(top: &Path) -> String {
    let mount = output(
        Command::new("findmnt")
            .args(["-n", "-o", "FSTYPE,SOURCE,OPTIONS", "-T"])
            .arg(top),
    );
    let device = mount.split_whitespace().nth(1).unwrap_or_default();
    let journal = match mount.split_whitespace().next() {
        Some("ext4") => {
            match output(Command::new("dumpe2fs").args(["-h", device])).contains("has_journal") {
                true => "with a journal",
                false => "WITHOUT A JOURNAL: the figures mean nothing",
            }
        }
        _ => "journalled by its nature",
    };
    format!("on {} ({journal})", mount.trim())
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
    let started = now();
    let status = command.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}");
    now() - started
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
    fn new(top: &Path, remote: &Remote, name: &'static str, sshd: Option<&Sshd>) -> Machine {
        let root = top.join(format!("{}-{name}", remote.transport).replace(' ', "-"));
        let spare = name == "with a spare";
        let spec = format!(
            "app: shop\nrepo: {}\n{}deploy_to: /srv/shop\nkeep_releases: 3\nspare: {spare}\n",
            remote.url, remote.access
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
        if let Some(sshd) = sshd {
            fs::copy(sshd.deploy_key(), root.join("key")).unwrap();
            fs::copy(sshd.known_hosts(), root.join("known")).unwrap();
        }
        Machine { name, root }
    }

    /// Until `current` is switched, and until the pass has ended.
    fn deploy(&self, sha: &str) -> (Duration, Duration) {
        let manifest = format!("bench:\n  shop: {sha}\n");
        fs::write(self.root.join("store/sha_number.yml"), manifest).unwrap();
        let started = now();
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
        (switched.saturating_sub(started), ended - started)
    }

    /// As on a host that could prepare no tree.
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

/// The same with git and cp alone, which record and check nothing, and are not safe from a crash.
struct Git {
    folder: PathBuf,
    remote: Remote,
    /// The sha of the tree.
    at: String,
}

impl Git {
    fn new(folder: &Path, remote: &Remote) -> Git {
        Git {
            folder: folder.into(),
            remote: remote.clone(),
            at: String::new(),
        }
    }

    /// Makes a mirror and a tree of the first commit.
    fn start(&mut self, sha: &str) {
        fs::create_dir_all(self.tree()).unwrap();
        run(Command::new("git")
            .args(["init", "-q", "--bare"])
            .arg(self.mirror()));
        self.fetch();
        run(self.checkout().args(["read-tree", "-u", "--reset", sha]));
        self.at = sha.into();
    }

    fn mirror(&self) -> PathBuf {
        self.folder.join("mirror.git")
    }

    fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    fn with_access(&self, mut command: Command) -> Command {
        if !self.remote.ssh_command.is_empty() {
            command.env("GIT_SSH_COMMAND", &self.remote.ssh_command);
        }
        command
    }

    fn checkout(&self) -> Command {
        let mut command = git(&self.mirror());
        command.env("GIT_INDEX_FILE", self.folder.join("index"));
        command
            .arg("--work-tree")
            .arg(self.tree())
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
        run(self
            .with_access(git(&self.mirror()))
            .args(["fetch", "-q", &self.remote.url])
            .arg("+refs/heads/*:refs/heads/*"))
    }

    fn fetch_and_30_files(&mut self, sha: &str) -> (Duration, Duration) {
        let fetch = self.fetch();
        let files = run(self
            .checkout()
            .args(["read-tree", "-m", "-u", &self.at, sha]));
        self.at = sha.into();
        (fetch, fetch + files)
    }

    fn clone_depth_1(&self) -> Duration {
        let clone = self.folder.join("clone");
        let time = run(self
            .with_access(Command::new("git"))
            .args(["clone", "-q", "--depth", "1", &self.remote.url])
            .arg(&clone));
        fs::remove_dir_all(clone).unwrap();
        time
    }

    fn copy_tree(&self) -> Duration {
        let copy = self.folder.join("copy");
        let time = run(Command::new("cp")
            .args(["-a", "--reflink=never"])
            .args([&self.tree(), &copy]));
        fs::remove_dir_all(copy).unwrap();
        time
    }
}

/// The real Capistrano, on this host and without ssh.
struct Capistrano {
    project: PathBuf,
    deploy_to: PathBuf,
}

impl Capistrano {
    /// `None` where it is not installed.
    fn new(top: &Path, url: &str) -> Option<Capistrano> {
        let project = top.join("capistrano");
        let deploy_to = top.join("capistrano-app");
        fs::create_dir_all(project.join("config/deploy")).unwrap();
        fs::create_dir_all(deploy_to.join("tmp")).unwrap();
        let deploy = format!(
            "set :application, 'shop'\nset :repo_url, '{url}'\nset :branch, ENV.fetch('SHA')\n\
             set :deploy_to, '{to}'\nset :tmp_dir, '{to}/tmp'\nset :keep_releases, 3\n\
             set :format, :simpletext\nset :log_level, :error\n",
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
        let started = now();
        run(Command::new("cap")
            .args(["here", "deploy"])
            .env("SHA", sha)
            .current_dir(&self.project));
        switched(&self.deploy_to.join("current")).saturating_sub(started)
    }
}
