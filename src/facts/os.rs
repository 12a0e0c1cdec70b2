//! Operating system, kernel and name of the host.

use std::path::Path;

use serde::Serialize;

use super::known::known;
use crate::ports::packages::PackageFamily;
use crate::ports::root::Root;
use crate::ports::{machine, os_release};

/// From `/etc/os-release`; fields that it lacks are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Os {
    /// `debian`, `ubuntu`, …
    pub id: String,
    /// By package manager: `debian` (Debian, Ubuntu), `redhat` (Fedora, RHEL and its rebuilds, Amazon Linux).
    pub family: &'static str,
    /// `12`, `24.04`, …
    pub version: String,
    /// `bookworm`, `noble`, …
    pub codename: String,
    /// Display name.
    pub name: String,
    pub kernel: String,
    /// `x86_64`, `aarch64`.
    pub arch: &'static str,
}

pub(super) fn probe(root: &Root) -> Os {
    let text = os_release::read(root);
    let value = |key| os_release::value(&text, key).to_owned();
    Os {
        id: value("ID"),
        family: PackageFamily::detect(root).map_or("", PackageFamily::name),
        version: value("VERSION_ID"),
        codename: value("VERSION_CODENAME"),
        name: value("PRETTY_NAME"),
        kernel: known(machine::kernel_version()).unwrap_or_default(),
        arch: std::env::consts::ARCH,
    }
}

pub(super) fn hostname() -> String {
    let full = known(machine::hostname()).unwrap_or_default();
    full.split('.').next().unwrap_or_default().to_owned()
}

/// The first fully qualified name that `/etc/hosts` gives this host. Does not query the resolver: a dead name
/// server must not hold up a pass.
pub(super) fn fqdn(root: &Root, hostname: &str) -> String {
    let hosts = root
        .read(Path::new("/etc/hosts"), 1 << 20)
        .ok()
        .flatten()
        .unwrap_or_default();
    let hosts = String::from_utf8_lossy(&hosts);
    hosts
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .filter(|line| line.split_whitespace().skip(1).any(|name| name == hostname))
        .find_map(|line| {
            line.split_whitespace()
                .skip(1)
                .find(|name| name.contains('.'))
        })
        .unwrap_or(hostname)
        .to_owned()
}
