//! Assets: old pages find their files, each release has its own manifest, and unused files are removed.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::ports::clock::Clock;

/// Compiles `app.css` to a name that contains its content, and a manifest that lists this name.
const COMPILE: &str = "assets:\n  run: 'mkdir -p public/assets/deep; cp app.css public/assets/deep/app-$(cat app.css).css; echo app-$(cat app.css).css > public/assets/manifest.json; echo site-of-$REVISION > public/assets/logo.txt; test ! -e stop'\n";

fn commit(bench: &Bench, css: &str) -> Sha {
    bench.commit(&[("app.css", css)])
}

/// A clock that is this many days ahead.
struct DaysLater(i64);

impl Clock for DaysLater {
    fn now(&self) -> Timestamp {
        SystemClock.now() + SignedDuration::from_hours(24 * self.0)
    }

    fn monotonic_now(&self) -> Instant {
        SystemClock.monotonic_now()
    }
}

pub(super) fn host_after_days(bench: &Bench, day: i64) -> Host {
    let mut host = bench.host();
    host.clock = Rc::new(DaysLater(day));
    host
}

fn manifest(bench: &Bench) -> String {
    bench.read("current/public/assets/manifest.json")
}

fn asset(bench: &Bench, release: &str, css: &str) -> Option<String> {
    let path = format!("{release}/public/assets/deep/app-{css}.css");
    std::fs::read_to_string(bench.app_path(&path)).ok()
}

#[test]
fn old_releases_keep_their_assets_and_rollback_restores_the_manifest() {
    let bench = Bench::new();
    let (one, two) = (commit(&bench, "red"), commit(&bench, "blue"));
    deploy_ok(&bench.spec(&one, COMPILE), &bench.host());
    let first = bench.active_name().unwrap();
    deploy_ok(&bench.spec(&two, COMPILE), &bench.host());
    assert_eq!(manifest(&bench), "app-blue.css\n");
    for css in ["red", "blue"] {
        assert_eq!(asset(&bench, "current", css).as_deref(), Some(css));
        // The old release has it too: another host that is ahead may serve pages that request it here.
        let old = asset(&bench, &format!("releases/{first}"), css);
        assert_eq!(old.as_deref(), Some(css));
    }
    // Files with one name and different content stay in their releases.
    assert_eq!(
        bench.read("current/public/assets/logo.txt"),
        format!("site-of-{two}\n")
    );
    deploy_ok(&bench.spec(&one, COMPILE), &bench.host());
    assert_eq!(bench.active_name().unwrap(), first);
    assert_eq!(manifest(&bench), "app-red.css\n");
    assert_eq!(
        bench.read("current/public/assets/logo.txt"),
        format!("site-of-{one}\n")
    );
    assert_eq!(asset(&bench, "current", "blue").as_deref(), Some("blue"));
    // So are the assets of a release that was deployed while another one was active.
    deploy_ok(&bench.spec(&two, COMPILE), &bench.host());
    deploy_ok(
        &bench.spec(&commit(&bench, "green"), COMPILE),
        &bench.host(),
    );
    deploy_ok(&bench.spec(&one, COMPILE), &bench.host());
    assert_eq!(asset(&bench, "current", "green").as_deref(), Some("green"));
}

#[test]
fn compiling_assets_does_not_change_the_active_release() {
    let bench = Bench::new();
    deploy_ok(&bench.spec(&commit(&bench, "red"), COMPILE), &bench.host());
    let before = snapshot(&bench.app_path("current/public"));
    let shared = snapshot(&bench.app_path("shared/assets"));
    let stops = bench.commit(&[("app.css", "blue"), ("stop", "")]);
    run_pass(&bench.spec(&stops, COMPILE), &bench.host()).unwrap_err();
    assert_eq!(before, snapshot(&bench.app_path("current/public")));
    assert_eq!(shared, snapshot(&bench.app_path("shared/assets")));
}

