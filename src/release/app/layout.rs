//! The paths of one app on the host: Capistrano's layout, and trueup's own files.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use crate::desired::Sha;
use crate::ports::root::{Root, RootError, UserTree};
use crate::ports::{RUN_DIR, STATE_DIR};

/// The paths of one app.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    app: String,
    deploy_to: PathBuf,
}

impl Layout {
    pub(crate) fn new(app: &str, deploy_to: &Path) -> Layout {
        Layout {
            app: app.to_owned(),
            deploy_to: deploy_to.to_owned(),
        }
    }

    pub(crate) fn app(&self) -> &str {
        &self.app
    }

    pub(crate) fn deploy_to(&self) -> &Path {
        &self.deploy_to
    }

    pub(crate) fn releases(&self) -> PathBuf {
        self.deploy_to.join("releases")
    }

    pub(crate) fn shared(&self) -> PathBuf {
        self.deploy_to.join("shared")
    }

    /// The link to the active release.
    pub(crate) fn current(&self) -> PathBuf {
        self.deploy_to.join("current")
    }

    /// One line per activation, for people and for a lost record.
    pub(crate) fn revisions_log(&self) -> PathBuf {
        self.deploy_to.join("revisions.log")
    }

    /// The folder of a release, with everything that is checked out.
    pub(crate) fn release(&self, name: &str) -> PathBuf {
        self.releases().join(name)
    }

    /// The folder of the app in a release of this `subdir`.
    pub(crate) fn app_folder(&self, name: &str, subdir: &Path) -> AppFolder {
        AppFolder::new(&self.release(name), subdir)
    }

    /// The folder of a checkout, while only root can see it.
    pub(crate) fn partial_release(&self, name: &str) -> PathBuf {
        self.releases().join(format!(".{name}{PARTIAL}"))
    }

    /// The folder of a release during its removal.
    pub(crate) fn removed_release(&self, name: &str) -> PathBuf {
        self.releases().join(format!(".{name}{REMOVED}"))
    }

    /// The shared outputs of steps.
    pub(crate) fn outputs(&self) -> PathBuf {
        self.deploy_to.join(OUTPUTS)
    }

    /// The folder of the spares: beside the releases, so that one rename turns a spare into a release, and
    /// accessible only to root.
    pub(crate) fn spares(&self) -> PathBuf {
        self.releases().join(".trueup")
    }

    pub(crate) fn record(&self) -> PathBuf {
        Path::new(STATE_DIR).join(format!("releases/{}.json", self.app))
    }

    /// The folder of the lists of compiled assets, one per release.
    pub(crate) fn asset_lists(&self) -> PathBuf {
        Path::new(STATE_DIR).join("assets").join(&self.app)
    }

    pub(crate) fn asset_list(&self, name: &str) -> PathBuf {
        self.asset_lists().join(format!("{name}.json"))
    }

    /// The compiled assets of all releases.
    pub(crate) fn shared_assets(&self) -> PathBuf {
        self.shared().join(SHARED_ASSETS)
    }

    /// The file with the quarantined shas and the pin.
    pub(crate) fn overrides(&self) -> PathBuf {
        Path::new(STATE_DIR).join(format!("orders/{}.json", self.app))
    }

    /// The folder of the apps that an operator put into maintenance, a file each. Templates of web servers name it.
    pub(crate) fn maintenance_dir() -> PathBuf {
        Path::new(STATE_DIR).join("maintenance")
    }

    /// The folder of the drained apps, a file each. Templates of web servers name it. A reboot empties it.
    pub(crate) fn drain_dir() -> PathBuf {
        Path::new(RUN_DIR).join("drain")
    }

    pub(crate) fn mirrors() -> PathBuf {
        Path::new(STATE_DIR).join("mirrors")
    }

    pub(crate) fn mirror(&self) -> PathBuf {
        Layout::mirrors().join(format!("{}.git", self.app))
    }

    pub(crate) fn logs(&self) -> PathBuf {
        Path::new("/var/log/trueup/releases").join(&self.app)
    }

    /// The output of a release's commands.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// The release that a `current` link with this target names, in trueup's form (`releases/NAME`, or a folder in it)
    /// or in Capistrano's (the full path, in which the folders above the app's own may be links).
    pub(crate) fn release_of_link(&self, target: &Path) -> Option<String> {
        let is_plain = |part: Component<'_>| part != Component::ParentDir;
        if !target.components().all(is_plain) {
            return None;
        }
        // The outermost one: a repository may have such folders as well.
        let mut names: Vec<&Path> = target.ancestors().collect();
        names.reverse();
        names.into_iter().find_map(|folder| self.release_at(folder))
    }

