//! What revisions mean, and which commits may be deployed.

mod clones;

use std::collections::BTreeMap;

use super::*;
use crate::desired::{Manifest, Sha};
use crate::ports::git::Git;
use crate::ports::git::testing::{GitBench, http_server};

/// What `--repo` and the settings make of a question.
fn app<'g>(git: &'g Git, source: &str, settings: &str) -> AppCommits<'g> {
    let mut all = Repositories::new(git, BTreeMap::new(), Some(Source::parse(source).unwrap()));
    let text = format!("production:\n  _settings: {settings}\n");
    let manifest = Manifest::parse("m.yml", text.as_bytes()).unwrap();
    let settings = manifest.environments["production"].settings.clone();
    all.open("shop", Some(&settings.unwrap())).unwrap().unwrap()
}

fn resolve(app: &AppCommits<'_>, word: &str) -> Result<Resolved, String> {
    let revision = Revision::parse(word).map_err(|problem| problem.to_string())?;
    app.resolve(&revision).map_err(|error| error.to_string())
}

fn sha(text: &str) -> Sha {
    Sha::parse(text).unwrap()
}

#[test]
fn branch_tag_and_short_sha_mean_what_they_mean_to_git() {
    let bench = GitBench::new();
    let first = bench.commit("a", "1", "First");
    bench.git(&["tag", "-a", "v1", "-m", "One"]);
    bench.git(&["branch", "both"]);
    let second = bench.commit("a", "2", "Second");
    bench.git(&["tag", "both"]);
    bench.git(&["branch", "feature/cart"]);
    let tree = bench.git(&["rev-parse", "HEAD^{tree}"]);
    bench.git(&["tag", "tree", &tree]);
    let git = bench.operator(&[]);
    let port = http_server(bench.path("srv"), false);
    let remote = format!("http://127.0.0.1:{port}/shop.git");
    let local = bench.repository().display().to_string();
    for source in [&remote, &local] {
        let app = app(&git, source, "{}");
        for (word, expected, reference) in [
            ("main", &second, Some("main")),
            ("refs/heads/main", &second, Some("main")),
            ("feature/cart", &second, Some("feature/cart")),
            ("v1", &first, Some("v1")),
            ("tags/v1", &first, Some("v1")),
            (&first[..8], &first, None),
            (&first[..12].to_uppercase(), &first, None),
            (&first, &first, None),
        ] {
            let resolved = resolve(&app, word).unwrap();
            assert_eq!(resolved.sha, sha(expected), "{word}");
            assert_eq!(resolved.reference.as_deref(), reference, "{word}");
            assert!(resolved.warnings.is_empty(), "{word}");
        }
        let both = resolve(&app, "both").unwrap();
        assert_eq!(both.sha, sha(&second), "the tag");
        let warning = both.warnings[0].to_string();
        assert!(
            warning.contains("shop=refs/heads/both means the other"),
            "{warning}"
        );
        let error = resolve(&app, "mian").unwrap_err();
        assert!(
            error.contains("has no branch, tag or commit `mian`"),
            "{error}"
        );
        assert!(error.contains("did you mean `main`?"), "{error}");
        let error = resolve(&app, "deadbeef").unwrap_err();
        assert!(error.contains("it has both, feature/cart, main"), "{error}");
        let error = resolve(&app, "tree").unwrap_err();
        assert!(error.contains("is the name of no commit"), "{error}");
        let error = resolve(&app, &"1".repeat(40)).unwrap_err();
        assert!(error.contains("push it first"), "{error}");
    }
    assert_eq!(
        resolve(&app(&git, &local, "{}"), "HEAD").unwrap().sha,
        sha(&second)
    );
    assert!(resolve(&app(&git, &remote, "{}"), "HEAD").is_err());
}

#[test]
fn expressions_and_options_are_no_revisions() {
    for word in [
        "", "main~1", "main^", ":/fix", "--all", "-x", "a b", "main..x", "@{u}", "a\nb", "x*", "/x",
    ] {
        let error = Revision::parse(word).unwrap_err().to_string();
        assert!(error.contains("expected"), "{word}: {error}");
    }
    let long = Revision::parse(&"4f2c9d0e".repeat(8))
        .unwrap_err()
        .to_string();
    assert!(long.contains("sha-256"), "{long}");
}

#[test]
fn short_sha_of_two_commits_is_refused_with_both() {
    let bench = GitBench::new();
    bench.commit("a", "1", "First");
    let mut script = String::new();
    for number in 0..1500 {
        let message = format!("commit {number}");
        script.push_str(&format!(
            "commit refs/heads/many\ncommitter A <a@b> {number} +0000\ndata {}\n{message}\n",
            message.len()
        ));
    }
    bench.git_with_input(&["fast-import", "--quiet"], script.as_bytes());
    let ids = bench.git(&["rev-list", "many"]);
    let mut ids: Vec<&str> = ids.lines().collect();
    ids.sort_unstable();
    let pair = ids.windows(2).find(|pair| pair[0][..4] == pair[1][..4]);
    let pair = pair.expect("1500 ids share four digits somewhere");
    let git = bench.operator(&[]);
    let app = app(&git, &bench.repository().display().to_string(), "{}");
    let error = resolve(&app, &pair[0][..4]).unwrap_err();
    assert!(error.contains("begin with"), "{error}");
    assert!(
        error.contains(pair[0]) && error.contains(pair[1]),
        "{error}"
    );
    assert_eq!(resolve(&app, pair[0]).unwrap().sha, sha(pair[0]));
}

