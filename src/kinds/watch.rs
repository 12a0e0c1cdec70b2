//! The `watch` kind: files that another program maintains, for the services that must pick up their changes.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;

use crate::digest::digest;
use crate::kind::{Diff, Kind};
use crate::ports::Host;
use crate::ports::root::{FileKind, Meta};
use crate::problem::Problem;
use crate::resource::{ApplyOutcome, Failure, ResolveInputs, Stamp};

/// Size limit of a watched file, in bytes.
const MAX_FILE_BYTES: usize = 16 << 20;

pub(super) struct Watch;

/// Files that are only read.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct WatchSpec {
    /// Absolute paths of files, or of a folder for the files in it. They must exist.
    pub paths: Vec<PathBuf>,
    /// The check that must pass before a service is reloaded or restarted for a change: a name in the role's `checks`.
    pub check: Option<String>,
    /// Fail if users other than root could replace a file with a link, a pipe or another file: for files that
    /// a program opens as root.
    #[serde(default)]
    pub root_only: bool,
}

/// The fingerprint of the files' contents.
pub(super) struct WatchState {
    fingerprint: String,
    changed_at: Option<Timestamp>,
}

impl Kind for Watch {
    const NAME: &'static str = "watch";
    const ABOUT: &'static str = "Files that another program manages, such as certificates: trueup only watches them, for services that list them in `reload_on` or `restart_on`.";
    const EXAMPLE: &'static str = "watch: {paths: [/etc/ssl/private/example.com.pem]}";

    type Spec = WatchSpec;
    type State = WatchState;
    /// It only reads.
    type Action = Infallible;

    fn subject(spec: &WatchSpec) -> String {
        let paths = spec.paths.iter().map(|path| path.display().to_string());
        paths.collect::<Vec<_>>().join(", ")
    }

    fn resolve(spec: &mut WatchSpec, _inputs: &dyn ResolveInputs) -> Result<(), Problem> {
        if spec.paths.is_empty() {
            let problem = Problem::new("expected at least one path").field("paths");
            return Err(problem.hint("exclude it with `when` where there is nothing to watch"));
        }
        let mut paths = spec.paths.iter();
        paths.try_for_each(|path| super::path_field::validate_path("paths", path))
    }

    fn check_name(spec: &WatchSpec) -> Option<&str> {
        spec.check.as_deref()
    }

    fn inspect(spec: &WatchSpec, host: &Host) -> Result<WatchState, Failure> {
        let mut scan = WatchScan::default();
        for path in &spec.paths {
            let missing = || {
                Failure::not_ready(format!("there is no {}", path.display())).hint(
                    "create it, or remove it from `paths`; until then the services that use it are left as they are",
                )
            };
            match scan.add_path(path, path, host)?.ok_or_else(missing)? {
                FileKind::File => spec.require_root_only(path, path, host)?,
                FileKind::Directory => {
                    spec.require_root_only(path, &path.join("any"), host)?;
                    for name in host.root.list(path)?.unwrap_or_default() {
                        // A file that vanishes during the scan, or is not a regular file, does not count.
                        let inner = path.join(name);
                        scan.add_path(path, &inner, host)?;
                        spec.require_root_only(path, &inner, host)?;
                    }
                }
                other => {
                    let (path, kind) = (path.display(), other.describe());
                    return Err(Failure::new(format!("{path} is {kind} and not a file")));
                }
            }
        }
        Ok(WatchState {
            fingerprint: digest(scan.listing.as_bytes()),
            changed_at: scan.changed_at,
        })
    }

    fn diff(_spec: &WatchSpec, _state: &WatchState) -> Option<Diff<Infallible>> {
        None
    }

    fn apply(
        _spec: &WatchSpec,
        action: &Infallible,
        _host: &Host,
    ) -> Result<ApplyOutcome, Failure> {
        match *action {}
    }

    fn stamp(_spec: &WatchSpec, state: &WatchState) -> Option<Stamp> {
        Some(Stamp {
            fingerprint: state.fingerprint.clone(),
            changed_at: state.changed_at,
            is_request: false,
        })
    }
}

impl WatchSpec {
    /// `spec_path`: the path in the spec that leads to `path`.
    fn require_root_only(&self, spec_path: &Path, path: &Path, host: &Host) -> Result<(), Failure> {
        if !self.root_only || host.root.is_trusted_path(path)? {
            return Ok(());
        }
        let path = spec_path.display();
        Err(Failure::new(format!(
            "root opens {path}, and users other than root could put a link, a pipe or another file there"
        ))
        .hint("keep it in a folder that only root can write to, like all folders above it"))
    }
}

/// The result of the scan so far.
#[derive(Default)]
struct WatchScan {
    listing: String,
    changed_at: Option<Timestamp>,
}

impl WatchScan {
    /// Follows links that only root can have made, because tools that renew certificates switch links.
    /// `spec_path`: the path in the spec that leads to `path`.
    fn add_path(
        &mut self,
        spec_path: &Path,
        path: &Path,
        host: &Host,
    ) -> Result<Option<FileKind>, Failure> {
        let Some(real) = host.root.canonicalize(path)? else {
            return Ok(None);
        };
        let found = host.root.read_with_meta(&real, MAX_FILE_BYTES)?;
        let Some((
            Meta {
                kind,
                ctime: changed,
                ..
            },
            body,
        )) = found
        else {
            return Ok(None);
        };
        if kind == FileKind::File {
            let way = path.strip_prefix(spec_path).unwrap_or(path);
            self.listing += &format!("{}\0{}\n", way.display(), digest(&body));
        }
        if kind == FileKind::File || spec_path == path {
            self.changed_at = self.changed_at.max(Some(changed));
        }
        Ok(Some(kind))
    }
}

