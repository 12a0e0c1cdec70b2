//! What the host is, for templates: one probe per file, each cheap enough for every pass.

mod hardware;
mod network;
mod os;

use serde::Serialize;

use crate::ports::root::Root;

/// The facts, as templates see them under `facts`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Facts {
    pub os: os::Os,
    pub hostname: String,
    /// The full name where the host knows one, else the short one.
    pub fqdn: String,
    pub network: network::Network,
    /// How many processors trueup may use.
    pub cpus: usize,
    pub memory: hardware::Memory,
    /// Mounted filesystems, by mount point.
    pub disks: Vec<hardware::Disk>,
}

/// Looks at the host.
pub fn gather(root: &Root) -> Facts {
    let hostname = os::hostname();
    Facts {
        os: os::probe(root),
        fqdn: os::fqdn(root, &hostname),
        hostname,
        network: network::probe(),
        cpus: hardware::cpus(),
        memory: hardware::memory(),
        disks: hardware::disks(),
    }
}
