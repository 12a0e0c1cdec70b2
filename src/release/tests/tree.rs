//! Compares checked-out commits with the output of real git.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;
use crate::ports::worker_pool::Priority;
use crate::release::app::selection::Selection;
use crate::release::source::error::SourceError;
use crate::release::source::tree::{
    ContentSource, LargeBlobs, LfsFiles, Plan, PlanLimits, TreeWriter,
};

/// An entry of a folder in a repository.
#[derive(Debug, Clone)]
enum TestNode {
    File(Vec<u8>, bool),
    Link(&'static str),
    Submodule,
    Folder(BTreeMap<Vec<u8>, TestNode>),
}

type Nodes = BTreeMap<Vec<u8>, TestNode>;

fn write_tree(repo: &Repository, nodes: &Nodes) -> Oid {
    let mut builder = repo.treebuilder(None).unwrap();
    for (name, node) in nodes {
        let (id, mode) = match node {
            TestNode::File(body, runs) => {
                let mode = if *runs { 0o100_755 } else { 0o100_644 };
                (repo.blob(body).unwrap(), mode)
            }
            TestNode::Link(target) => (repo.blob(target.as_bytes()).unwrap(), 0o120_000),
            TestNode::Submodule => (Oid::from_str(&"4f2c9d0e".repeat(5)).unwrap(), 0o160_000),
            TestNode::Folder(inner) => (write_tree(repo, inner), 0o040_000),
        };
        builder
            .insert(OsStr::from_bytes(name).as_path(), id, mode)
            .unwrap();
    }
    builder.write().unwrap()
}

/// `insert` takes a path, but the names are arbitrary bytes.
trait AsPath {
    fn as_path(&self) -> &std::path::Path;
}

impl AsPath for OsStr {
    fn as_path(&self) -> &std::path::Path {
        std::path::Path::new(self)
    }
}

/// Everything below a folder: its type, whether it is executable, and its content.
pub(super) fn listing(top: &Path) -> BTreeMap<Vec<u8>, (char, bool, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut todo = vec![top.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let entry = if meta.is_dir() {
                todo.push(path.clone());
                ('d', true, Vec::new())
            } else if meta.is_symlink() {
                let target = std::fs::read_link(&path).unwrap();
                ('l', true, target.as_os_str().as_bytes().to_vec())
            } else {
                let runs = meta.permissions().mode() & 0o100 != 0;
                ('f', runs, std::fs::read(&path).unwrap())
            };
            let name = path.strip_prefix(top).unwrap().as_os_str().as_bytes();
            all.insert(name.to_vec(), entry);
        }
    }
    all
}

/// git's own export of a commit.
pub(super) fn git_archive(repo: &Path, id: Oid, to: &Path) {
    std::fs::create_dir(to).unwrap();
    let mut git = Command::new("git")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", to)
        .args(["-c", "safe.directory=*", "-C"])
        .arg(repo)
        .args(["archive", "--format=tar", &id.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let tar = Command::new("tar")
        .args(["-x", "--touch", "-f", "-", "-C"])
        .arg(to)
        .stderr(Stdio::null())
        .stdin(git.stdout.take().unwrap())
        .status()
        .unwrap();
    assert!(git.wait().unwrap().success() && tar.success());
}

/// A tree on disk that is updated from commit to commit.
struct MovedTree<'a> {
    bench: &'a Bench,
    folder: String,
    at: Option<(Oid, Plan)>,
}

impl MovedTree<'_> {
    fn move_to(&mut self, id: Oid, with_notes: bool) -> Result<(), SourceError> {
        let repo = &self.bench.repo;
        let host = self.bench.host();
        let limits = PlanLimits::new(&host.stop);
        let plan = match self.at.take() {
            None => {
                std::fs::create_dir(self.bench.host_path(&self.folder)).unwrap();
                Plan::full(repo, &Selection::default(), id, None, &limits)?
            }
            Some((from, plan)) => {
                let notes = with_notes.then_some(plan.metadata);
                Plan::incremental(repo, &Selection::default(), from, notes, id, None, &limits)?
            }
        };
        let folder = host.root.open_folder(&Path::new("/").join(&self.folder));
        let writer = TreeWriter {
            source: ContentSource {
                odb: &repo.odb().unwrap(),
                lfs: &LfsFiles::default(),
                max_file: u64::MAX,
                key: None,
            },
            large: &LargeBlobs::default(),
            uid: None,
            gid: None,
            pace: Priority::Normal,
            stop: &host.stop,
        };
        writer.apply(&plan, &folder.unwrap().unwrap())?;
        self.at = Some((id, plan));
        Ok(())
    }
}

const NAMES: &[&[u8]] = &[
    b"a",
    b"b",
    b"a.txt",
    b"b.txt",
    b"run.sh",
    "h\u{e9}".as_bytes(),
    b"\xff\xfe",
    b"docs",
    b"deep",
    b"!odd",
    b"with space",
];

const BODIES: &[&[u8]] = &[
    b"",
    b"one\n",
    b"one\ntwo\n",
    b"one\r\ntwo\r\n",
    b"one\r\ntwo\n",
    b"one\rtwo\n",
    b"bin\0ary\nx\n",
    b"\x01\x02\x03\n\x04",
    b"text with the old mark\n\x1a",
    b"$Id$ and $Id: 0123 $ and $Id: some, v 1.2 x $ and $Id: cut\n$\n",
    b"v $Format:%H %h|%T %t|%P|%p$ $Format:%an <%ae> %at%n%cn %ci|%cI|%as %s %% %zz$ $Format:cut",
];

