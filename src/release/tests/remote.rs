//! Faulty servers and mirrors.

use std::time::Instant;

use super::*;

pub(super) fn mirror_path(bench: &Bench) -> PathBuf {
    bench.host_path("var/lib/trueup/mirrors/shop.git")
}

#[test]
fn unpushed_sha_is_a_clear_error_and_leaves_no_release() {
    let bench = Bench::new();
    bench.commit(&[("a", "1")]);
    let sha = Sha::parse(&"4f2c9d0e".repeat(5)).unwrap();
    let failure = run_pass(&bench.spec(&sha, ""), &bench.host()).unwrap_err();
    let repo = bench.repo.path().display();
    assert_eq!(
        failure.message,
        format!("{sha} is on no branch and no tag of {repo}")
    );
    assert!(failure.hint.unwrap().starts_with("push it"));
    assert_eq!(bench.releases(), [""; 0]);
    assert_eq!(bench.active_name(), None);
}

#[test]
fn tag_object_id_is_refused_as_no_commit() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let commit = bench
        .repo
        .find_object(Oid::from_str(sha.as_str()).unwrap(), None)
        .unwrap();
    let author = Signature::now("t", "t@e").unwrap();
    let tag = bench
        .repo
        .tag("v1", &commit, &author, "one", false)
        .unwrap();
    let tag = Sha::parse(&tag.to_string()).unwrap();
    let failure = run_pass(&bench.spec(&tag, ""), &bench.host()).unwrap_err();
    assert!(
        failure.message.ends_with("is a tag and not a commit"),
        "{failure}"
    );
}

#[test]
fn commit_reachable_only_from_a_tag_is_deployed() {
    let bench = Bench::new();
    bench.commit(&[("a", "1")]);
    let tree = bench.repo.head().unwrap().peel_to_tree().unwrap().id();
    let sha = bench.commit_tree(tree, None);
    let id = Oid::from_str(sha.as_str()).unwrap();
    bench
        .repo
        .reference("refs/tags/v2", id, false, "t")
        .unwrap();
    deploy_ok(&bench.spec(&sha, ""), &bench.host());
}

#[test]
fn cached_proven_commit_is_deployed_while_the_server_is_down() {
    let bench = Bench::new();
    let (one, two) = (bench.commit(&[("a", "1")]), bench.commit(&[("a", "2")]));
    deploy_ok(&bench.spec(&two, ""), &bench.host());
    let spec = bench.spec(&one, "");
    std::fs::rename(bench.repo.path(), bench.dir.path().join("gone")).unwrap();
    deploy_ok(&spec, &bench.host());
    assert_eq!(bench.read("current/a"), "1");
}

pub(super) type Damage = fn(&Path);

#[test]
fn broken_mirror_is_recreated() {
    let bench = Bench::new();
    let one = bench.commit(&[("a", "1")]);
    deploy_ok(&bench.spec(&one, ""), &bench.host());
    let ruin: [(&str, Damage); 5] = [
        ("no HEAD", |mirror| {
            std::fs::remove_file(mirror.join("HEAD")).unwrap()
        }),
        ("bad config", |mirror| {
            std::fs::write(mirror.join("config"), "[").unwrap()
        }),
        ("no objects", |mirror| {
            std::fs::remove_dir_all(mirror.join("objects")).unwrap()
        }),
        ("empty objects", |mirror| {
            empty_files(&mirror.join("objects"))
        }),
        ("a file", |mirror| {
            std::fs::remove_dir_all(mirror).unwrap();
            std::fs::write(mirror, "x").unwrap();
        }),
    ];
    for (i, (what, ruin)) in ruin.into_iter().enumerate() {
        ruin(&mirror_path(&bench));
        let sha = bench.commit(&[("a", &format!("{what} {i}"))]);
        deploy_ok(&bench.spec(&sha, ""), &bench.host());
        assert_eq!(bench.read("current/a"), format!("{what} {i}"));
    }
}

#[test]
fn mirror_missing_objects_of_the_commit_is_recreated() {
    let bench = Bench::new();
    let (one, two) = (bench.commit(&[("a", "1")]), bench.commit(&[("a", "2")]));
    deploy_ok(&bench.spec(&two, ""), &bench.host());
    // The commits alone, with no tree and no file.
    let mirror = mirror_path(&bench);
    std::fs::remove_dir_all(mirror.join("objects")).unwrap();
    std::fs::create_dir_all(mirror.join("objects")).unwrap();
    let id = Oid::from_str(one.as_str()).unwrap();
    let source = bench.repo.odb().unwrap();
    let commit = source.read(id).unwrap();
    let odb = Repository::open_bare(&mirror).unwrap();
    odb.odb()
        .unwrap()
        .write(git2::ObjectType::Commit, commit.data())
        .unwrap();
    deploy_ok(&bench.spec(&one, ""), &bench.host());
    assert_eq!(bench.read("current/a"), "1");
}

fn empty_files(folder: &Path) {
    for name in list_names(folder) {
        let path = folder.join(name);
        if path.is_dir() {
            empty_files(&path);
        } else {
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, "").unwrap();
        }
    }
}