#[cfg(test)]
mod conformance {
    use super::Watch;
    use crate::kind::ConformanceProbes;
    use crate::kind::conformance::Probe;

    const FILE: &str = "/etc/ssl/private/example.com.pem";

    impl ConformanceProbes for Watch {
        fn prepare(host: &crate::ports::testing::Sandbox) {
            host.write(FILE, "old");
        }

        fn is_read_only() -> bool {
            true
        }

        fn probes() -> Vec<Probe> {
            vec![
                Probe::stamp_change("paths", |host| host.write(FILE, "new")),
                Probe::not_set("check", "it says what is to be run before a reload"),
                Probe::not_set("root_only", "it says what is refused"),
            ]
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::kind::conformance::parse_resource;
    use crate::ports::testing::Sandbox;
    use crate::resource::{Failure, Stamp};

    fn stamp(host: &Sandbox, paths: &str) -> Result<Stamp, Failure> {
        let watch = parse_resource(&format!("watch: {{paths: [{paths}]}}")).unwrap();
        let observed = watch.inspect(&host.host)?;
        assert!(observed.change().is_none());
        Ok(observed.stamp().unwrap())
    }

    #[test]
    fn root_made_symlinks_are_followed_to_their_content() {
        let host = Sandbox::with_base_system();
        host.write("/etc/le/archive/a1.pem", "one");
        host.write("/etc/le/archive/a2.pem", "two");
        host.make_dir("/etc/le/live");
        host.link("/etc/le/live/a.pem", "../archive/a1.pem");
        let one = stamp(&host, "/etc/le/live/a.pem").unwrap();
        host.link("/etc/le/live/a.pem", "/etc/le/archive/a2.pem");
        let two = stamp(&host, "/etc/le/live/a.pem").unwrap();
        assert_ne!(one.fingerprint, two.fingerprint);
        host.link("/etc/le/live/a.pem", "../archive/a1.pem");
        assert_eq!(
            stamp(&host, "/etc/le/live/a.pem").unwrap().fingerprint,
            one.fingerprint,
            "what counts is what is in it"
        );
    }

    #[test]
    fn root_only_path_replaceable_by_others_is_rejected() {
        let host = Sandbox::with_base_system();
        if !host.can_set_owners() {
            return crate::ports::testing::skip_test("folders of another user", "needs root");
        }
        host.write("/etc/ssl/a.pem", "a");
        host.write("/etc/certs/a.pem", "a");
        host.chown("/etc/certs", 65534, 65534);
        host.write("/srv/certs/a.pem", "a");
        host.chmod("/srv/certs", 0o777);
        host.make_dir("/etc/linked");
        host.link("/etc/linked/a.pem", "/etc/certs/a.pem");
        let stamp = |path: &str, only: bool| {
            let text = format!("watch: {{paths: [{path}], root_only: {only}}}");
            let watch = parse_resource(&text).unwrap();
            watch.inspect(&host.host).map(|observed| observed.stamp())
        };
        for path in ["/etc/ssl/a.pem", "/etc/ssl"] {
            assert!(stamp(path, true).unwrap().is_some(), "{path}");
        }
        let linked = ["/etc/linked", "/etc/linked/a.pem"];
        for path in ["/etc/certs/a.pem", "/etc/certs", "/srv/certs/a.pem"]
            .into_iter()
            .chain(linked)
        {
            assert!(stamp(path, false).unwrap().is_some(), "{path}");
            let failure = stamp(path, true).unwrap_err();
            assert!(failure.message.contains(path), "{failure}");
            assert!(failure.message.starts_with("root opens "), "{failure}");
        }
    }

    #[test]
    fn watched_directory_covers_its_direct_files() {
        let host = Sandbox::with_base_system();
        host.write("/etc/certs/a.pem", "a");
        host.write("/etc/certs/deeper/b.pem", "b");
        let all = || stamp(&host, "/etc/certs").unwrap().fingerprint;
        let first = all();
        host.write("/etc/certs/deeper/b.pem", "other");
        assert_eq!(all(), first, "what is deeper is not in it");
        host.write("/etc/certs/c.pem", "c");
        let second = all();
        assert_ne!(second, first);
        host.remove("/etc/certs/c.pem");
        assert_eq!(all(), first);
        host.write("/etc/certs/a.pem", "b");
        assert_ne!(all(), first);
    }

    #[test]
    fn missing_path_is_reported() {
        let host = Sandbox::with_base_system();
        host.write("/etc/a.pem", "a");
        let failure = stamp(&host, "/etc/a.pem, /etc/b.pem").unwrap_err();
        assert_eq!(failure.message, "there is no /etc/b.pem");
        assert!(failure.is(crate::resource::FailureKind::NotReady) && failure.hint.is_some());
        host.link("/etc/b.pem", "/etc/nowhere");
        let failure = stamp(&host, "/etc/b.pem").unwrap_err();
        assert_eq!(failure.message, "there is no /etc/b.pem");
    }
}