const LINES: &[&str] = &[
    "*.txt text eol=crlf",
    "* text=auto eol=crlf",
    "* text=auto",
    "* -text",
    "a.txt binary",
    "[attr]dos text eol=crlf",
    "b dos",
    "*.txt crlf",
    "* eol=crlf",
    "* ident",
    "* export-subst",
    "a export-subst",
    "docs export-ignore",
    "docs/ export-ignore",
    "/a export-ignore",
    "b/** export-ignore",
    "*.sh export-ignore",
    "deep/a -export-ignore",
    "a text=input eol=crlf",
    "h\u{e9} eol=lf",
    ".gitattributes export-ignore",
];

fn node() -> impl Strategy<Value = TestNode> {
    let leaf = prop_oneof![
        6 => (prop::sample::select(BODIES), any::<bool>())
            .prop_map(|(body, runs)| TestNode::File(body.to_vec(), runs)),
        1 => prop::sample::select(vec!["a", "../b", "/etc/passwd", "no/where"]).prop_map(TestNode::Link),
        1 => Just(TestNode::Submodule),
    ];
    // Git makes no empty folders.
    leaf.prop_recursive(3, 24, 6, |inner| nodes(inner, 1).prop_map(TestNode::Folder))
}

fn nodes(inner: impl Strategy<Value = TestNode>, least: usize) -> impl Strategy<Value = Nodes> {
    let entries = prop::collection::btree_map(
        prop::sample::select(NAMES).prop_map(<[u8]>::to_vec),
        inner,
        least..5,
    );
    let attributes = prop::option::weighted(
        0.4,
        prop::collection::vec(prop::sample::select(LINES), 1..4),
    );
    (entries, attributes).prop_map(|(mut nodes, lines)| {
        if let Some(lines) = lines {
            let body = (lines.join("\n") + "\n").into_bytes();
            nodes.insert(b".gitattributes".to_vec(), TestNode::File(body, false));
        }
        nodes
    })
}

/// A history: each commit is new, or the previous one with one of its parts replaced.
fn history() -> impl Strategy<Value = Vec<Nodes>> {
    let step = (nodes(node(), 0), any::<bool>());
    prop::collection::vec(step, 2..6).prop_map(|steps| {
        let mut history: Vec<Nodes> = Vec::new();
        for (new, is_full) in steps {
            let next = match history.last() {
                Some(last) if !is_full => {
                    let mut next = last.clone();
                    next.extend(new.into_iter().take(2));
                    next
                }
                _ => new,
            };
            history.push(next);
        }
        // And back to the first commit.
        let first = history[0].clone();
        history.push(first);
        history
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn incrementally_updated_tree_matches_git_archive(
        history in history(),
        with_notes in any::<bool>(),
    ) {
        let bench = Bench::new();
        let mut moving = MovedTree { bench: &bench, folder: "moving".into(), at: None };
        for (n, nodes) in history.iter().enumerate() {
            let tree = write_tree(&bench.repo, nodes);
            let sha = bench.commit_tree(tree, Some("refs/heads/master"));
            let id = Oid::from_str(sha.as_str()).unwrap();
            moving.move_to(id, with_notes).unwrap();
            let expected = bench.dir.path().join(format!("archive{n}"));
            git_archive(bench.repo.path(), id, &expected);
            let (expected, found) = (listing(&expected), listing(&bench.host_path("moving")));
            for (path, is) in &expected {
                let shown = String::from_utf8_lossy(path);
                prop_assert_eq!(found.get(path), Some(is), "commit {} at {}", n, shown);
            }
            let folder = format!("fresh{n}");
            let fresh = bench.host_path(&folder);
            MovedTree { bench: &bench, folder, at: None }.move_to(id, false).unwrap();
            prop_assert_eq!(&found, &listing(&fresh), "commit {}", n);
            // A folder of which everything is left out stays, empty; git drops some of these.
            for (path, (kind, ..)) in &found {
                let shown = String::from_utf8_lossy(path);
                let is_expected = *kind == 'd' || expected.contains_key(path);
                prop_assert!(is_expected, "commit {}: {} is too much", n, shown);
            }
        }
    }
}

#[test]
fn planning_ends_on_stop() {
    let bench = Bench::new();
    let ids = ["1", "2"].map(|text| {
        let sha = bench.commit(&[("a", text)]);
        Oid::from_str(sha.as_str()).unwrap()
    });
    let host = bench.host();
    let limits = PlanLimits::new(&host.stop);
    let full_plan = || Plan::full(&bench.repo, &Selection::default(), ids[1], None, &limits);
    assert_eq!(full_plan().unwrap().create.len(), 1);
    host.stop.set();
    let between = Plan::incremental(
        &bench.repo,
        &Selection::default(),
        ids[0],
        None,
        ids[1],
        None,
        &limits,
    );
    for plan in [full_plan(), between] {
        let message = plan.unwrap_err().to_string();
        assert!(message.contains("stop"), "{message}");
    }
}
