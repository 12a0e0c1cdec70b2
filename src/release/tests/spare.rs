//! Spare trees: they cost the next release only the differences, and never add anything that is not in its
//! commit.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::release::deployment::Deployment;
use crate::release::source::mirror;
use crate::release::stages::materialise::{make_spare, remove_spares, spare_is_ready};

/// What runs once a release is active.
pub(super) fn make_spares(spec: &ReleaseSpec, host: &Host) -> Result<(), Failure> {
    with_deployment(spec, host, |deployment| {
        let mirror = mirror::ensure_commit(deployment)?;
        make_spare(deployment, &mirror)
    })
}

fn with_deployment<T>(
    spec: &ReleaseSpec,
    host: &Host,
    work: impl FnOnce(&Deployment<'_>) -> T,
) -> T {
    work(&Deployment::new(spec, spec.wanted.as_ref().unwrap(), host).unwrap())
}

pub(super) fn are_spares_ready(spec: &ReleaseSpec, host: &Host) -> bool {
    with_deployment(spec, host, spare_is_ready).unwrap()
}

fn spare_names(bench: &Bench) -> Vec<String> {
    list_names(&bench.app_path("releases/.trueup"))
}

/// The content of the active release: paths, owners, modes, contents.
fn active_files(bench: &Bench) -> Vec<String> {
    let top = bench
        .app_path("releases")
        .join(bench.active_name().unwrap());
    let mut all = Vec::new();
    let mut todo = vec![top.clone()];
    while let Some(path) = todo.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let body = match (meta.is_dir(), meta.is_symlink()) {
            (true, _) => {
                todo.extend(list_names(&path).iter().map(|name| path.join(name)));
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

/// Deploys the same commit without any spare.
fn deploy_from_scratch(bench: &Bench, spec: &ReleaseSpec) -> Vec<String> {
    let host = bench.host_path("srv/www/shop");
    let aside = bench.host_path("srv/www/aside");
    std::fs::rename(&host, &aside).unwrap();
    std::fs::create_dir_all(&host).unwrap();
    std::fs::rename(aside.join("shared"), host.join("shared")).unwrap();
    deploy_ok(spec, &bench.host());
    let files = active_files(bench);
    std::fs::rename(host.join("shared"), aside.join("shared")).unwrap();
    std::fs::remove_dir_all(&host).unwrap();
    std::fs::rename(&aside, &host).unwrap();
    files
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
            assert!(are_spares_ready(&before, &bench.host()));
            // So that the good release of the previous round is not used.
            std::fs::remove_file(bench.host_path("var/lib/trueup/releases/shop.json")).unwrap();
            for name in bench
                .releases()
                .iter()
                .filter(|name| !name.starts_with('.'))
            {
                std::fs::remove_dir_all(bench.app_path("releases").join(name)).unwrap();
            }
        }
        deploy_ok(&spec, &bench.host());
        assert_eq!(
            active_files(&bench),
            deploy_from_scratch(&bench, &spec),
            "{sha}"
        );
        make_spares(&spec, &bench.host()).unwrap();
    }
}

#[test]
fn only_changed_files_of_a_spare_are_rewritten() {
    let bench = Bench::new();
    let (one, two) = (
        bench.commit(&[("a", "1"), ("lib/same", "s")]),
        bench.commit(&[("a", "2"), ("lib/same", "s")]),
    );
    deploy_ok(&bench.spec(&one, ""), &bench.host());
    make_spares(&bench.spec(&one, ""), &bench.host()).unwrap();
    let spare = spare_names(&bench);
    let spare = spare.iter().find(|name| name.starts_with("spare")).unwrap();
    let inode = |path: PathBuf| std::fs::metadata(path).unwrap().ino();
    let spare = bench.app_path("releases/.trueup").join(spare);
    let before = (inode(spare.join("lib/same")), inode(spare.clone()));
    deploy_ok(&bench.spec(&two, ""), &bench.host());
    let release = bench
        .app_path("releases")
        .join(bench.active_name().unwrap());
    assert_eq!(before, (inode(release.join("lib/same")), inode(release)));
    assert_eq!(bench.read("current/a"), "2");
}

#[test]
fn pristine_tree_is_used_when_the_spare_is_gone() {
    let bench = Bench::new();
    let shas: Vec<Sha> = (0..4)
        .map(|n| bench.commit(&[("a", &n.to_string()), ("b", "b")]))
        .collect();
    deploy_ok(&bench.spec(&shas[0], ""), &bench.host());
    make_spares(&bench.spec(&shas[0], ""), &bench.host()).unwrap();
    for (n, left) in [(1, 1), (2, 0), (3, 0)] {
        // In succession, before new trees could be made.
        let spec = bench.spec(&shas[n], "");
        deploy(&spec, &shas[n], &bench.host()).unwrap();
        let trees = spare_names(&bench);
        let trees = trees.iter().filter(|name| !name.starts_with("notes"));
        assert_eq!(trees.count(), left);
        assert_eq!(bench.read("current/a"), n.to_string());
        assert_eq!(bench.read("current/b"), "b");
    }
    let last = bench.spec(&shas[3], "");
    make_spares(&last, &bench.host()).unwrap();
    assert!(are_spares_ready(&last, &bench.host()));
    assert_eq!(spare_names(&bench).len(), 3, "{:?}", spare_names(&bench));
}

#[test]
fn changes_in_an_old_release_never_reach_a_new_one() {
    let bench = Bench::new();
    let shas: Vec<Sha> = (0..3)
        .map(|n| bench.commit(&[("a", &n.to_string()), ("config", "clean"), ("x/y", "z")]))
        .collect();
    for sha in &shas {
        let spec = bench.spec(sha, "");
        deploy_ok(&spec, &bench.host());
        assert_eq!(bench.read("current/config"), "clean");
        assert_eq!(list_names(&bench.app_path("current/x")), ["y"]);
        // In place, by a new file, and by a removal.
        make_spares(&spec, &bench.host()).unwrap();
        std::fs::write(bench.app_path("current/config"), "dirty").unwrap();
        std::fs::write(bench.app_path("current/x/dirt"), "dirty").unwrap();
        std::fs::remove_file(bench.app_path("current/x/y")).unwrap();
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
    deploy_ok(&spec, &bench.host());
    make_spares(&spec, &bench.host()).unwrap();
    let home = bench.app_path("releases/.trueup");
    let meta = std::fs::metadata(&home).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o7777), (0, 0o700));
    let spoiled: [&dyn Fn(); 2] = [
        &|| std::os::unix::fs::chown(&home, Some(DEPLOY_UID), Some(DEPLOY_UID)).unwrap(),
        &|| std::fs::set_permissions(&home, PermissionsExt::from_mode(0o755)).unwrap(),
    ];
    for (n, spoil) in spoiled.iter().enumerate() {
        for tree in spare_names(&bench)
            .iter()
            .filter(|name| !name.starts_with("notes"))
        {
            std::fs::write(home.join(tree).join("planted"), "x").unwrap();
        }
        spoil();
        let sha = [&two, &one][n];
        // So that the existing good release is not used.
        std::fs::remove_file(bench.host_path("var/lib/trueup/releases/shop.json")).unwrap();
        std::fs::remove_file(bench.app_path("revisions.log")).unwrap();
        let spec = bench.spec(sha, "user: deploy\n");
        let _ = std::fs::remove_file(bench.app_path("current"));
        deploy_ok(&spec, &bench.host());
        assert!(!bench.app_path("current/planted").exists());
        make_spares(&spec, &bench.host()).unwrap();
        let meta = std::fs::metadata(&home).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o7777), (0, 0o700));
        for tree in spare_names(&bench) {
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
    deploy_ok(&spec, &bench.host());
    make_spares(&spec, &bench.host()).unwrap();
    let as_root = bench.spec(&two, "");
    assert!(!are_spares_ready(&bench.spec(&one, ""), &bench.host()));
    deploy_ok(&as_root, &bench.host());
    for path in [
        "current/",
        "current/a",
        "current/a/b",
        "current/c",
        "current/REVISION",
    ] {
        assert_eq!(
            std::fs::metadata(bench.app_path(path)).unwrap().uid(),
            0,
            "{path}"
        );
    }
    make_spares(&as_root, &bench.host()).unwrap();
    assert!(are_spares_ready(&as_root, &bench.host()));
    assert_eq!(spare_names(&bench).len(), 3, "{:?}", spare_names(&bench));
}

#[test]
fn disabled_spare_is_removed_and_the_pristine_tree_kept() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let (with_spare, without) = (bench.spec(&sha, ""), bench.spec(&sha, "spare: false\n"));
    deploy_ok(&without, &bench.host());
    make_spares(&without, &bench.host()).unwrap();
    assert!(
        are_spares_ready(&without, &bench.host()) && !are_spares_ready(&with_spare, &bench.host())
    );
    assert_eq!(spare_names(&bench).len(), 2, "{:?}", spare_names(&bench));
    make_spares(&with_spare, &bench.host()).unwrap();
    assert!(are_spares_ready(&with_spare, &bench.host()));
    let next = bench.commit(&[("a", "2")]);
    let next = bench.spec(&next, "spare: false\n");
    deploy_ok(&next, &bench.host());
    make_spares(&next, &bench.host()).unwrap();
    assert_eq!(spare_names(&bench).len(), 2, "{:?}", spare_names(&bench));
    with_deployment(&next, &bench.host(), remove_spares).unwrap();
    assert!(!bench.app_path("releases/.trueup").exists());
}

