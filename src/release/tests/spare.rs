//! Trees that are kept ready: they cost the next release only what differs, and never give it
//! anything that is not in its commit.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::release::materialise::{drop_spare, make_spare, spare_is_ready};
use crate::release::{Deployment, mirror};

/// What runs when a release is serving.
pub(super) fn idle(spec: &Spec, host: &Host) -> Result<(), Failure> {
    with(spec, host, |d| {
        let mirror = mirror::with_commit(d)?;
        make_spare(d, &mirror)
    })
}

fn with<T>(spec: &Spec, host: &Host, work: impl FnOnce(&Deployment<'_>) -> T) -> T {
    work(&Deployment::new(spec, spec.wanted.as_ref().unwrap(), host).unwrap())
}

pub(super) fn ready(spec: &Spec, host: &Host) -> bool {
    with(spec, host, spare_is_ready).unwrap()
}

fn kept(bench: &Bench) -> Vec<String> {
    names(&bench.app("releases/.trueup"))
}

/// What is in the active release: paths, owners, modes, contents.
fn active(bench: &Bench) -> Vec<String> {
    let top = bench.app("releases").join(bench.active().unwrap());
    let mut all = Vec::new();
    let mut todo = vec![top.clone()];
    while let Some(path) = todo.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let body = match (meta.is_dir(), meta.is_symlink()) {
            (true, _) => {
                todo.extend(names(&path).iter().map(|name| path.join(name)));
                String::new()
            }
            (_, true) => std::fs::read_link(&path).unwrap().display().to_string(),
            _ => String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned(),
        };
        all.push(format!(
            "{} {:o} {}:{} {body}",
            path.strip_prefix(&top).unwrap().display(),
            meta.mode(),
            meta.uid(),
            meta.gid(),
        ));
    }
    all.sort();
    all
}

/// The same commit, deployed where nothing was ever kept ready.
fn deployed_afresh(bench: &Bench, spec: &Spec) -> Vec<String> {
    let host = bench.path("srv/www/shop");
    let aside = bench.path("srv/www/aside");
    std::fs::rename(&host, &aside).unwrap();
    std::fs::create_dir_all(&host).unwrap();
    std::fs::rename(aside.join("shared"), host.join("shared")).unwrap();
    done(spec, &bench.host());
    let seen = active(bench);
    std::fs::rename(host.join("shared"), aside.join("shared")).unwrap();
    std::fs::remove_dir_all(&host).unwrap();
    std::fs::rename(&aside, &host).unwrap();
    seen
}

const ONE: &[(&str, &str, u32)] = &[
    ("a", "1", 0o100_644),
    ("run", "x", 0o100_755),
    ("lib/deep/same", "same", 0o100_644),
    ("lib/deep/old", "old", 0o100_644),
    ("turn", "was a file", 0o100_644),
    ("way/in", "was a folder", 0o100_644),
    ("log/.keep", "", 0o100_644),
    ("to", "lib", 0o120_000),
];

const TWO: &[(&str, &str, u32)] = &[
    ("a", "2", 0o100_644),
    ("run", "x", 0o100_644),
    ("lib/deep/same", "same", 0o100_644),
    ("lib/new/er", "new", 0o100_755),
    ("turn/ed", "is a folder", 0o100_644),
    ("way", "/etc", 0o120_000),
    ("log/.keep", "", 0o100_644),
    ("to/o", "a folder now", 0o100_644),
];

const LINKED: &str = "user: deploy\nlinked_dirs: [log, tmp/pids]\n";

