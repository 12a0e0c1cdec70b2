//! Behaviour that depends on the filesystem: free space, and copies that share their content.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use super::spare::{are_spares_ready, make_spares};
use super::*;

/// A filesystem of its own below a bench; unmounted on drop.
pub(super) struct Disk(PathBuf);

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

impl Disk {
    /// Mounts one at `at`. `None`, with a message, if that is not possible here.
    pub(super) fn mount(at: &Path, arguments: &[&str]) -> Option<Disk> {
        std::fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(arguments).arg(at).output();
        if !is_root() || !mounted.is_ok_and(|mounted| mounted.status.success()) {
            crate::ports::testing::skip_test("releases on another filesystem", "cannot mount one");
            return None;
        }
        Some(Disk(at.to_owned()))
    }

    /// A new filesystem of this kind in a file beside the host.
    fn image(bench: &Bench, kind: &str, options: &[&str]) -> Option<Disk> {
        let image = bench.dir.path().join("image");
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(512 << 20).unwrap();
        let mut make = Command::new(format!("mkfs.{kind}"));
        let made = make.args(options).arg(&image).output();
        if !made.is_ok_and(|made| made.status.success()) {
            crate::ports::testing::skip_test(kind, "cannot make such a filesystem");
            return None;
        }
        let image = image.display().to_string();
        Disk::mount(&bench.host_path("srv"), &["-o", "loop", &image])
    }

    fn used(&self) -> u64 {
        Command::new("sync")
            .arg("-f")
            .arg(&self.0)
            .status()
            .unwrap();
        let space = nix::sys::statvfs::statvfs(&self.0).unwrap();
        (space.blocks() - space.blocks_free()) * space.fragment_size()
    }
}

/// Commits of a tree of this size, equal in all of them except for `a`.
fn sized_commits(bench: &Bench, megabytes: usize) -> [Sha; 3] {
    let body: String = (0..megabytes << 16)
        .map(|n| format!("{n:015x}\n"))
        .collect();
    ["1", "2", "3"].map(|text| {
        bench.commit(&[
            ("a", text),
            ("large", &body),
            ("x/link", "l"),
            ("x/y/z", "deep"),
        ])
    })
}

fn three_releases(bench: &Bench, disk: &Disk, megabytes: usize) -> u64 {
    let shas = sized_commits(bench, megabytes);
    deploy_ok(&bench.spec(&shas[0], "user: deploy\n"), &bench.host());
    let before = disk.used();
    let mut most = 0;
    for sha in &shas {
        let spec = bench.spec(sha, "user: deploy\nkeep_releases: 1\n");
        let _ = run_pass(&spec, &bench.host()).unwrap();
        make_spares(&spec, &bench.host()).unwrap();
        assert!(are_spares_ready(&spec, &bench.host()));
        most = most.max(disk.used().saturating_sub(before));
        assert_eq!(bench.read("current/x/y/z"), "deep");
        assert_eq!(
            std::fs::metadata(bench.app_path("current/x/y/z"))
                .unwrap()
                .uid(),
            DEPLOY_UID
        );
        // An app's changes to its release stay in that release.
        std::fs::write(bench.app_path("current/large"), "spoiled").unwrap();
        for name in list_names(&bench.app_path("releases/.trueup")) {
            let large = bench.app_path("releases/.trueup").join(&name).join("large");
            if !name.starts_with("notes") {
                assert_eq!(
                    std::fs::metadata(large).unwrap().len(),
                    (megabytes as u64) << 20
                );
            }
        }
    }
    let good = bench.record().in_state(ReleaseStatus::Good);
    assert_eq!(good.len(), 2, "old releases can be removed: {good:?}");
    most
}

#[test]
fn btrfs_spare_is_a_snapshot_and_its_releases_can_be_removed() {
    let bench = Bench::new();
    let Some(disk) = Disk::image(&bench, "btrfs", &["-q"]) else {
        return;
    };
    let most = three_releases(&bench, &disk, 8);
    // The app's release and the pristine tree; not a third copy, nor one per release.
    assert!(most < 24 << 20, "{most} bytes more");
    let top = std::fs::metadata(bench.app_path("current/")).unwrap();
    assert_eq!(top.ino(), 256, "the release is no subvolume");
}

#[test]
fn xfs_spare_shares_file_blocks_with_the_pristine_tree() {
    let bench = Bench::new();
    let Some(disk) = Disk::image(&bench, "xfs", &["-q", "-m", "reflink=1"]) else {
        return;
    };
    let most = three_releases(&bench, &disk, 8);
    assert!(most < 24 << 20, "{most} bytes more");
}