#[test]
fn commit_on_no_allowed_ref_is_refused_wherever_it_is() {
    let bench = GitBench::new();
    let main = bench.commit("a", "1", "First");
    bench.git(&["checkout", "--quiet", "-b", "topic"]);
    let topic = bench.commit("a", "2", "Unreviewed");
    bench.git(&["update-ref", "refs/pull/7/head", &topic]);
    bench.git(&["checkout", "--quiet", "main"]);
    let git = bench.operator(&[]);
    let port = http_server(bench.path("srv"), false);
    let url = format!("http://127.0.0.1:{port}/shop.git");
    let only =
        |refs: &str| format!("{{repositories: {{shop: {{url: '{url}', allow_refs: [{refs}]}}}}}}");
    for source in [url.clone(), bench.repository().display().to_string()] {
        let narrow = app(&git, &source, &only("refs/heads/main"));
        assert!(narrow.is_allowed(&sha(&main)).unwrap());
        assert_eq!(resolve(&narrow, "main").unwrap().sha, sha(&main));
        for word in ["topic", &topic, &topic[..7]] {
            let error = resolve(&narrow, word).unwrap_err();
            assert!(
                error.contains(
                    "of refs/heads/topic is on no ref that may be deployed: refs/heads/main"
                ),
                "{error}"
            );
            assert!(
                error.contains("_settings.repositories.shop.allow_refs"),
                "{error}"
            );
        }
        let wide = app(&git, &source, &only("refs/pull/*/head"));
        let pull = resolve(&wide, "refs/pull/7/head").unwrap();
        assert_eq!(pull.reference.as_deref(), Some("refs/pull/7/head"));
    }
}

#[test]
fn range_counts_both_sides_and_lists_the_newest_commits() {
    let bench = GitBench::new();
    let base = bench.commit("a", "0", "Base");
    for number in 1..=24 {
        bench.commit("a", &number.to_string(), &format!("Change {number}"));
    }
    bench.commit("db/migrate/7_add.rb", "x", "Add a column");
    let hostile = format!("\u{1b}]52;c;eA==\u{7}\u{202e}evil {}", "x".repeat(500));
    let head = bench.commit("cart/migrations/0002_x.py", "x", &hostile);
    bench.git(&["checkout", "--quiet", "-b", "other", &base]);
    let other = bench.commit("b", "1", "Other");
    let git = bench.operator(&[]);
    let app = app(&git, &bench.repository().display().to_string(), "{}");
    let between = |from: &str, to: &str| app.commits_between(&sha(from), &sha(to)).unwrap();
    let forward = between(&base, &head);
    assert_eq!(forward.direction, Direction::Forward);
    assert_eq!((forward.added, forward.removed), (Some(26), Some(0)));
    assert_eq!(forward.commits.len(), 20);
    let subject = &forward.commits[0].subject;
    assert!(
        subject.starts_with(r"\x1b]52;c;eA==\x07\u{202e}evil x"),
        "{subject}"
    );
    assert!(subject.chars().count() <= 100);
    assert_eq!(forward.commits[1].subject, "Add a column");
    let paths: Vec<&str> = forward.migrations.iter().map(|file| &*file.path).collect();
    assert_eq!(paths, ["cart/migrations/0002_x.py", "db/migrate/7_add.rb"]);
    let subjects = forward.subjects();
    assert_eq!(subjects.len(), 20);
    // A manifest takes 120 characters.
    assert!(subjects.iter().all(|line| line.chars().count() <= 108));
    assert_eq!(
        subjects[1],
        format!("{} Add a column", &forward.commits[1].sha.short())
    );

    let backward = between(&head, &base);
    assert_eq!(backward.direction, Direction::Backward);
    assert_eq!((backward.added, backward.removed), (Some(0), Some(26)));
    assert_eq!(backward.commits[1].subject, "Add a column");
    assert!(backward.subjects().is_empty());
    assert_eq!(backward.migration_count, 2);

    let diverged = between(&head, &other);
    assert_eq!(diverged.direction, Direction::Diverged);
    assert_eq!((diverged.added, diverged.removed), (Some(1), Some(26)));
    assert_eq!(diverged.commits[0].subject, "Other");

    assert_eq!(between(&head, &head).direction, Direction::Same);
    let gone = between(&"1".repeat(40), &head);
    assert_eq!(gone.direction, Direction::Unknown);
    assert!(gone.why_unknown.unwrap().contains("does not have 1111111"));
}

