//! Root collects and removes assets in folders of the app's user only where that user could do so.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use jiff::Timestamp;

use super::assets::host_after_days;
use super::*;
use crate::ports::clock::Clock;

const SECRET: &str = "users and their passwords";

/// The user's own folder `home/deploy/NAME`, with a file of the user and a folder that only root can enter.
fn home_folder(bench: &Bench, name: &str) -> PathBuf {
    let stuff = bench.host_path("home/deploy").join(name);
    let private = stuff.join("private");
    std::fs::create_dir_all(&private).unwrap();
    std::fs::write(stuff.join("own.css"), "own").unwrap();
    std::fs::write(private.join("dump.sql"), SECRET).unwrap();
    std::fs::set_permissions(&private, PermissionsExt::from_mode(0o700)).unwrap();
    for path in [&stuff, &stuff.join("own.css")] {
        chown(path, Some(DEPLOY_UID), Some(DEPLOY_UID)).unwrap();
    }
    chown(
        bench.host_path("home/deploy"),
        Some(DEPLOY_UID),
        Some(DEPLOY_UID),
    )
    .unwrap();
    stuff
}

fn assets_spec(run: &str) -> String {
    format!("user: deploy\nkeep_releases: 2\nassets: {{run: '{run}'}}\n")
}

fn commit(bench: &Bench, css: &str) -> Sha {
    bench.commit(&[("app.css", css)])
}

fn is_intact(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text == SECRET)
}

#[test]
fn folders_closed_to_the_app_user_are_not_shared() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let stuff = home_folder(&bench, "stuff");
    let run = format!("mv {} public/assets/stuff", stuff.display());
    deploy_ok(
        &bench.spec(&commit(&bench, "red"), &assets_spec(&run)),
        &bench.host(),
    );
    assert_eq!(
        list_names(&bench.app_path("shared/assets/stuff")),
        ["own.css"]
    );
    let private = bench.app_path("current/public/assets/stuff/private");
    let folder = std::fs::metadata(&private).unwrap();
    assert_eq!((folder.uid(), folder.mode() & 0o777), (0, 0o700));
    let dump = private.join("dump.sql");
    assert!(is_intact(&dump) && !std::fs::symlink_metadata(dump).unwrap().is_symlink());
    // The user's own file is shared as usual.
    assert_eq!(bench.read("current/public/assets/stuff/own.css"), "own");
}

#[test]
fn asset_cleanup_removes_nothing_planted_in_place_of_an_asset() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let more = assets_spec(
        "mkdir -p public/assets/stuff/private; echo 1 > public/assets/stuff/private/dump.sql",
    );
    deploy_ok(&bench.spec(&commit(&bench, "red"), &more), &bench.host());
    assert!(
        bench
            .app_path("shared/assets/stuff/private/dump.sql")
            .exists()
    );
    std::fs::remove_dir_all(bench.app_path("shared/assets/stuff")).unwrap();
    std::fs::rename(
        home_folder(&bench, "stuff"),
        bench.app_path("shared/assets/stuff"),
    )
    .unwrap();
    let more = assets_spec("echo ok > public/assets/b.css");
    for (css, day) in [("1", 0), ("2", 0), ("3", 3), ("4", 6)] {
        deploy_ok(
            &bench.spec(&commit(&bench, css), &more),
            &host_after_days(&bench, day),
        );
    }
    assert!(is_intact(
        &bench.app_path("shared/assets/stuff/private/dump.sql")
    ));
    // No release reveals the names of the files in there either.
    assert!(
        !bench
            .app_path("current/public/assets/stuff/private")
            .exists()
    );
    let lists = list_names(&bench.host_path("var/lib/trueup/assets/shop"));
    assert!(lists.len() <= 3, "{lists:?}");
}

#[test]
fn no_asset_link_is_made_in_folders_closed_to_the_app_user() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let stuff = home_folder(&bench, "stuff");
    let run = format!(
        "mkdir -p ../../shared/assets/stuff/private; echo 1 > ../../shared/assets/stuff/private/a.css; mv {} public/assets/stuff",
        stuff.display()
    );
    deploy_ok(
        &bench.spec(&commit(&bench, "red"), &assets_spec(&run)),
        &bench.host(),
    );
    let private = bench.app_path("current/public/assets/stuff/private");
    assert_eq!(list_names(&private), ["dump.sql"]);
}

#[test]
fn files_of_other_users_are_neither_shared_nor_compared() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let more = assets_spec(
        "echo x > public/assets/b.css; echo guess > public/assets/secret.css; rm -f ../../shared/assets/foreign.css; mv ../../shared/foreign.css public/assets/ || true",
    );
    let sha = commit(&bench, "red");
    std::fs::create_dir_all(bench.app_path("shared/assets")).unwrap();
    for (path, text) in [
        ("shared/foreign.css", SECRET),
        ("shared/assets/secret.css", "guess\n"),
    ] {
        std::fs::write(bench.app_path(path), text).unwrap();
        std::fs::set_permissions(bench.app_path(path), PermissionsExt::from_mode(0o600)).unwrap();
    }
    for folder in ["shared", "shared/assets"] {
        chown(bench.app_path(folder), Some(DEPLOY_UID), Some(DEPLOY_UID)).unwrap();
    }
    deploy_ok(&bench.spec(&sha, &more), &bench.host());
    assert_eq!(
        list_names(&bench.app_path("shared/assets")),
        ["b.css", "secret.css"]
    );
    assert!(is_intact(
        &bench.app_path("current/public/assets/foreign.css")
    ));
    let own =
        std::fs::symlink_metadata(bench.app_path("current/public/assets/secret.css")).unwrap();
    assert!(own.is_file(), "the log says that they are equal");
}