#[test]
fn release_from_a_spare_equals_one_from_scratch() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let (one, two) = (bench.commit_modes(ONE), bench.commit_modes(TWO));
    let mut last = None;
    for sha in [&one, &two, &one, &two] {
        let spec = bench.spec(sha, LINKED);
        if let Some(last) = last.replace(sha.clone()) {
            let before = bench.spec(&last, LINKED);
            assert!(ready(&before, &bench.host()));
            // Not the good release that is there from the round before.
            std::fs::remove_file(bench.path("var/lib/trueup/releases/shop.json")).unwrap();
            for name in bench
                .releases()
                .iter()
                .filter(|name| !name.starts_with('.'))
            {
                std::fs::remove_dir_all(bench.app("releases").join(name)).unwrap();
            }
        }
        done(&spec, &bench.host());
        assert_eq!(active(&bench), deployed_afresh(&bench, &spec), "{sha}");
        idle(&spec, &bench.host()).unwrap();
    }
}

#[test]
fn only_changed_files_of_a_spare_are_rewritten() {
    let bench = Bench::new();
    let (one, two) = (
        bench.commit(&[("a", "1"), ("lib/same", "s")]),
        bench.commit(&[("a", "2"), ("lib/same", "s")]),
    );
    done(&bench.spec(&one, ""), &bench.host());
    idle(&bench.spec(&one, ""), &bench.host()).unwrap();
    let spare = kept(&bench);
    let spare = spare.iter().find(|name| name.starts_with("spare")).unwrap();
    let inode = |path: PathBuf| std::fs::metadata(path).unwrap().ino();
    let spare = bench.app("releases/.trueup").join(spare);
    let before = (inode(spare.join("lib/same")), inode(spare.clone()));
    done(&bench.spec(&two, ""), &bench.host());
    let release = bench.app("releases").join(bench.active().unwrap());
    assert_eq!(before, (inode(release.join("lib/same")), inode(release)));
    assert_eq!(bench.read("current/a"), "2");
}

#[test]
fn pristine_tree_is_used_when_the_spare_is_gone() {
    let bench = Bench::new();
    let shas: Vec<Sha> = (0..4)
        .map(|n| bench.commit(&[("a", &n.to_string()), ("b", "b")]))
        .collect();
    done(&bench.spec(&shas[0], ""), &bench.host());
    idle(&bench.spec(&shas[0], ""), &bench.host()).unwrap();
    for (n, left) in [(1, 1), (2, 0), (3, 0)] {
        // One after the other, before anything could be made ready again.
        let spec = bench.spec(&shas[n], "");
        deploy(&spec, &shas[n], &bench.host()).unwrap();
        let trees = kept(&bench);
        let trees = trees.iter().filter(|name| !name.starts_with("notes"));
        assert_eq!(trees.count(), left);
        assert_eq!(bench.read("current/a"), n.to_string());
        assert_eq!(bench.read("current/b"), "b");
    }
    let last = bench.spec(&shas[3], "");
    idle(&last, &bench.host()).unwrap();
    assert!(ready(&last, &bench.host()));
    assert_eq!(kept(&bench).len(), 3, "{:?}", kept(&bench));
}

#[test]
fn changes_in_an_old_release_never_reach_a_new_one() {
    let bench = Bench::new();
    let shas: Vec<Sha> = (0..3)
        .map(|n| bench.commit(&[("a", &n.to_string()), ("config", "clean"), ("x/y", "z")]))
        .collect();
    for sha in &shas {
        let spec = bench.spec(sha, "");
        done(&spec, &bench.host());
        assert_eq!(bench.read("current/config"), "clean");
        assert_eq!(names(&bench.app("current/x")), ["y"]);
        // In place, by a new file, and by removing one.
        idle(&spec, &bench.host()).unwrap();
        std::fs::write(bench.app("current/config"), "dirty").unwrap();
        std::fs::write(bench.app("current/x/dirt"), "dirty").unwrap();
        std::fs::remove_file(bench.app("current/x/y")).unwrap();
    }
}