#[test]
fn shallow_checkout_names_how_to_fetch_the_history() {
    let bench = GitBench::new();
    let first = bench.commit("a", "1", "First");
    bench.commit("a", "2", "Second");
    let head = bench.commit("a", "3", "Third");
    let url = format!("file://{}", bench.repository().display());
    let checkout = bench.path("checkout").display().to_string();
    bench.git(&[
        "clone",
        "--quiet",
        "--depth=1",
        "--no-single-branch",
        &url,
        &checkout,
    ]);
    bench.git(&["-C", &checkout, "checkout", "--quiet", "--detach"]);
    bench.git(&["-C", &checkout, "branch", "--quiet", "-D", "main"]);
    let git = bench.operator(&[]);
    let app = app(&git, &checkout, "{}");
    // The branch is there as the remote's.
    let resolved = resolve(&app, "main").unwrap();
    assert_eq!(resolved.sha, sha(&head));
    assert_eq!(resolved.reference.as_deref(), Some("main"));
    assert_eq!(resolve(&app, &head).unwrap().warnings, []);
    let error = resolve(&app, &first).unwrap_err();
    assert!(error.contains("--unshallow"), "{error}");
    let range = app.commits_between(&sha(&first), &sha(&head)).unwrap();
    assert_eq!(range.direction, Direction::Unknown);
    assert!(range.why_unknown.unwrap().contains("fetch-depth: 0"));
}

#[test]
fn repository_with_very_many_refs_is_resolved_and_listed_in_short() {
    let bench = GitBench::new();
    let first = bench.commit("a", "1", "First");
    let mut packed = String::from("# pack-refs with: peeled fully-peeled sorted \n");
    for number in 0..20_000 {
        packed.push_str(&format!("{first} refs/heads/feature/{number:05}\n"));
    }
    bench.write("srv/shop.git/.git/packed-refs", &packed);
    let git = bench.operator(&[]);
    let port = http_server(bench.path("srv"), false);
    let app = app(&git, &format!("http://127.0.0.1:{port}/shop.git"), "{}");
    assert_eq!(resolve(&app, "feature/19999").unwrap().sha, sha(&first));
    let error = resolve(&app, "absent").unwrap_err();
    assert!(
        error.contains("and 19991 more") && error.len() < 1000,
        "{error}"
    );
}

#[test]
fn more_refs_than_fit_into_memory_are_refused() {
    let bench = GitBench::new();
    let first = bench.commit("a", "1", "First");
    let mut packed = String::from("# pack-refs with: peeled fully-peeled sorted \n");
    let long = "x".repeat(200);
    for number in 0..140_000 {
        packed.push_str(&format!("{first} refs/heads/{long}/{number:06}\n"));
    }
    bench.write("srv/shop.git/.git/packed-refs", &packed);
    let git = bench.operator(&[]);
    let source = Source::Local(bench.repository());
    let opened = Repositories::new(&git, BTreeMap::new(), Some(source)).open("shop", None);
    let error = opened.err().unwrap().to_string();
    assert!(error.contains("printed more than 32 MiB"), "{error}");
}

#[test]
fn apps_of_one_repository_share_its_copy() {
    let bench = GitBench::new();
    let first = bench.commit("a", "1", "First");
    let git = bench.operator(&[]);
    let port = http_server(bench.path("srv"), false);
    let source = Source::parse(&format!("http://127.0.0.1:{port}/shop.git")).unwrap();
    let mut all = Repositories::new(&git, BTreeMap::new(), Some(source));
    let shop = all.open("shop", None).unwrap().unwrap();
    let blog = all.open("blog", None).unwrap().unwrap();
    assert!(Rc::ptr_eq(&shop.repository, &blog.repository));
    assert_eq!(resolve(&blog, "main").unwrap().sha, sha(&first));
    let nothing = Repositories::new(&git, BTreeMap::new(), None).open("shop", None);
    assert!(nothing.unwrap().is_none());
}

#[test]
fn repository_option_takes_addresses_and_paths_and_nothing_that_starts_a_program() {
    let current = std::path::absolute(".").unwrap();
    for (text, expected) in [
        (".", current.clone()),
        ("../shop", current.join("../shop")),
        ("/srv/git/shop.git", "/srv/git/shop.git".into()),
        ("file:///srv/git/shop.git", "/srv/git/shop.git".into()),
    ] {
        assert_eq!(Source::parse(text), Ok(Source::Local(expected)), "{text}");
    }
    for text in ["git@github.com:acme/shop.git", "https://host/shop.git"] {
        assert!(
            matches!(Source::parse(text), Ok(Source::Remote(_))),
            "{text}"
        );
    }
    for text in [
        "ext::sh -c id",
        "-oProxyCommand=x",
        "",
        "git://host/x",
        "--upload-pack=x",
    ] {
        assert!(Source::parse(text).is_err(), "{text}");
    }
}
