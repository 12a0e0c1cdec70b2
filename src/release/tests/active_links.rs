//! The links of the active release are kept as described, and nothing that is in their place is removed.

use std::os::unix::fs::symlink;

use super::*;

fn stamp_of(spec: &ReleaseSpec, bench: &Bench) -> String {
    let state = Release::inspect(spec, &bench.host()).unwrap();
    Release::stamp(spec, &state).unwrap().fingerprint
}

struct Active {
    bench: Bench,
    sha: Sha,
}

impl Active {
    fn deployed(more: &str) -> Active {
        let bench = Bench::new();
        let sha = bench.commit(&[("a", "1"), ("kept/.keep", "")]);
        let active = Active { bench, sha };
        deploy_ok(&active.spec(more), &active.bench.host());
        active
    }

    fn spec(&self, more: &str) -> ReleaseSpec {
        self.bench.spec(&self.sha, more)
    }

    fn pass(&self, more: &str) -> Result<Option<ApplyOutcome>, Failure> {
        run_pass(&self.spec(more), &self.bench.host())
    }

    fn at(&self, path: &str) -> PathBuf {
        self.bench.app_path("current").join(path)
    }

    fn target(&self, path: &str) -> Option<PathBuf> {
        std::fs::read_link(self.at(path)).ok()
    }
}

#[test]
fn link_added_to_the_description_is_made_in_the_active_release() {
    let app = Active::deployed("linked_dirs: [log]\n");
    let shared = app.bench.app_path("shared/config/.env");
    std::fs::create_dir_all(shared.parent().unwrap()).unwrap();
    std::fs::write(&shared, "A=1").unwrap();
    let more = "linked_dirs: [log, public/uploads]\nlinked_files: [config/.env]\n";
    let change = plan(&app.spec(more), &app.bench.host()).unwrap();
    assert!(
        change.touches("public/uploads") && change.touches("config/.env"),
        "{change:?}"
    );
    assert!(!change.touches("log") && !change.keeps_stamp, "{change:?}");
    let before = stamp_of(&app.spec(more), &app.bench);
    assert_eq!(app.pass(more), Ok(Some(ApplyOutcome::Done)));
    assert_ne!(stamp_of(&app.spec(more), &app.bench), before);
    assert_eq!(
        app.target("public/uploads"),
        Some("../../../shared/public/uploads".into())
    );
    assert_eq!(
        std::fs::read_to_string(app.at("config/.env")).unwrap(),
        "A=1"
    );
    assert!(app.bench.app_path("shared/public/uploads").is_dir());
    assert_eq!(app.pass(more), Ok(None));
}

#[test]
fn removed_or_diverted_link_is_restored_without_a_restart() {
    let more = "linked_dirs: [log]\n";
    let app = Active::deployed(more);
    let before = stamp_of(&app.spec(more), &app.bench);
    let outside = app.bench.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    for divert in [false, true] {
        std::fs::remove_file(app.at("log")).unwrap();
        if divert {
            symlink(&outside, app.at("log")).unwrap();
        }
        let change = plan(&app.spec(more), &app.bench.host()).unwrap();
        assert!(change.touches("log") && change.keeps_stamp, "{change:?}");
        assert_eq!(app.pass(more), Ok(Some(ApplyOutcome::Done)));
        assert_eq!(app.target("log"), Some("../../shared/log".into()));
        assert_eq!(stamp_of(&app.spec(more), &app.bench), before);
        assert_eq!(app.pass(more), Ok(None));
    }
    // A shared folder that was removed is made again.
    std::fs::remove_dir_all(app.bench.app_path("shared/log")).unwrap();
    assert_eq!(app.pass(more), Ok(Some(ApplyOutcome::Done)));
    assert!(app.bench.app_path("shared/log").is_dir());
}

#[test]
fn what_is_in_the_place_of_a_link_stays_and_the_failure_names_it() {
    let app = Active::deployed("");
    std::fs::create_dir_all(app.at("public/uploads")).unwrap();
    std::fs::write(app.at("public/uploads/cat"), "meow").unwrap();
    let more = "linked_dirs: [public/uploads, log]\n";
    let failure = app.pass(more).unwrap_err();
    let shown = failure.to_string();
    let active = app.bench.active_name().unwrap();
    assert!(
        shown.contains(&format!("/srv/www/shop/releases/{active}/public/uploads")),
        "{shown}"
    );
    assert!(
        shown.contains("/srv/www/shop/shared/public/uploads"),
        "{shown}"
    );
    assert_eq!(
        std::fs::read_to_string(app.at("public/uploads/cat")).unwrap(),
        "meow"
    );
    assert_eq!(app.target("log"), Some("../../shared/log".into()));
    let again = app.pass(more).unwrap_err();
    assert_eq!(again.message, failure.message);
    // As the hint says.
    std::fs::rename(
        app.at("public/uploads/cat"),
        app.bench.app_path("shared/public/uploads/cat"),
    )
    .unwrap();
    assert_eq!(app.pass(more), Ok(Some(ApplyOutcome::Done)));
    assert_eq!(
        std::fs::read_to_string(app.at("public/uploads/cat")).unwrap(),
        "meow"
    );
    assert_eq!(app.pass(more), Ok(None));
}