#[test]
fn unreferenced_assets_are_removed_after_one_day() {
    let bench = Bench::new();
    let more = format!("keep_releases: 2\n{COMPILE}");
    let shared = || list_names(&bench.app_path("shared/assets/deep"));
    let css = |n: usize| format!("app-{n}.css");
    for n in 0..3 {
        deploy_ok(
            &bench.spec(&commit(&bench, &n.to_string()), &more),
            &bench.host(),
        );
    }
    assert_eq!(bench.releases().len(), 2);
    assert_eq!(
        shared(),
        [css(0), css(1), css(2)],
        "the first release has only just gone"
    );
    // A file that trueup did not create.
    std::fs::write(bench.app_path("shared/assets/deep/other.css"), "x").unwrap();
    deploy_ok(
        &bench.spec(&commit(&bench, "3"), &more),
        &host_after_days(&bench, 2),
    );
    assert_eq!(shared(), [css(1), css(2), css(3), "other.css".into()]);
    let dangling =
        std::fs::symlink_metadata(bench.app_path("current/public/assets/deep/app-0.css"));
    assert!(dangling.is_err(), "a link to nothing is left");
    // The release before the active one is kept, so its files are.
    assert_eq!(asset(&bench, "current", "2").as_deref(), Some("2"));
    for (n, day) in [(4, 4), (5, 6), (6, 8)] {
        deploy_ok(
            &bench.spec(&commit(&bench, &n.to_string()), &more),
            &host_after_days(&bench, day),
        );
    }
    let lists = list_names(&bench.host_path("var/lib/trueup/assets/shop"));
    assert!(
        shared().len() <= 5 && lists.len() <= 4,
        "{:?} {lists:?}",
        shared()
    );
}

#[test]
fn asset_that_reappears_in_a_later_release_is_kept() {
    let bench = Bench::new();
    let more = format!("keep_releases: 2\n{COMPILE}");
    for (css, day) in [
        ("red", 0),
        ("blue", 0),
        ("green", 0),
        ("red", 3),
        ("pink", 6),
    ] {
        let sha = bench.commit(&[("app.css", css), ("day", &day.to_string())]);
        deploy_ok(&bench.spec(&sha, &more), &host_after_days(&bench, day));
    }
    assert_eq!(asset(&bench, "current", "red").as_deref(), Some("red"));
    assert_eq!(asset(&bench, "current", "blue"), None);
}

#[test]
fn assets_with_unchanged_inputs_are_reused_with_their_manifest() {
    let bench = Bench::new();
    let more = COMPILE
        .replace("assets:\n", "assets:\n  when_changed: [app.css]\n")
        .replace("'mkdir", "'echo ran >> ../../shared/ran; mkdir");
    let of = |css: &str, a: &str| bench.commit(&[("app.css", css), ("a", a)]);
    let (one, two) = (of("red", "1"), of("red", "2"));
    deploy_ok(&bench.spec(&one, &more), &bench.host());
    deploy_ok(&bench.spec(&two, &more), &bench.host());
    assert_eq!(bench.read("shared/ran"), "ran\n");
    assert_eq!(manifest(&bench), "app-red.css\n");
    assert_eq!(
        bench.read("current/public/assets/logo.txt"),
        format!("site-of-{one}\n")
    );
    assert_eq!(asset(&bench, "current", "red").as_deref(), Some("red"));
    // They belong to the new release as well: the list of the old one may expire.
    let keep = format!("keep_releases: 1\n{more}");
    for (day, a) in [(0, "3"), (0, "4"), (2, "5")] {
        deploy_ok(
            &bench.spec(&of("red", a), &keep),
            &host_after_days(&bench, day),
        );
    }
    assert_eq!(asset(&bench, "current", "red").as_deref(), Some("red"));
    // A lost file is compiled again although the inputs are equal.
    std::fs::remove_file(bench.app_path("shared/assets/deep/app-red.css")).unwrap();
    deploy_ok(&bench.spec(&of("red", "6"), &keep), &bench.host());
    assert_eq!(bench.read("shared/ran"), "ran\nran\n");
    assert_eq!(asset(&bench, "current", "red").as_deref(), Some("red"));
}

#[test]
fn release_of_an_older_trueup_keeps_its_asset_link_and_manifest() {
    let bench = Bench::new();
    let (one, two) = (commit(&bench, "red"), commit(&bench, "blue"));
    deploy_ok(&bench.spec(&one, ""), &bench.host());
    let old = bench.active_name().unwrap();
    std::fs::create_dir_all(bench.app_path("shared/assets/deep")).unwrap();
    std::fs::write(
        bench.app_path("shared/assets/manifest.json"),
        "app-red.css\n",
    )
    .unwrap();
    let sprockets = format!(".sprockets-manifest-{}.json", "0".repeat(32));
    std::fs::write(bench.app_path("shared/assets").join(&sprockets), "{}").unwrap();
    std::fs::write(bench.app_path("shared/assets/deep/app-red.css"), "red").unwrap();
    std::fs::create_dir(bench.app_path("current/public")).unwrap();
    std::os::unix::fs::symlink(
        "../../../shared/assets",
        bench.app_path("current/public/assets"),
    )
    .unwrap();
    deploy_ok(&bench.spec(&two, COMPILE), &bench.host());
    assert_eq!(manifest(&bench), "app-blue.css\n");
    assert_eq!(asset(&bench, "current", "red").as_deref(), Some("red"));
    // Of two manifests Sprockets takes the first.
    let another = bench.app_path("current/public/assets").join(&sprockets);
    assert!(std::fs::symlink_metadata(another).is_err());
    deploy_ok(&bench.spec(&one, COMPILE), &bench.host());
    assert_eq!(bench.active_name().unwrap(), old);
    assert_eq!(manifest(&bench), "app-red.css\n");
}