#[test]
fn spare_accessible_to_other_users_is_not_used() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let (one, two) = (bench.commit(&[("a", "1")]), bench.commit(&[("b", "2")]));
    let spec = bench.spec(&one, "user: deploy\n");
    done(&spec, &bench.host());
    idle(&spec, &bench.host()).unwrap();
    let home = bench.app("releases/.trueup");
    let meta = std::fs::metadata(&home).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o7777), (0, 0o700));
    let spoiled: [&dyn Fn(); 2] = [
        &|| std::os::unix::fs::chown(&home, Some(DEPLOY), Some(DEPLOY)).unwrap(),
        &|| std::fs::set_permissions(&home, PermissionsExt::from_mode(0o755)).unwrap(),
    ];
    for (n, spoil) in spoiled.iter().enumerate() {
        for tree in kept(&bench)
            .iter()
            .filter(|name| !name.starts_with("notes"))
        {
            std::fs::write(home.join(tree).join("planted"), "x").unwrap();
        }
        spoil();
        let sha = [&two, &one][n];
        // Not the good release that is there.
        std::fs::remove_file(bench.path("var/lib/trueup/releases/shop.json")).unwrap();
        std::fs::remove_file(bench.app("revisions.log")).unwrap();
        let spec = bench.spec(sha, "user: deploy\n");
        let _ = std::fs::remove_file(bench.app("current"));
        done(&spec, &bench.host());
        assert!(!bench.app("current/planted").exists());
        idle(&spec, &bench.host()).unwrap();
        let meta = std::fs::metadata(&home).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o7777), (0, 0o700));
        for tree in kept(&bench) {
            assert!(!home.join(tree).join("planted").exists());
        }
    }
}

#[test]
fn spare_of_another_owner_is_not_used() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let (one, two) = (
        bench.commit(&[("a/b", "1"), ("c", "c")]),
        bench.commit(&[("a/b", "2"), ("c", "c")]),
    );
    let spec = bench.spec(&one, "user: deploy\n");
    done(&spec, &bench.host());
    idle(&spec, &bench.host()).unwrap();
    let as_root = bench.spec(&two, "");
    assert!(!ready(&bench.spec(&one, ""), &bench.host()));
    done(&as_root, &bench.host());
    for path in [
        "current/",
        "current/a",
        "current/a/b",
        "current/c",
        "current/REVISION",
    ] {
        assert_eq!(
            std::fs::metadata(bench.app(path)).unwrap().uid(),
            0,
            "{path}"
        );
    }
    idle(&as_root, &bench.host()).unwrap();
    assert!(ready(&as_root, &bench.host()));
    assert_eq!(kept(&bench).len(), 3, "{:?}", kept(&bench));
}

#[test]
fn disabled_spare_is_removed_and_the_pristine_tree_kept() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let (with_spare, without) = (bench.spec(&sha, ""), bench.spec(&sha, "spare: false\n"));
    done(&without, &bench.host());
    idle(&without, &bench.host()).unwrap();
    assert!(ready(&without, &bench.host()) && !ready(&with_spare, &bench.host()));
    assert_eq!(kept(&bench).len(), 2, "{:?}", kept(&bench));
    idle(&with_spare, &bench.host()).unwrap();
    assert!(ready(&with_spare, &bench.host()));
    let next = bench.commit(&[("a", "2")]);
    let next = bench.spec(&next, "spare: false\n");
    done(&next, &bench.host());
    idle(&next, &bench.host()).unwrap();
    assert_eq!(kept(&bench).len(), 2, "{:?}", kept(&bench));
    with(&next, &bench.host(), drop_spare).unwrap();
    assert!(!bench.app("releases/.trueup").exists());
}

#[test]
fn preparing_an_existing_spare_changes_nothing() {
    let bench = Bench::new();
    let spec = bench.spec(&bench.commit_modes(ONE), "");
    done(&spec, &bench.host());
    idle(&spec, &bench.host()).unwrap();
    let before = snapshot(&bench.app("releases/.trueup"));
    idle(&spec, &bench.host()).unwrap();
    assert_eq!(before, snapshot(&bench.app("releases/.trueup")));
}