    /// The app's folder in a release, as far as a `current` link with this target tells.
    pub(crate) fn subdir_of_link(&self, target: &Path, name: &str) -> PathBuf {
        let mut parts = target.components();
        parts.by_ref().find(|part| part.as_os_str() == name);
        parts.collect()
    }

    /// The release whose folder this is, as far as the path tells.
    fn release_at(&self, folder: &Path) -> Option<String> {
        let name = folder.file_name()?.to_str()?;
        let releases = folder.parent()?;
        let is_of_this_app = |releases: &Path| match releases.parent() {
            Some(app) if releases.is_absolute() => app.file_name() == self.deploy_to.file_name(),
            // A link beside it says `./releases` or `releases`.
            Some(app) => app.components().all(|part| part == Component::CurDir),
            None => false,
        };
        let inside = releases.file_name()? == "releases" && is_of_this_app(releases);
        (inside && is_release_name(name)).then(|| name.to_owned())
    }
}

pub(in crate::release) const SHARED_ASSETS: &str = "assets";

/// The folder of the shared outputs in `deploy_to`.
pub(in crate::release) const OUTPUTS: &str = "outputs";

const PARTIAL: &str = ".partial";
const REMOVED: &str = ".removed";

/// The name of a release of `sha` begun at `at`.
pub(crate) fn release_name(at: Timestamp, sha: &Sha) -> String {
    format!("{}-{}", at.strftime("%Y%m%d%H%M%S"), sha.short())
}

/// The first unused name from `at` on: two attempts may start in one second, and a clock may be set back.
pub(crate) fn free_name(at: Timestamp, sha: &Sha, taken: impl Fn(&str) -> bool) -> String {
    let mut at = at;
    loop {
        let name = release_name(at, sha);
        if !taken(&name) {
            return name;
        }
        at += SignedDuration::from_secs(1);
    }
}

/// Whether a name is a release's: of trueup (`20261121050000-4f2c9d0`), Capistrano (`20261121050000`), Chef's
/// `deploy_revision` (a full sha), or one of the many scripts that use some form of the time
/// (`2015-09-10_04.00`). trueup never touches anything of another name.
pub(crate) fn is_release_name(name: &str) -> bool {
    let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if name.len() == 40 && name.bytes().all(lower_hex) {
        return true;
    }
    if let Some((time, sha)) = name.split_once('-')
        && is_digits(time, 14)
    {
        return !sha.is_empty() && sha.bytes().all(lower_hex);
    }
    // A year, then at least the month, the day and the hour, with or without separators.
    let digits: String = name.chars().filter(char::is_ascii_digit).collect();
    let between = |c: char| c.is_ascii_digit() || "-_.:T".contains(c);
    let ends_well = |c: char| c.is_ascii_digit();
    (10..=17).contains(&digits.len())
        && (digits.starts_with("19") || digits.starts_with("20"))
        && name.chars().all(between)
        && name.starts_with(ends_well)
        && name.ends_with(ends_well)
}

fn is_digits(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a name in `releases/` is that of a release which a killed pass left behind.
pub(crate) fn is_leftover(name: &str) -> bool {
    let inner = name.strip_prefix('.').and_then(|name| {
        name.strip_suffix(PARTIAL)
            .or_else(|| name.strip_suffix(REMOVED))
    });
    inner.is_some_and(is_release_name)
}

/// The folder of the app in a release, in which its commands run and its paths begin: the folder of the release, or with
/// a `subdir` one below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AppFolder {
    release: PathBuf,
    /// Relative to the release.
    subdir: PathBuf,
    path: PathBuf,
}

impl AppFolder {
    /// The one in the checked out `tree`.
    pub(crate) fn new(tree: &Path, subdir: &Path) -> AppFolder {
        AppFolder {
            release: tree.to_owned(),
            subdir: subdir.to_owned(),
            path: tree.components().chain(subdir.components()).collect(),
        }
    }