#[test]
fn commit_that_does_not_fit_is_refused_before_writing() {
    let bench = Bench::new();
    let Some(_disk) = Disk::mount(
        &bench.host_path("srv"),
        &[
            "-t",
            "tmpfs",
            "-o",
            "size=28m,nr_inodes=500,mode=755",
            "none",
        ],
    ) else {
        return;
    };
    let small = bench.commit(&[("a", "1")]);
    let large = bench.commit(&[("a", "2"), ("b", &"x".repeat(14 << 20))]);
    let many: Vec<(String, &str)> = (0..400).map(|n| (format!("f{n}"), "")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(p, t)| (p.as_str(), *t)).collect();
    let many = bench.commit(&many);
    let spec = bench.spec(&small, "");
    deploy_ok(&spec, &bench.host());
    for (sha, what) in [(large, "MB and"), (many, "inodes and")] {
        let failure = run_pass(&bench.spec(&sha, ""), &bench.host()).unwrap_err();
        assert!(
            failure
                .message
                .starts_with("not enough space in /srv/www/shop/releases for")
                && failure
                    .message
                    .contains("for the files of this commit: it needs")
                && failure.message.contains(what),
            "{failure}"
        );
        assert!(failure.hint.unwrap().contains("spare: false"));
        assert_eq!(bench.releases(), [bench.active_name().unwrap()]);
    }
}

#[test]
fn spare_trees_are_removed_when_a_release_needs_space() {
    let bench = Bench::new();
    let Some(_disk) = Disk::mount(
        &bench.host_path("srv"),
        &["-t", "tmpfs", "-o", "size=44m,mode=755", "none"],
    ) else {
        return;
    };
    let one = bench.commit(&[("a", &"x".repeat(6 << 20))]);
    let two = bench.commit(&[("b", &"y".repeat(12 << 20))]);
    let spec = bench.spec(&one, "");
    deploy_ok(&spec, &bench.host());
    make_spares(&spec, &bench.host()).unwrap();
    assert!(are_spares_ready(&spec, &bench.host()));
    deploy_ok(&bench.spec(&two, ""), &bench.host());
    let trees = list_names(&bench.app_path("releases/.trueup"));
    assert!(
        trees.iter().all(|name| name.starts_with("notes")),
        "{trees:?}"
    );
    // A spare that does not fit is not made.
    let failure = make_spares(&bench.spec(&two, ""), &bench.host()).unwrap_err();
    assert!(
        failure.message.starts_with("not enough space in "),
        "{failure}"
    );
    let trees = list_names(&bench.app_path("releases/.trueup"));
    assert!(!trees.iter().any(|name| name == "unfinished"), "{trees:?}");
}

#[test]
fn link_on_the_path_of_releases_is_refused_with_its_remedies() {
    for (link, remedy) in [
        ("/srv/www", Some("set `deploy_to: /data/moved/shop`")),
        ("/srv/www/shop", Some("set `deploy_to: /data/moved`")),
        ("/srv/www/shop/releases", None),
    ] {
        let bench = Bench::new();
        let spec = bench.spec(&bench.commit(&[("a", "1")]), "");
        let path = bench.host_path(link);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::create_dir_all(bench.host_path("data/moved")).unwrap();
        let depth = link.matches('/').count() - 1;
        let target = format!("{}data/moved", "../".repeat(depth));
        std::os::unix::fs::symlink(&target, &path).unwrap();
        let failure = run_pass(&spec, &bench.host()).unwrap_err();
        let message = format!("{link} is a symbolic link to {target}: ");
        assert!(failure.message.starts_with(&message), "{failure}");
        let hint = failure.hint.unwrap();
        assert!(
            hint.contains(&format!("mount --bind /data/moved {link}`")),
            "{hint}"
        );
        match remedy {
            Some(remedy) => assert!(hint.starts_with(remedy), "{hint}"),
            None => assert!(!hint.contains("deploy_to"), "{hint}"),
        }
        assert_eq!(list_names(&bench.host_path("data/moved")), [""; 0]);
    }
}

#[test]
fn file_on_the_path_of_releases_is_named() {
    for path in ["/srv/www/shop", "/srv/www/shop/releases"] {
        let bench = Bench::new();
        let spec = bench.spec(&bench.commit(&[("a", "1")]), "");
        let file = bench.host_path(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "kept").unwrap();
        let failure = run_pass(&spec, &bench.host()).unwrap_err();
        assert_eq!(
            failure.message,
            format!("{path} is a file and not a folder")
        );
        assert!(failure.hint.unwrap().contains("deploy_to"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
    }
}

#[test]
fn releases_on_another_disk_by_a_mount_deploy() {
    let bench = Bench::new();
    let releases = bench.app_path("releases");
    std::fs::create_dir_all(&releases).unwrap();
    let Some(_disk) = Disk::mount(&releases, &["-t", "tmpfs", "none"]) else {
        return;
    };
    for text in ["1", "2"] {
        let sha = bench.commit(&[("a", text)]);
        deploy_ok(&bench.spec(&sha, "keep_releases: 1\n"), &bench.host());
        assert_eq!(bench.read("current/a"), text);
    }
}