#[test]
fn unfinished_tree_of_a_killed_pass_is_never_used() {
    let bench = Bench::new();
    let (one, two) = (bench.commit_modes(ONE), bench.commit_modes(TWO));
    let first = bench.spec(&one, "");
    done(&first, &bench.host());
    idle(&first, &bench.host()).unwrap();
    // Killed in the middle of moving the pristine tree on.
    let home = bench.app("releases/.trueup");
    let trees = kept(&bench);
    let pristine = trees
        .iter()
        .find(|name| name.starts_with("pristine"))
        .unwrap();
    let spare = trees.iter().find(|name| name.starts_with("spare")).unwrap();
    std::fs::rename(home.join(pristine), home.join("unfinished")).unwrap();
    std::fs::remove_file(home.join("unfinished/run")).unwrap();
    std::fs::remove_dir_all(home.join(spare)).unwrap();
    std::fs::create_dir(home.join("spare-0-0-0-nonsense")).unwrap();
    let second = bench.spec(&two, "");
    done(&second, &bench.host());
    assert_eq!(active(&bench), deployed_afresh(&bench, &second));
    idle(&second, &bench.host()).unwrap();
    assert_eq!(kept(&bench).len(), 3, "{:?}", kept(&bench));
    done(&bench.spec(&bench.commit_modes(ONE), ""), &bench.host());
    assert_eq!(bench.read("current/run"), "x");
}

#[test]
fn missing_spare_metadata_or_commit_only_costs_time() {
    let bench = Bench::new();
    let one = bench.commit(&[
        ("a", "1"),
        (".gitattributes", "*.txt text eol=crlf\nv export-subst\n"),
        ("v", "$Format:%H$"),
    ]);
    let two = bench.commit(&[
        ("a", "1"),
        (".gitattributes", "*.txt text eol=crlf\nv export-subst\n"),
        ("v", "$Format:%H$"),
        ("t.txt", "x\n"),
    ]);
    for notes in ["kept", "lost", "broken"] {
        let _ = std::fs::remove_dir_all(bench.path("srv"));
        let _ = std::fs::remove_dir_all(bench.path("var"));
        done(&bench.spec(&one, ""), &bench.host());
        idle(&bench.spec(&one, ""), &bench.host()).unwrap();
        let path = bench.app(&format!("releases/.trueup/notes-{one}.json"));
        match notes {
            "kept" => assert!(path.exists()),
            "lost" => std::fs::remove_file(path).unwrap(),
            _ => std::fs::write(path, "{\"form\": 1, \"attributes\": 7}").unwrap(),
        }
        done(&bench.spec(&two, ""), &bench.host());
        assert_eq!(bench.read("current/t.txt"), "x\r\n", "{notes}");
        assert_eq!(bench.read("current/v"), two.as_str(), "{notes}");
    }
    // The mirror is another one by now, and does not hold what the tree was made from.
    let _ = std::fs::remove_dir_all(bench.path("srv"));
    done(&bench.spec(&one, ""), &bench.host());
    idle(&bench.spec(&one, ""), &bench.host()).unwrap();
    let other = Bench::new();
    let three = other.commit(&[("a", "3")]);
    let url = other.repo.path().display().to_string();
    let spec = spec(&format!("app: shop\nrepo: {url}\n"), &three);
    done(&spec, &bench.host());
    assert_eq!(names(&bench.app("current/")), ["REVISION", "a"]);
}

#[test]
fn refused_commit_leaves_the_spare_unused() {
    let bench = Bench::new();
    let one = bench.commit(&[("a", "1")]);
    done(&bench.spec(&one, ""), &bench.host());
    idle(&bench.spec(&one, ""), &bench.host()).unwrap();
    let before = kept(&bench);
    let bad = bench.commit(&[("a", "2"), (&format!("{}x", "d/".repeat(300)), "deep")]);
    let failure = pass(&bench.spec(&bad, ""), &bench.host()).unwrap_err();
    assert!(
        failure.message.contains("more than 200 folders deep"),
        "{failure}"
    );
    assert_eq!(kept(&bench), before);
    assert!(
        bench
            .releases()
            .iter()
            .all(|name| !name.ends_with(".partial"))
    );
}