#[test]
fn changed_repo_address_recreates_the_mirror() {
    let (bench, other) = (Bench::new(), Bench::new());
    let one = bench.commit(&[("a", "1")]);
    deploy_ok(&bench.spec(&one, ""), &bench.host());
    let two = other.commit(&[("a", "other")]);
    let url = format!("app: shop\nrepo: file://{}\n", other.repo.path().display());
    deploy_ok(&spec(&url, &two), &bench.host());
    assert_eq!(bench.read("current/a"), "other");
    let repo = Repository::open_bare(mirror_path(&bench)).unwrap();
    assert!(
        repo.find_commit(Oid::from_str(one.as_str()).unwrap())
            .is_err()
    );
}

#[test]
fn deleted_or_force_pushed_branch_does_not_block_the_next_fetch() {
    let bench = Bench::new();
    let one = bench.commit(&[("a", "1")]);
    let id = Oid::from_str(one.as_str()).unwrap();
    bench
        .repo
        .reference("refs/heads/topic", id, false, "t")
        .unwrap();
    deploy_ok(&bench.spec(&one, ""), &bench.host());
    // `topic` is removed and `topic/x` created, which cannot coexist; master is forced.
    bench
        .repo
        .find_reference("refs/heads/topic")
        .unwrap()
        .delete()
        .unwrap();
    bench
        .repo
        .reference("refs/heads/topic/x", id, false, "t")
        .unwrap();
    bench
        .repo
        .find_reference("refs/heads/master")
        .unwrap()
        .delete()
        .unwrap();
    let two = bench.commit(&[("a", "2")]);
    deploy_ok(&bench.spec(&two, ""), &bench.host());
    assert_eq!(bench.read("current/a"), "2");
}

#[test]
fn unreachable_server_and_missing_repository_have_different_hints() {
    let bench = Bench::new();
    let sha = Sha::parse(&"4f2c9d0e".repeat(5)).unwrap();
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    for (repo, hint) in [
        (format!("http://127.0.0.1:{port}/shop.git"), "cannot reach"),
        (
            format!("ssh://git@127.0.0.1:{port}/shop.git"),
            "cannot reach",
        ),
        (
            "http://no.such.host.invalid/shop.git".into(),
            "cannot resolve",
        ),
        (
            "/no/such/repository.git".into(),
            "repository does not exist",
        ),
        (
            "file:///no/such/repository.git".into(),
            "repository does not exist",
        ),
    ] {
        let failure = run_pass(
            &spec(&format!("app: shop\nrepo: {repo}\n"), &sha),
            &bench.host(),
        );
        let failure = failure.unwrap_err();
        assert!(failure.to_string().contains(&repo), "{failure}");
        assert!(
            failure.hint.as_ref().is_some_and(|h| h.contains(hint)),
            "{repo}: {failure}"
        );
    }
}

/// Answers every connection with this; expects HTTP requests.
fn http_server(answer: &'static str) -> u16 {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
            if answer.is_empty() {
                std::thread::sleep(std::time::Duration::from_secs(30));
            }
        }
    });
    port
}

#[test]
fn http_errors_are_explained_without_the_password() {
    let bench = Bench::new();
    let sha = Sha::parse(&"4f2c9d0e".repeat(5)).unwrap();
    for (answer, expected) in [
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "repository does not exist",
        ),
        (
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "asks for a user name and password",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "repository does not exist",
        ),
        (
            "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "the server answered 503",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
            "not a git server",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
            "cannot fetch",
        ),
    ] {
        let port = http_server(answer);
        let repo = format!("http://ana:geheim@127.0.0.1:{port}/shop.git");
        let failure = run_pass(
            &spec(&format!("app: shop\nrepo: {repo}\n"), &sha),
            &bench.host(),
        );
        let failure = failure.unwrap_err().to_string();
        assert!(failure.contains(expected), "{failure}");
        assert!(!failure.contains("geheim"), "{failure}");
    }
}

#[test]
fn silent_server_times_out_at_the_deadline() {
    let bench = Bench::new();
    let sha = Sha::parse(&"4f2c9d0e".repeat(5)).unwrap();
    let port = http_server("");
    let text = format!("app: shop\nrepo: http://127.0.0.1:{port}/shop.git\nfetch_timeout: 1s\n");
    let started = Instant::now();
    let failure = run_pass(&spec(&text, &sha), &bench.host()).unwrap_err();
    assert!(started.elapsed().as_secs() < 20, "{failure}");
    assert!(
        failure.message.contains("did not finish within 1 s"),
        "{failure}"
    );
}

#[test]
fn leftovers_of_a_killed_fetch_do_not_block_the_next() {
    let bench = Bench::new();
    deploy_ok(&bench.spec(&bench.commit(&[("a", "1")]), ""), &bench.host());
    let before = mirror_inode(&bench);
    let left = [
        "refs/heads/master.lock",
        "refs/heads/deep/er.lock",
        "packed-refs.lock",
        "objects/pack/pack_git2_abc",
    ]
    .map(|path| mirror_path(&bench).join(path));
    for path in &left {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }
    deploy_ok(&bench.spec(&bench.commit(&[("a", "2")]), ""), &bench.host());
    assert_eq!(before, mirror_inode(&bench), "all of it was fetched again");
    assert!(!left.iter().any(|path| path.exists()));
}

pub(super) fn mirror_inode(bench: &Bench) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(mirror_path(bench)).unwrap().ino()
}