#[test]
fn root_owned_folder_in_place_of_shared_assets_is_refused() {
    if !is_root() {
        return;
    }
    let bench = Bench::new();
    let more = assets_spec("echo x > public/assets/b.css");
    deploy_ok(&bench.spec(&commit(&bench, "red"), &more), &bench.host());
    // A user cannot move root's folder to another parent, but can rename it.
    let shared = bench.app_path("shared/assets");
    std::fs::remove_dir_all(&shared).unwrap();
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::write(shared.join("dump.sql"), SECRET).unwrap();
    let failure = run_pass(&bench.spec(&commit(&bench, "blue"), &more), &bench.host()).unwrap_err();
    assert!(failure.message.contains("shared/assets"), "{failure}");
    assert!(failure.hint.is_some(), "{failure}");
    assert_eq!(list_names(&shared), ["dump.sql"]);
}

#[test]
fn names_with_control_characters_stay_in_the_release() {
    let bench = Bench::new();
    let more = "assets:\n  run: 'cd public/assets; touch \"$(printf \"a\\001b\")\" \"$(printf \"a\\377b\")\" ok.css'\n";
    deploy_ok(&bench.spec(&commit(&bench, "red"), more), &bench.host());
    assert_eq!(list_names(&bench.app_path("shared/assets")), ["ok.css"]);
    let lists = bench.host_path("var/lib/trueup/assets/shop");
    let list = std::fs::read_to_string(lists.join(&list_names(&lists)[0])).unwrap();
    assert!(!list.contains("\\u0001"), "{list}");
    assert!(bench.app_path("current/public/assets/a\u{1}b").exists());
}

/// An unreadable list of a release of that name.
fn write_unreadable_list(bench: &Bench, name: &str) -> PathBuf {
    let path = bench
        .host_path("var/lib/trueup/assets/shop")
        .join(format!("{name}.json"));
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(1 << 30).unwrap();
    path
}

#[test]
fn oversized_asset_list_is_removed_with_its_release_and_blocks_nothing() {
    let bench = Bench::new();
    let more = "keep_releases: 2\nassets: {run: 'touch public/assets/$(cat app.css).css'}\n";
    for css in ["0", "1"] {
        deploy_ok(&bench.spec(&commit(&bench, css), more), &bench.host());
    }
    let list = write_unreadable_list(&bench, "20200101000000-abcdef0");
    for (css, day) in [("2", 0), ("3", 3), ("4", 6)] {
        deploy_ok(
            &bench.spec(&commit(&bench, css), more),
            &host_after_days(&bench, day),
        );
    }
    assert!(!list.exists(), "it is in the way of all that come after it");
    let shared = list_names(&bench.app_path("shared/assets"));
    assert!(!shared.contains(&"0.css".to_owned()), "{shared:?}");
    // The list of a kept release: its needs are unknown, so all files stay. The sweep continues once it is
    // gone.
    write_unreadable_list(&bench, &bench.active_name().unwrap());
    deploy_ok(
        &bench.spec(&commit(&bench, "5"), more),
        &host_after_days(&bench, 9),
    );
    assert_eq!(
        list_names(&bench.app_path("shared/assets")),
        [shared, vec!["5.css".into()]].concat()
    );
    for (css, day) in [("6", 12), ("7", 15), ("8", 18)] {
        deploy_ok(
            &bench.spec(&commit(&bench, css), more),
            &host_after_days(&bench, day),
        );
    }
    let lists = list_names(&bench.host_path("var/lib/trueup/assets/shop"));
    assert!(lists.len() <= 3, "{lists:?}");
}

#[test]
fn too_many_asset_names_fail_the_deploy_and_leave_no_list() {
    let bench = Bench::new();
    let name = "n".repeat(240);
    let more = format!(
        "assets: {{run: 'cd public/assets; for n in $(seq 13); do mkdir {name}; cd {name}; done; seq 2700 | xargs touch'}}\n"
    );
    let failure = run_pass(&bench.spec(&commit(&bench, "red"), &more), &bench.host()).unwrap_err();
    assert!(
        failure.message.contains("8388608 bytes of names"),
        "{failure}"
    );
    let hint = failure.hint.unwrap();
    assert!(hint.contains("`assets.path`"), "{hint}");
    assert_eq!(
        list_names(&bench.host_path("var/lib/trueup/assets/shop")),
        [""; 0]
    );
    assert_eq!(list_names(&bench.app_path("shared/assets")), [""; 0]);
}

#[test]
fn asset_cleanup_keeps_only_one_list_in_memory() {
    let bench = Bench::new();
    let more = "assets: {run: 'touch public/assets/$(cat app.css).css'}\n";
    deploy_ok(&bench.spec(&commit(&bench, "1"), more), &bench.host());
    // Lists of releases that were removed within a day, except one.
    let lists = bench.host_path("var/lib/trueup/assets/shop");
    let long_ago = Timestamp::UNIX_EPOCH;
    for n in 0..20 {
        let files: Vec<String> = (0..5_000)
            .map(|file| format!("{n}-{file:0100}.css"))
            .collect();
        let gone = if n == 0 { long_ago } else { SystemClock.now() };
        let list = serde_json::json!({"version": 1, "gone": gone, "files": files, "own": []});
        let path = lists.join(format!("202001010000{n:02}-abcdef0.json"));
        std::fs::write(path, serde_json::to_vec(&list).unwrap()).unwrap();
    }
    let spec = bench.spec(&commit(&bench, "2"), more);
    let ((), peak) = crate::testing::peak_memory(|| deploy_ok(&spec, &bench.host()));
    assert_eq!(list_names(&lists).len(), 2 + 19);
    assert!(peak < 8 << 20, "{peak} bytes");
}
