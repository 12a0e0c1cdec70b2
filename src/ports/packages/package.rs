//! A package as the package manager knows it.

use super::family::PackageFamily;

/// A package known to the package manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    /// Unpacked and configured; `false` for a half-installed one.
    pub installed: bool,
    /// In rpm's database twice, because an upgrade was killed halfway.
    pub duplicated: bool,
    /// An operator holds its version (`apt-mark hold`).
    pub held: bool,
    /// Empty if dpkg knows none; of rpm `version-release`, with `epoch:` before it if it has one.
    pub version: String,
    pub(super) architecture: String,
    pub(super) family: PackageFamily,
}

impl Package {
    /// Installed, and the work of no package manager that was killed.
    pub(crate) fn is_intact(&self) -> bool {
        self.installed && !self.duplicated
    }

    /// Whether it has this version, or one with this prefix if `wanted` ends in `*`. On rpm, where most tools
    /// leave the epoch out, `wanted` may do so too, and may be a version without a release.
    pub(crate) fn has_version(&self, wanted: &str) -> bool {
        let matches = |version: &str| match wanted.strip_suffix('*') {
            Some(prefix) => version.starts_with(prefix),
            None => version == wanted,
        };
        if self.family == PackageFamily::Debian {
            return matches(&self.version);
        }
        let without_release = |version: &str| {
            let (version, _) = version.rsplit_once('-').unwrap_or((version, ""));
            version == wanted
        };
        let without_epoch = self.version.split_once(':').map(|(_, rest)| rest);
        let mut spellings = std::iter::once(self.version.as_str()).chain(without_epoch);
        spellings.any(|version| matches(version) || without_release(version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rpm_versions_match_without_epoch_or_release() {
        let package = |version: &str, family| Package {
            installed: true,
            duplicated: false,
            held: false,
            version: version.into(),
            architecture: "noarch".into(),
            family,
        };
        let rpm = package("1:1.24.0-3.el9", PackageFamily::RedHat);
        for right in [
            "1:1.24.0-3.el9",
            "1.24.0-3.el9",
            "1.24.0",
            "1:1.24.0",
            "1.24*",
            "1:1.2*",
        ] {
            assert!(rpm.has_version(right), "{right}");
        }
        for wrong in ["1.24", "24*", "2:1.24.0", "1.24.0-3", "1"] {
            assert!(!rpm.has_version(wrong), "{wrong}");
        }
        let deb = package("1:1.24.0-3", PackageFamily::Debian);
        assert!(deb.has_version("1:1.24.0-3") && deb.has_version("1:1.24*"));
        assert!(!deb.has_version("1.24.0-3") && !deb.has_version("1:1.24.0"));
    }
}