    /// Opens it, through folders of the release's owner only. `None`: it does not exist, or is no folder.
    pub(crate) fn open(&self, root: &Root) -> Result<Option<UserTree>, RootError> {
        match root.open_user_tree(&self.release)? {
            Some(release) => release.subtree(&self.subdir),
            None => Ok(None),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The target of a link at `path` in this folder, to reach `target` inside `deploy_to`.
    pub(crate) fn link_target(&self, path: &Path, target: &Path) -> PathBuf {
        let depth = self.subdir.components().count() + path.components().count() - 1;
        // Out of the folders of the release, out of the release, out of `releases`.
        let mut link: PathBuf = std::iter::repeat_n("..", depth + 2).collect();
        link.push(target);
        link
    }
}

/// Whether a path of a spec is relative and stays inside its folder.
pub(crate) fn stays_inside(path: &Path) -> bool {
    let mut parts = path.components().peekable();
    parts.peek().is_some()
        && parts.all(|part| matches!(part, Component::Normal(_)))
        && !path.as_os_str().as_encoded_bytes().contains(&0)
}

/// The release of the app that a path is in. Matches only the last parts of the path: links, bind mounts and
/// mount namespaces may spell its beginning in other ways.
pub(crate) fn release_in_path(path: &Path, deploy_to: &Path) -> Option<String> {
    let app = deploy_to.file_name()?;
    let parts: Vec<&OsStr> = path.iter().collect();
    let found = parts
        .windows(3)
        .find(|parts| parts[0] == app && parts[1] == "releases")?;
    let name = found[2].to_str()?;
    // The kernel marks a folder that was removed under a process like this.
    let name = name.strip_suffix(" (deleted)").unwrap_or(name);
    let name = name.strip_prefix('.').unwrap_or(name);
    Some(name.strip_suffix(".removed").unwrap_or(name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_release_names_and_their_leftovers_are_recognized() {
        for name in [
            "20261121050000-4f2c9d0",
            "20261121050000",
            "4f2c9d0e4f2c9d0e4f2c9d0e4f2c9d0e4f2c9d0e",
            "2015-09-10_04.00",
            "2015-09-10T04:00:12",
        ] {
            assert!(is_release_name(name), "{name}");
            assert!(is_leftover(&format!(".{name}.partial")), "{name}");
            assert!(is_leftover(&format!(".{name}.removed")), "{name}");
        }
        for name in [
            "backup",
            "2026",
            "20261121",
            "20261121050000-",
            "20261121050000-x",
            "2015-09-10_04.00.bak",
            "1511-09-10_04.00",
            ".2015-09-10_04.00",
            "4f2c9d0e",
            "",
        ] {
            assert!(!is_release_name(name), "{name}");
            assert!(!is_leftover(&format!(".{name}.partial")), "{name}");
        }
        assert!(!is_leftover("20261121050000.partial") && !is_leftover(".partial"));
    }

    #[test]
    fn active_release_is_read_from_every_form_of_the_link() {
        let layout = Layout::new("shop", Path::new("/srv/www/shop"));
        let named = |target: &str| layout.release_of_link(Path::new(target));
        for target in [
            "releases/20261121050000",
            "./releases/20261121050000",
            "/srv/www/shop/releases/20261121050000",
            "/mnt/www/shop/releases/20261121050000/",
            "releases/20261121050000/services/shop",
            "/srv/www/shop/releases/20261121050000/shop/releases/20261122050000",
        ] {
            assert_eq!(named(target).as_deref(), Some("20261121050000"), "{target}");
        }
        for target in [
            "/srv/www/cart/releases/20261121050000",
            "../cart/releases/20261121050000",
            "releases/backup",
            "releases",
            "/srv/www/shop",
            "20261121050000",
            "releases/..",
            "releases/20261121050000/../..",
            "backup/releases/20261121050000",
        ] {
            assert_eq!(named(target), None, "{target}");
        }
    }

    #[test]
    fn link_to_shared_path_is_relative() {
        let way = |subdir, path| {
            let app = AppFolder::new(Path::new("/srv/www/shop/releases/r"), Path::new(subdir));
            let link = app.link_target(Path::new(path), &Path::new("shared").join(path));
            link.display().to_string()
        };
        assert_eq!(way("", "log"), "../../shared/log");
        assert_eq!(way("", "public/assets"), "../../../shared/public/assets");
        assert_eq!(way("services/shop", "log"), "../../../../shared/log");
    }

    #[test]
    fn a_second_attempt_in_the_same_second_gets_another_name() {
        let sha = Sha::parse(&"4f2c9d0e".repeat(5)).unwrap();
        let at = "2026-11-21T05:00:59Z".parse().unwrap();
        let name = free_name(at, &sha, |name| name == "20261121050059-4f2c9d0");
        assert_eq!(name, "20261121050100-4f2c9d0");
    }

    #[test]
    fn paths_outside_their_folder_are_detected() {
        for bad in ["", "/etc", "../x", "a/../b", "."] {
            assert!(!stays_inside(Path::new(bad)), "{bad}");
        }
        assert!(stays_inside(Path::new("public/uploads")));
    }
}
