//! Files of packages that trueup replaces, and files that it replaced at another path earlier.

use std::path::{Path, PathBuf};

use crate::ports::Host;
use crate::resource::{Failure, FieldChange, FieldValue};

/// In the first lines of what the shipped templates write.
const MARK: &[u8] = b"Managed by trueup";

/// The mark is in the first line.
const MARKED_BYTES: usize = 200;

/// The largest file that may be one of trueup's own at another path, in bytes.
const MAX_FILE_BYTES: usize = 1 << 20;

pub(super) fn is_marked(body: &[u8]) -> bool {
    let start = &body[..body.len().min(MARKED_BYTES)];
    start.windows(MARK.len()).any(|part| part == MARK)
}

/// The package that has this file.
pub(super) fn package_of(path: &Path, host: &Host) -> Option<String> {
    host.packages.owner(&host.root, &host.exec, path)
}

/// Says whose file it is: operators have to know that the package's own configuration is gone.
pub(super) fn replacement_note(package: &str) -> FieldChange {
    let to = FieldValue::value("trueup replaces a file of this package");
    FieldChange::new("package", FieldValue::value(package), to)
}

/// What trueup wrote at an earlier path of a file.
pub(super) struct FormerFile {
    path: PathBuf,
    /// The package whose file was there before.
    package: Option<String>,
}

impl FormerFile {
    /// `None`: there is no file, or trueup did not write it.
    pub(super) fn find(path: &Path, host: &Host) -> Result<Option<FormerFile>, Failure> {
        let Some(body) = host.root.read(path, MAX_FILE_BYTES)? else {
            return Ok(None);
        };
        Ok(is_marked(&body).then(|| FormerFile {
            path: path.to_owned(),
            package: package_of(path, host),
        }))
    }

    pub(super) fn changes(&self) -> Vec<FieldChange> {
        let removal = FieldChange::new(
            "replaces",
            FieldValue::value(self.path.display()),
            FieldValue::Absent,
        );
        let lost = self.package.as_ref().map(|package| {
            let to = format!(
                "its own file at {} is gone, unless you install it again (`apt-get install --reinstall -o Dpkg::Options::=--force-confmiss {package}`, `dnf reinstall {package}`)",
                self.path.display()
            );
            FieldChange::new("package", FieldValue::value(package), FieldValue::Value(to))
        });
        std::iter::once(removal).chain(lost).collect()
    }

    pub(super) fn remove(&self, host: &Host) -> Result<(), Failure> {
        Ok(host.root.remove_file(&self.path)?)
    }
}

#[cfg(test)]
mod tests {
    use crate::kind::conformance::parse_resource;
    use crate::ports::testing::Sandbox;

    const OWN: &str = "# Managed by trueup: the next pass overwrites changes made here.\n";

    /// A host whose package nginx has a file.
    fn host() -> Sandbox {
        let sandbox = Sandbox::with_base_system();
        sandbox.write("/var/lib/dpkg/status", "");
        let list = "/etc\n/etc/logrotate.d/nginx\n";
        sandbox.write("/var/lib/dpkg/info/nginx.list", list);
        sandbox.write("/etc/logrotate.d/nginx", "/var/log/nginx/*.log {}\n");
        sandbox
    }

    /// The fields that a pass changes, `field: from`.
    fn converge(sandbox: &Sandbox, resource: &str) -> Vec<String> {
        let resource = parse_resource(resource).unwrap();
        let observed = resource.inspect(&sandbox.host).unwrap();
        let Some(change) = observed.change() else {
            return Vec::new();
        };
        observed.apply(&sandbox.host).unwrap();
        let fields = change.fields.iter();
        let fields = fields.filter(|change| change.field != "content");
        fields
            .map(|change| format!("{}: {:?}", change.field, change.from))
            .collect()
    }

    #[test]
    fn replaced_file_of_a_package_is_reported_with_its_package() {
        let sandbox = host();
        let role = "file: {path: /etc/logrotate.d/nginx, content: \"# Managed by trueup\\n\"}";
        assert_eq!(converge(&sandbox, role), ["package: Value(\"nginx\")"]);
        assert!(converge(&sandbox, role).is_empty());
        let other = role.replace("trueup", "trueup: next");
        assert!(converge(&sandbox, &other).is_empty(), "its own file");
        sandbox.write("/etc/shop.conf", "of nobody");
        let other = "file: {path: /etc/shop.conf, content: ours}";
        assert!(converge(&sandbox, other).is_empty());
    }

    #[test]
    fn file_at_its_earlier_path_goes_if_trueup_wrote_it() {
        let sandbox = host();
        let role = "template: {path: /etc/logrotate.d/trueup-nginx, source: a, replaces: /etc/logrotate.d/nginx}";
        let packaged = sandbox.read("/etc/logrotate.d/nginx");
        converge(&sandbox, role);
        assert_eq!(sandbox.read("/etc/logrotate.d/nginx"), packaged);
        sandbox.write("/etc/logrotate.d/nginx", OWN);
        let changed = converge(&sandbox, role);
        assert!(changed[0].contains("/etc/logrotate.d/nginx"), "{changed:?}");
        assert_eq!(changed[1], "package: Value(\"nginx\")");
        assert!(!sandbox.exists("/etc/logrotate.d/nginx"));
        assert!(converge(&sandbox, role).is_empty());
    }
}