#[test]
fn preparing_an_existing_spare_changes_nothing() {
    let bench = Bench::new();
    let spec = bench.spec(&bench.commit_modes(ONE), "");
    deploy_ok(&spec, &bench.host());
    make_spares(&spec, &bench.host()).unwrap();
    let before = snapshot(&bench.app_path("releases/.trueup"));
    make_spares(&spec, &bench.host()).unwrap();
    assert_eq!(before, snapshot(&bench.app_path("releases/.trueup")));
}

#[test]
fn unfinished_tree_of_a_killed_pass_is_never_used() {
    let bench = Bench::new();
    let (one, two) = (bench.commit_modes(ONE), bench.commit_modes(TWO));
    let first = bench.spec(&one, "");
    deploy_ok(&first, &bench.host());
    make_spares(&first, &bench.host()).unwrap();
    // Simulates a kill in the middle of updating the pristine tree.
    let home = bench.app_path("releases/.trueup");
    let trees = spare_names(&bench);
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
    deploy_ok(&second, &bench.host());
    assert_eq!(active_files(&bench), deploy_from_scratch(&bench, &second));
    make_spares(&second, &bench.host()).unwrap();
    assert_eq!(spare_names(&bench).len(), 3, "{:?}", spare_names(&bench));
    deploy_ok(&bench.spec(&bench.commit_modes(ONE), ""), &bench.host());
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
        let _ = std::fs::remove_dir_all(bench.host_path("srv"));
        let _ = std::fs::remove_dir_all(bench.host_path("var"));
        deploy_ok(&bench.spec(&one, ""), &bench.host());
        make_spares(&bench.spec(&one, ""), &bench.host()).unwrap();
        let path = bench.app_path(&format!("releases/.trueup/notes-{one}.json"));
        match notes {
            "kept" => assert!(path.exists()),
            "lost" => std::fs::remove_file(path).unwrap(),
            _ => std::fs::write(path, "{\"form\": 1, \"attributes\": 7}").unwrap(),
        }
        deploy_ok(&bench.spec(&two, ""), &bench.host());
        assert_eq!(bench.read("current/t.txt"), "x\r\n", "{notes}");
        assert_eq!(bench.read("current/v"), two.as_str(), "{notes}");
    }
    // The mirror was replaced, and lacks the commit of the tree.
    let _ = std::fs::remove_dir_all(bench.host_path("srv"));
    deploy_ok(&bench.spec(&one, ""), &bench.host());
    make_spares(&bench.spec(&one, ""), &bench.host()).unwrap();
    let other = Bench::new();
    let three = other.commit(&[("a", "3")]);
    let url = other.repo.path().display().to_string();
    let spec = spec(&format!("app: shop\nrepo: {url}\n"), &three);
    deploy_ok(&spec, &bench.host());
    assert_eq!(list_names(&bench.app_path("current/")), ["REVISION", "a"]);
}

#[test]
fn refused_commit_leaves_the_spare_unused() {
    let bench = Bench::new();
    let one = bench.commit(&[("a", "1")]);
    deploy_ok(&bench.spec(&one, ""), &bench.host());
    make_spares(&bench.spec(&one, ""), &bench.host()).unwrap();
    let before = spare_names(&bench);
    let bad = bench.commit(&[("a", "2"), (&format!("{}x", "d/".repeat(300)), "deep")]);
    let failure = run_pass(&bench.spec(&bad, ""), &bench.host()).unwrap_err();
    assert!(
        failure.message.contains("more than 200 folders deep"),
        "{failure}"
    );
    assert_eq!(spare_names(&bench), before);
    assert!(
        bench
            .releases()
            .iter()
            .all(|name| !name.ends_with(".partial"))
    );
}