#[test]
fn recompiling_assets_writes_through_no_link() {
    let bench = Bench::new();
    let (one, two) = (commit(&bench, "red"), commit(&bench, "blue"));
    let fixed =
        |word: &str| format!("assets: {{run: 'echo {word} > public/assets/app.css'}}\nsteps: []\n");
    deploy_ok(&bench.spec(&one, &fixed("old")), &bench.host());
    // Its assets are shared when it fails, and redefined when it is resumed.
    let hook = "hooks: {after_assets: [{run: 'false'}]}\n";
    run_pass(
        &bench.spec(&two, &format!("{}{hook}", fixed("old"))),
        &bench.host(),
    )
    .unwrap_err();
    deploy_ok(&bench.spec(&two, &fixed("new")), &bench.host());
    assert_eq!(bench.read("current/public/assets/app.css"), "new\n");
    assert_eq!(bench.read("shared/assets/app.css"), "old\n");
}

#[test]
fn links_planted_among_the_assets_are_not_followed() {
    if !is_root() {
        return;
    }
    use std::os::unix::fs::MetadataExt;
    let bench = Bench::new();
    let outside = bench.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "s").unwrap();
    let evil = format!(
        "user: deploy\nassets: {{run: 'cd public/assets; ln -s {0} dir; ln -s {0}/secret file.css; mkdir way; echo 1 > way/a.css; ln -s {0} ../../../../shared/assets/way; echo ok > b.css'}}\n",
        outside.display()
    );
    deploy_ok(&bench.spec(&commit(&bench, "red"), &evil), &bench.host());
    assert_eq!(list_names(&outside), ["secret"]);
    assert_eq!(std::fs::metadata(outside.join("secret")).unwrap().uid(), 0);
    assert_eq!(
        list_names(&bench.app_path("shared/assets")),
        ["b.css", "way"]
    );
    assert_eq!(bench.read("current/public/assets/way/a.css"), "1\n");
    let owner = |path: &str| {
        std::fs::symlink_metadata(bench.app_path(path))
            .unwrap()
            .uid()
    };
    for path in [
        "shared/assets/b.css",
        "current/public/assets/b.css",
        "current/public/assets",
    ] {
        assert_eq!(owner(path), DEPLOY_UID, "{path}");
    }
    // The whole folder is a link: refused, and reported.
    std::fs::remove_dir_all(bench.app_path("shared/assets")).unwrap();
    std::os::unix::fs::symlink(&outside, bench.app_path("shared/assets")).unwrap();
    let failure = run_pass(&bench.spec(&commit(&bench, "blue"), &evil), &bench.host()).unwrap_err();
    assert!(failure.message.contains("symbolic link"), "{failure}");
    assert_eq!(list_names(&outside), ["secret"]);
}

#[test]
fn manifests_of_common_tools_are_recognized_by_default() {
    let bench = Bench::new();
    let hex = |n: usize| "a".repeat(n);
    let own = [
        format!(".sprockets-manifest-{}.json", hex(32)),
        format!("manifest-{}.json", hex(32)),
        ".manifest.json".into(),
        "vite/.vite/manifest.json".into(),
        ".vite/manifest-assets.json".into(),
        "packs/manifest.json".into(),
        "rev-manifest.json".into(),
        "staticfiles.json".into(),
        "help/index.html".into(),
    ];
    let shared = [
        format!("application-{}.js", hex(64)),
        format!("manifest-{}.json", hex(64)),
        "assets/index-BkH3x_9Q.css".into(),
    ];
    let all: Vec<String> = own.iter().chain(&shared).cloned().collect();
    let make = format!(
        "assets: {{run: 'cd public/assets; for f in {}; do mkdir -p $(dirname $f); echo x > $f; done'}}\n",
        all.join(" ")
    );
    deploy_ok(&bench.spec(&commit(&bench, "red"), &make), &bench.host());
    for path in &all {
        let here = bench.app_path("current/public/assets").join(path);
        let is_link = std::fs::symlink_metadata(here).unwrap().is_symlink();
        assert_eq!(is_link, shared.contains(path), "{path}");
        assert_eq!(
            bench.app_path("shared/assets").join(path).exists(),
            is_link,
            "{path}"
        );
    }
}
