//! Whether packages are those of dpkg or of rpm.

use std::path::Path;

use crate::ports::os_release;
use crate::ports::root::Root;

pub(super) const DPKG_STATUS: &str = "/var/lib/dpkg/status";

/// Where the distributions keep rpm's database, in its formats.
const RPM_DATABASES: &[&str] = &[
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/Packages.db",
    "/var/lib/rpm/rpmdb.sqlite",
    "/var/lib/rpm/Packages.db",
    "/var/lib/rpm/Packages",
];

/// Which package manager a distribution has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PackageFamily {
    /// Debian, Ubuntu: dpkg and apt.
    Debian,
    /// Fedora, RHEL and its rebuilds, Amazon Linux: rpm and dnf.
    RedHat,
}

impl PackageFamily {
    /// The family that `/etc/os-release` names, else the one whose database the host has. The tools do not
    /// count: Debian ships `rpm`, and Fedora `dpkg`.
    pub(crate) fn detect(root: &Root) -> Option<PackageFamily> {
        Self::from_os_release(&os_release::read(root)).or_else(|| Self::from_database(root))
    }

    fn from_os_release(text: &str) -> Option<PackageFamily> {
        let id = os_release::value(text, "ID");
        let like = os_release::value(text, "ID_LIKE").split_whitespace();
        std::iter::once(id).chain(like).find_map(|id| match id {
            "debian" | "ubuntu" => Some(PackageFamily::Debian),
            "fedora" | "rhel" | "centos" | "amzn" => Some(PackageFamily::RedHat),
            _ => None,
        })
    }

    fn from_database(root: &Root) -> Option<PackageFamily> {
        let exists = |path: &str| matches!(root.meta(Path::new(path)), Ok(Some(_)));
        if exists(DPKG_STATUS) {
            return Some(PackageFamily::Debian);
        }
        let mut databases = RPM_DATABASES.iter();
        databases
            .any(|path| exists(path))
            .then_some(PackageFamily::RedHat)
    }

    /// As `facts.os.family` has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            PackageFamily::Debian => "debian",
            PackageFamily::RedHat => "redhat",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::testing::Sandbox;

    fn family_of(files: &[(&str, &str)]) -> Option<PackageFamily> {
        let sandbox = Sandbox::empty();
        for (path, text) in files {
            sandbox.write(path, text);
        }
        PackageFamily::detect(&sandbox.host.root)
    }

    #[test]
    fn distribution_decides_the_family_whatever_tools_are_installed() {
        let status = ("/var/lib/dpkg/status", "Package: dpkg\n");
        let rpmdb = ("/var/lib/rpm/rpmdb.sqlite", "");
        let release = |text| ("/etc/os-release", text);
        for (text, family) in [
            ("ID=debian\n", PackageFamily::Debian),
            (
                "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n",
                PackageFamily::Debian,
            ),
            ("ID=fedora\n", PackageFamily::RedHat),
            ("ID=\"amzn\"\nID_LIKE=\"fedora\"\n", PackageFamily::RedHat),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
                PackageFamily::RedHat,
            ),
        ] {
            let found = family_of(&[release(text), status, rpmdb]);
            assert_eq!(found, Some(family), "{text}");
        }
        let unknown = release("ID=ours\n");
        assert_eq!(family_of(&[unknown, status]), Some(PackageFamily::Debian));
        assert_eq!(family_of(&[unknown, rpmdb]), Some(PackageFamily::RedHat));
        assert_eq!(family_of(&[]), None);
    }
}