#[test]
fn file_in_the_place_of_a_link_and_missing_target_are_named() {
    let app = Active::deployed("");
    let more = "linked_files: [.env]\n";
    let failure = app.pass(more).unwrap_err();
    assert!(
        failure
            .message
            .contains("/srv/www/shop/shared/.env does not exist"),
        "{failure}"
    );
    assert_eq!(app.target(".env"), None);
    std::fs::write(app.bench.app_path("shared/.env"), "A=1").unwrap();
    std::fs::write(app.at(".env"), "by hand").unwrap();
    let failure = app.pass(more).unwrap_err();
    assert!(failure.message.contains("/.env is a file"), "{failure}");
    assert_eq!(std::fs::read_to_string(app.at(".env")).unwrap(), "by hand");
    std::fs::remove_file(app.at(".env")).unwrap();
    assert_eq!(app.pass(more), Ok(Some(ApplyOutcome::Done)));
    std::fs::remove_file(app.bench.app_path("shared/.env")).unwrap();
    let failure = app.pass(more).unwrap_err();
    assert!(
        failure
            .message
            .contains("/srv/www/shop/shared/.env does not exist"),
        "{failure}"
    );
}

#[test]
fn release_whose_build_replaced_a_link_is_not_activated() {
    let bench = Bench::new();
    let sha = bench.commit(&[("a", "1")]);
    let spec = |step: &str| {
        bench.spec(
            &sha,
            &format!("linked_dirs: [node_modules]\nsteps: [{{run: 'rm node_modules; {step}'}}]\n"),
        )
    };
    let replaces = "mkdir node_modules; touch node_modules/x";
    let failure = run_pass(&spec(replaces), &bench.host()).unwrap_err();
    assert!(
        failure.message.contains("node_modules is a folder"),
        "{failure}"
    );
    assert!(failure.hint.unwrap().contains("change the command"));
    assert_eq!(bench.active_name(), None);
    // An empty folder gives way to the link.
    deploy_ok(&spec("mkdir node_modules"), &bench.host());
    assert!(std::fs::read_link(bench.app_path("current/node_modules")).is_ok());
}

#[test]
fn links_planted_in_the_active_release_lead_no_link_outside() {
    let app = Active::deployed("");
    let outside = app.bench.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let before = snapshot(&outside);
    std::os::unix::fs::symlink(&outside, app.at("tmp")).unwrap();
    let more = "linked_dirs: [tmp/pids]\n";
    let failure = app.pass(more).unwrap_err();
    assert!(failure.message.contains("tmp/pids"), "{failure}");
    assert_eq!(snapshot(&outside), before);
    // It prevents no deployment.
    let next = app.bench.commit(&[("a", "2")]);
    deploy_ok(&app.bench.spec(&next, more), &app.bench.host());
    assert_eq!(
        app.target("tmp/pids"),
        Some("../../../shared/tmp/pids".into())
    );
}

#[test]
fn folder_of_another_user_is_not_entered_for_a_link() {
    use std::os::unix::fs::chown;
    if !is_root() {
        return;
    }
    let app = Active::deployed("user: deploy\n");
    let folder = app.at("tmp");
    std::fs::create_dir(&folder).unwrap();
    chown(&folder, Some(DEPLOY_UID + 1), Some(DEPLOY_UID + 1)).unwrap();
    let before = snapshot(&folder);
    let more = "user: deploy\nlinked_dirs: [tmp/pids, log]\n";
    let failure = app.pass(more).unwrap_err();
    assert!(failure.message.contains("tmp/pids"), "{failure}");
    assert_eq!(snapshot(&folder), before);
    let log = std::fs::symlink_metadata(app.at("log")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&log), DEPLOY_UID);
}

#[test]
fn killed_change_of_links_still_restarts_the_services() {
    let app = Active::deployed("");
    let more = "linked_dirs: [log]\n";
    let before = stamp_of(&app.spec(more), &app.bench);
    app.pass(more).unwrap();
    // As if the pass had been killed between the last link and the record.
    let file = app.bench.host_path("var/lib/trueup/releases/shop.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    let stages = record["releases"][0]["stages"].as_array_mut().unwrap();
    let links = stages
        .iter_mut()
        .find(|stage| stage["step"] == "links")
        .unwrap();
    links["ended"] = "running".into();
    std::fs::write(&file, record.to_string()).unwrap();
    assert_eq!(app.pass(more), Ok(Some(ApplyOutcome::Done)));
    assert_ne!(stamp_of(&app.spec(more), &app.bench), before);
    assert_eq!(app.pass(more), Ok(None));
}

#[test]
fn release_of_another_tool_keeps_its_links() {
    let app = Active::deployed("linked_dirs: [log]\n");
    let file = app.bench.host_path("var/lib/trueup/releases/shop.json");
    std::fs::remove_file(file).unwrap();
    std::fs::remove_file(app.at("log")).unwrap();
    symlink("../../shared/logs", app.at("log")).unwrap();
    assert_eq!(app.pass("linked_dirs: [log, tmp]\n"), Ok(None));
    assert_eq!(app.target("log"), Some("../../shared/logs".into()));
}
